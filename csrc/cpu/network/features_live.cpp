#include <algorithm>
#include <cmath>

#include "core/status.h"
#include "cpu/network/features.h"

namespace facetalk::network {
namespace {

// facetalk/audio/live.py has the reasons for these.
constexpr double kMemorySeconds = 30.0;  // in which the variance forgets
constexpr double kPriorSeconds = 1.0;    // of sound that is taken to have been heard before the first
constexpr double kPriorPower = 0.0031622776601683794;  // its power, -25 dB: speech at a usual gain
constexpr int64_t kRing = 3000;                        // measurements that are kept, one minute

double decibels_of(double power) { return 10.0 * std::log10(std::max(power, 1e-12)); }

}  // namespace

RunningLevel::RunningLevel(double floor)
    : floor_(floor),
      count_(kPriorSeconds * kSampleRate),
      squares_(count_ * kPriorPower),
      squares_above_(squares_),
      before_{decibels_of(kPriorPower), 0.0, 0.0} {
  decibels_.resize(kRing);
  voiced_.resize(kRing);
}

RunningLevel::State RunningLevel::measure_hop(const float* samples, double* above) {
  double total = 0.0, squares = 0.0, squares_above = 0.0;
  for (int i = 0; i < kLevelHop; ++i) {
    const double sample = samples[i];
    above[i] = above_.next(sample);
    total += sample;
    squares += sample * sample;
    squares_above += above[i] * above[i];
    waiting_.push_back(band_.next(sample));
  }
  const double keep = std::exp(-static_cast<double>(kLevelHop) / kSampleRate / kMemorySeconds);
  count_ = count_ * keep + kLevelHop;
  total_ = total_ * keep + total;
  squares_ = squares_ * keep + squares;
  squares_above_ = squares_above_ * keep + squares_above;
  if (waiting_.size() >= kLevelFrame) {
    const Measure found = measure(waiting_.data());
    decibels_[static_cast<size_t>(measured_ % kRing)] = found.decibels;
    voiced_[static_cast<size_t>(measured_ % kRing)] = found.voiced;
    ++measured_;
    waiting_.erase(waiting_.begin(), waiting_.begin() + kLevelHop);
  }
  const double mean = total_ / count_, variance = std::max(0.0, squares_ / count_ - mean * mean);
  const double power_above = squares_above_ / count_;
  const bool rumbles = variance > kRumbles * power_above;
  return {local_level(decibels_of(rumbles ? power_above : variance)), mean, rumbles ? 1.0 : 0.0};
}

double RunningLevel::local_level(double whole) {
  const int64_t first = std::max<int64_t>(0, measured_ - kRing);
  values_.clear();
  for (int64_t i = first; i < measured_; ++i) {
    if (voiced_[static_cast<size_t>(i % kRing)]) values_.push_back(decibels_[static_cast<size_t>(i % kRing)]);
  }
  const double loudest = values_.size() >= kEnoughVoiced ? quantile(values_, 0.9) : -INFINITY;
  values_.clear();
  size_t old = 0;  // speech before the last second
  for (int64_t i = first; i < measured_; ++i) {
    const float decibels = decibels_[static_cast<size_t>(i % kRing)];
    if (!voiced_[static_cast<size_t>(i % kRing)] || !(decibels > loudest - kRangeDecibels)) continue;
    if (i < measured_ - kLevelReach) ++old;
    values_.push_back(decibels);
  }
  if (values_.size() - old >= kEnoughVoiced) {
    std::vector<float> recent(values_.begin() + static_cast<std::ptrdiff_t>(old), values_.end());
    local_ = quantile(recent, 0.5);
    known_ = true;
  }
  const double spread = values_.empty() ? 0.0
                                        : static_cast<double>(quantile(values_, 0.9)) -
                                              static_cast<double>(quantile(values_, 0.1));
  return known_ && spread >= kSpreadDecibels ? blend_levels(whole, local_)
                                             : std::max(whole, decibels_of(floor_));
}

void RunningLevel::normalise(const float* samples, float* out) {
  double above[kLevelHop];
  const State after = measure_hop(samples, above);
  for (int i = 0; i < kLevelHop; ++i) {
    const double part = (i + 1.0) / kLevelHop;
    const double decibels = before_.decibels + (after.decibels - before_.decibels) * part;
    const double mean = before_.mean + (after.mean - before_.mean) * part;
    const double rumble = before_.rumble + (after.rumble - before_.rumble) * part;
    const double sound = rumble * above[i] + (1.0 - rumble) * (static_cast<double>(samples[i]) - mean);
    out[i] = static_cast<float>(sound / std::sqrt(std::pow(10.0, decibels / 10.0) + kScaleFloor));
  }
  before_ = after;
}

int64_t samples_until(int64_t frame, double fps, double look_ahead_s) {
  const double moment = ((static_cast<double>(frame) + 0.5) / fps + look_ahead_s) * kSampleRate;
  return static_cast<int64_t>(std::ceil(moment - 1e-6));  // rounding adds no sample
}

bool is_due(int64_t frame, int64_t heard, double fps, double look_ahead_s) {
  return samples_until(frame, fps, look_ahead_s) <= heard && frame < frame_count(heard, fps);
}

void LiveSound::push(const float* samples, int64_t count) {
  heard_ += count;
  pending_.insert(pending_.end(), samples, samples + count);
  size_t used = 0;
  for (; pending_.size() - used >= kLevelHop; used += kLevelHop) {
    sound_.resize(sound_.size() + kLevelHop);
    float* out = sound_.data() + sound_.size() - kLevelHop;
    if (normalises_) {
      level_.normalise(pending_.data() + used, out);
    } else {
      std::copy_n(pending_.data() + used, kLevelHop, out);
    }
  }
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(used));
}

