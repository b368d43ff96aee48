#include "cpu/network/style.h"

#include <algorithm>
#include <cmath>

#include "core/status.h"
#include "cpu/network/noise.h"

namespace facetalk::network {
namespace {

// Numbers of facetalk/style.py, which has the reasons, and of `blink` in facetalk/data/visemes.json;
// tests/native/test_native_style.py holds them together.
constexpr double kBegins = 0.2, kFlutter = 0.06, kRest = 0.25;
constexpr uint32_t kNoiseStep = 0x626C696E;
constexpr double kShallowest = 0.5;                   // of a blink that is put in
constexpr double kShortestGap = 0.3, kMoreGap = 0.9;  // seconds before it, and by chance beyond them
constexpr double kClose[] = {0.06, 0.1}, kHold[] = {0.01, 0.05}, kOpen[] = {0.13, 0.22};  // seconds
constexpr double kOpenRate = 3.5, kLeast = 0.02;  // opening falls by exp(-3.5), and ends at this weight
constexpr float kLidFollows = 0.35f;

struct Part {
  const char* beginning;  // of the names of curves
  double weight;
};
constexpr Part kSmile[] = {{"mouthSmile", 0.42}, {"mouthStretch", 0.2}, {"cheekSquint", 0.22}};
constexpr Part kFrown[] = {{"mouthFrown", 0.45}, {"cheekSquint", 0.14}};
constexpr const char* kExpressive[] = {"brow",        "eyeWide",    "eyeSquint",
                                       "cheekSquint", "mouthSmile", "mouthFrown"};

constexpr const char* kJaw[] = {"jawOpen", "jawForward"};
constexpr const char* kLips[] = {"mouthFunnel", "mouthPucker",    "mouthStretch", "mouthSmile",
                                 "mouthDimple", "mouthLowerDown", "mouthUpperUp", "mouthShrug"};
// The lips' gap in facetalk/data/visemes.json, mm: of a face at rest, and what each weight adds, but for mouthClose.
constexpr float kRestGap = 0.8f, kLeastGap = 0.2f, kAtTeethRoll = 0.33f;
constexpr Part kGap[] = {{"cheekPuff", -0.05},     {"jawOpen", 28.92},         {"mouthDimple", -0.79},
                         {"mouthFrown", -0.12},    {"mouthFunnel", 10.83},     {"mouthLowerDown", 2.91},
                         {"mouthPress", -1.09},    {"mouthPucker", -1.29},     {"mouthRollLower", -2.46},
                         {"mouthRollUpper", 1.58}, {"mouthShrugLower", -6.39}, {"mouthShrugUpper", 4.56},
                         {"mouthSmile", -0.09},    {"mouthStretch", -0.18},    {"mouthUpperUp", 3.5}};

// Sides are at the end of names, so that it is all the same whether they are ARKit's.
std::vector<size_t> columns_of(const std::vector<std::string>& names, const char* beginning) {
  std::vector<size_t> columns;
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i].rfind(beginning, 0) == 0) columns.push_back(i);
  }
  return columns;
}

// In float32 and in order, so that what is compared with a threshold is Python's number to the bit.
float mean(const float* frame, const std::vector<size_t>& columns) {
  if (columns.empty()) return 0.0f;
  float sum = 0.0f;
  for (const size_t column : columns) sum += frame[column];
  return sum / static_cast<float>(columns.size());
}

double between(const double (&range)[2], double share) { return range[0] + (range[1] - range[0]) * share; }

}  // namespace

Blinks::Blinks(double rate, double fps, uint64_t seed, std::vector<size_t> lids)
    : rate_(rate), fps_(fps), seed_(seed), lids_(std::move(lids)) {
  // As long as one can be: frames that are pulled need no memory.
  shape_.reserve(static_cast<size_t>(std::ceil((kClose[1] + kHold[1] + 2.0 * kOpen[1]) * fps)) + 1);
}