void LiveSound::fill_hop() {
  if (pending_.empty()) return;
  const std::vector<float> silence(static_cast<size_t>(kLevelHop) - pending_.size(), 0.0f);
  push(silence.data(), static_cast<int64_t>(silence.size()));
}

void LiveSound::copy(int64_t low, int64_t high, float* out) const {
  std::fill_n(out, high - low, 0.0f);
  const int64_t a = std::max(low, start_), b = std::min(high, ready());
  if (b > a) std::copy(sound_.begin() + (a - start_), sound_.begin() + (b - start_), out + (a - low));
}

void LiveSound::forget(int64_t before) {
  const int64_t gone = std::min(before, ready()) - start_;
  if (gone <= 0) return;
  sound_.erase(sound_.begin(), sound_.begin() + gone);
  start_ += gone;
}

LiveFeatures::LiveFeatures(const Wav2Vec2& encoder, double fps, double look_ahead_s)
    : encoder_(encoder),
      fps_(fps),
      look_ahead_s_(look_ahead_s),
      span_(encoder.span(fps)),
      past_(encoder.past(fps)),
      sound_(encoder.normalises(), encoder.floor()) {
  if (span_ < 0 || !encoder.extracts_locally())
    throw Unsupported(
        "this model's audio encoder attends to, or normalises over, the whole recording, so it cannot hear "
        "live; let it hear the whole recording, or take a model whose encoder has attention_span_s and "
        "feat_extract_norm 'layer'");
}

// Frames of the extractor whose samples are all among the first `samples`.
int64_t LiveFeatures::complete(int64_t samples) const {
  const int64_t room = samples + encoder_.margin() - encoder_.field();
  return room < 0 ? 0 : room / encoder_.stride() + 1;
}

// Samples from `samples` on are taken for silence.
void LiveFeatures::extract_until(int64_t frames, int64_t samples) {
  const int64_t stride = encoder_.stride(), width = encoder_.extracted_width();
  // A bounded number at a time, so that a large push does not take more memory.
  while (extracted_count_ < frames) {
    const int64_t count = std::min<int64_t>(frames - extracted_count_, 200);
    const int64_t low = extracted_count_ * stride - encoder_.margin();
    const int64_t high = low + (count - 1) * stride + encoder_.field();
    std::vector<float> part(static_cast<size_t>(high - low), 0.0f);
    sound_.copy(low, std::max(low, std::min(high, samples)), part.data());
    const float* found = encoder_.extract(part.data(), high - low, scratch_);
    extracted_.insert(extracted_.end(), found, found + count * width);
    extracted_count_ += count;
  }
  sound_.forget(extracted_count_ * stride - encoder_.margin());
}

// Of a motion frame among those of the extractor.
double LiveFeatures::position(int64_t frame) const {
  const double stride = encoder_.stride();
  return ((static_cast<double>(frame) + 0.5) / fps_ * kSampleRate - stride / 2) / stride;
}

// Frames `first` to `last`, seeing motion frames up to `edge` (not included) and the first `extracted` of the
// extractor.
void LiveFeatures::give(int64_t first, int64_t last, int64_t edge, int64_t extracted,
                        const TakeFeatures& take) {
  const int64_t begin = std::max<int64_t>(0, first - past_);
  const int64_t base = std::max<int64_t>(extracted_start_, static_cast<int64_t>(position(begin)));
  std::vector<float> positions;
  for (int64_t i = begin; i < edge; ++i)
    positions.push_back(static_cast<float>(position(i) - static_cast<double>(base)));
  const int64_t width = encoder_.extracted_width();
  take(encoder_.encode(extracted_.data() + (base - extracted_start_) * width,
                       std::max<int64_t>(extracted - base, 1), positions, span_, first - begin, last - begin,
                       scratch_),
       last - first);
  done_ = last;
  // What later frames do not look at.
  const int64_t keep = static_cast<int64_t>(std::max(0.0, position(std::max<int64_t>(0, done_ - past_))));
  if (keep - extracted_start_ > 256) {
    extracted_.erase(extracted_.begin(), extracted_.begin() + (keep - extracted_start_) * width);
    extracted_start_ = keep;
  }
}

void LiveFeatures::push(const float* samples, int64_t count, const TakeFeatures& take) {
  constexpr int64_t kPiece = 10 * kSampleRate;  // bounds the memory of a large push
  for (int64_t from = 0; from < count; from += kPiece) {
    sound_.push(samples + from, std::min(kPiece, count - from));
    while (is_due(done_, sound_.heard(), fps_, look_ahead_s_)) {
      const int64_t known = samples_until(done_, fps_, look_ahead_s_) / kLevelHop * kLevelHop;
      const int64_t frames = std::max<int64_t>(complete(known), 1);
      // All that is complete at once; frames are the same however many are made together.
      extract_until(frames, known);
      extract_until(complete(sound_.ready()), INT64_MAX);
      const double seconds = (static_cast<double>(frames) - 0.5) * encoder_.stride() / kSampleRate;
      const auto edge = static_cast<int64_t>(std::floor(seconds * fps_ - 0.5 + 1e-9)) + 1;
      give(done_, done_ + 1, std::max(edge, done_ + 1), frames, take);
    }
  }
}

void LiveFeatures::finish(const TakeFeatures& take) {
  const int64_t total = sound_.heard();
  const int64_t frames = total == 0 ? 0 : frame_count(total, fps_);
  if (frames <= done_) return;
  sound_.fill_hop();
  const int64_t extracted = (total + encoder_.stride() - 1) / encoder_.stride();
  extract_until(extracted, total);
  give(done_, frames, frames, extracted, take);
}

}  // namespace facetalk::network