void Blinks::step(float* frame, double follow) {
  const float closed = mean(frame, lids_);
  const double beyond = static_cast<double>(closed) - follow;
  if (beyond > kBegins && !under_way_) {
    under_way_ = true;
    // One that would come while another is under way waits its turn.
    kept_ = !is_shown() && draw()[0] < rate_;
    pending_ += is_shown();
    deepest_ = 0.0;
  } else if (beyond <= kBegins && under_way_) {
    under_way_ = false;
    if (kept_) {
      depth_ = std::min(1.0, std::max(kShallowest, deepest_));
      since_ = 0.0;
      more();
    }
  }
  deepest_ = std::max(deepest_, static_cast<double>(closed));
  since_ += 1.0 / fps_;
  if (!under_way_) wait_ -= 1.0 / fps_;
  if (rate_ == 0.0 || (under_way_ && !kept_)) {
    const auto most = static_cast<float>(follow + (rate_ == 0.0 ? kFlutter : kBegins));
    for (const size_t lid : lids_) frame[lid] = std::min(frame[lid], most);
  }
  if (pending_ > 0 && !is_shown() && wait_ <= 0.0 && !under_way_ && since_ >= kRest) begin();
  if (is_shown()) {
    const float least = shape_[shown_++];
    for (const size_t lid : lids_) frame[lid] = std::max(frame[lid], least);
    if (!is_shown()) {
      since_ = 0.0;
      wait_ = kShortestGap + kMoreGap * draw()[1];
    }
  }
  ++frame_;
}

// After a blink of the model's: how many shall follow before its next.
void Blinks::more() {
  const std::array<double, 6> draws = draw();
  const double extra = std::max(0.0, rate_ - 1.0);
  const int64_t count = static_cast<int64_t>(extra) + (draws[2] < extra - std::floor(extra));
  if (count > 0 && pending_ == 0) wait_ = kShortestGap + kMoreGap * draws[1];
  pending_ += count;
}

// A blink as people's are, as deep as the model's last.
void Blinks::begin() {
  --pending_;
  const std::array<double, 6> draws = draw();
  const double close = between(kClose, draws[3]), hold = between(kHold, draws[4]),
               opening = between(kOpen, draws[5]);
  // A frame sees it shut, whatever the rate.
  const double first = std::fmod(close, 1.0 / fps_);
  const auto frames = static_cast<int64_t>(std::ceil((close + hold + 2.0 * opening) * fps_));
  shape_.clear();
  shown_ = 0;
  for (int64_t i = 0; i < frames; ++i) {
    const double time = first + static_cast<double>(i) / fps_;
    const double rise = std::clamp(time / close, 0.0, 1.0);
    const double fall = std::exp(-std::max(time - close - hold, 0.0) * kOpenRate / opening);
    const double weight = depth_ * rise * rise * (3.0 - 2.0 * rise) * fall;
    if (weight > kLeast) shape_.push_back(static_cast<float>(weight));
  }
}

// Six numbers in 0..1 that belong to this frame.
std::array<double, 6> Blinks::draw() const {
  float normal[6];
  frame_noise(seed_, kNoiseStep, frame_, frame_ + 1, 6, normal);
  std::array<double, 6> draws;
  for (size_t i = 0; i < draws.size(); ++i)
    draws[i] = 0.5 * std::erfc(-static_cast<double>(normal[i]) / std::sqrt(2.0));
  return draws;
}

Articulation::Articulation(double jaw, double lips, const std::vector<std::string>& names)
    : jaw_(static_cast<float>(jaw - 1.0)),
      lips_(static_cast<float>(lips - 1.0)),
      close_(columns_of(names, "mouthClose")),
      rolled_(columns_of(names, "mouthRollLower")) {
  const auto append = [&](std::vector<size_t>& to, const char* beginning) {
    const std::vector<size_t> columns = columns_of(names, beginning);
    to.insert(to.end(), columns.begin(), columns.end());
  };
  for (const char* beginning : kJaw) append(jaws_, beginning);
  for (const char* beginning : kLips) append(lip_columns_, beginning);
  for (const Part& part : kGap) {
    for (const size_t column : columns_of(names, part.beginning))
      slopes_.emplace_back(column, static_cast<float>(part.weight));
  }
}

float Articulation::gap(const float* frame) const {
  float sum = kRestGap;
  for (const auto& [column, slope] : slopes_) sum += frame[column] * slope;
  return std::max(sum, kLeastGap);
}

void Articulation::apply(float* frame) const {
  const float before = gap(frame);
  float rolled = 0.0f;
  for (const size_t column : rolled_) rolled = std::max(rolled, frame[column]);
  const float free = 1.0f - std::clamp(rolled / kAtTeethRoll, 0.0f, 1.0f);
  for (const size_t column : jaws_) frame[column] *= 1.0f + jaw_ * free;
  for (const size_t column : lip_columns_) frame[column] *= 1.0f + lips_ * free;
  // What closes lips goes with what there is to close.
  const float share = gap(frame) / before;
  for (const size_t column : close_) frame[column] *= share;
}

StyleFilter::StyleFilter(const Sliders& sliders, const std::vector<std::string>& names, double fps,
                         uint64_t seed)
    : width_(names.size()),
      lids_(columns_of(names, "eyeBlink")),
      down_(columns_of(names, "eyeLookDown")),
      steadiness_(static_cast<float>(sliders.gaze_steadiness)) {
  const Sliders still;
  const auto need = [&](const char* slider, bool is_moved, const char* beginning) {
    if (is_moved && columns_of(names, beginning).empty())
      throw Unsupported(
          std::string(slider) + " works on curves named " + beginning +
          "*, which this model does not have; use a model of named curves, like the built-in one");
  };
  need("intensity", sliders.intensity != still.intensity, "brow");
  need("smile", sliders.smile > still.smile, "mouthSmile");
  need("smile", sliders.smile < still.smile, "mouthFrown");
  need("brow_activity", sliders.brow_activity != still.brow_activity, "brow");
  need("blink_rate", sliders.blink_rate != still.blink_rate, "eyeBlink");
  need("gaze_steadiness", sliders.gaze_steadiness != still.gaze_steadiness, "eyeLook");
  need("jaw", sliders.jaw != still.jaw, "jawOpen");
  need("lips", sliders.lips != still.lips, "mouthFunnel");
  if (sliders.jaw != still.jaw || sliders.lips != still.lips)
    articulation_.emplace(sliders.jaw, sliders.lips, names);
  if (sliders.blink_rate != still.blink_rate) blinks_.emplace(sliders.blink_rate, fps, seed, lids_);
  const auto list = [&](Columns& to, const char* beginning, double value) {
    for (const size_t column : columns_of(names, beginning))
      to.emplace_back(column, static_cast<float>(value));
  };
  list(factors_, "eyeLook", 1.0 - sliders.gaze_steadiness);
  for (const char* beginning : kExpressive) list(factors_, beginning, sliders.intensity);
  list(factors_, "brow", sliders.brow_activity);
  const auto add = [&](const auto& parts) {
    for (const Part& part : parts) list(added_, part.beginning, part.weight * std::abs(sliders.smile));
  };
  if (sliders.smile > 0.0) add(kSmile);
  if (sliders.smile < 0.0) add(kFrown);
}

void StyleFilter::apply(float* curves, int64_t frames) {
  for (float* frame = curves; frames > 0; --frames, frame += width_) {
    if (articulation_) articulation_->apply(frame);
    const float follow = kLidFollows * mean(frame, down_);
    if (blinks_) blinks_->step(frame, static_cast<double>(follow));
    for (const auto& [column, factor] : factors_) frame[column] *= factor;
    // A lid that went down with the gaze does not stay there.
    for (const size_t lid : lids_) frame[lid] -= steadiness_ * follow;
    for (const auto& [column, more] : added_) frame[column] += more;
    for (size_t i = 0; i < width_; ++i) frame[i] = std::clamp(frame[i], 0.0f, 1.0f);
  }
}

}  // namespace facetalk::network
