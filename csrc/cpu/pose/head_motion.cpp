#include "cpu/pose/head_motion.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "cpu/network/noise.h"

namespace facetalk::pose {
namespace {

// As in facetalk/pose/generator.py; tests/native/test_native_pose.py changes each of them there and sees the difference.
constexpr double kAheadSeconds = 0.25;
constexpr Pose kLimits = {14.0, 16.0, 9.0, 12.0, 8.0, 16.0};
constexpr uint32_t kNoiseStep = 0x706F7365;
constexpr int kDraws = 12;
constexpr int64_t kKept = 512;
constexpr Pose kPosture = {3.8, 1.8, 1.7, 2.5, 1.0, 3.0};
constexpr Pose kDrift = {0.25, 0.3, 0.3, 0.4, 0.3, 0.5};
constexpr double kNod = 4.0;
constexpr Pose kSwing = {0.9, 1.2, 1.2, 1.2, 0.3, 1.0};
constexpr double kMelody = 1.0, kLoudness = 0.1;
constexpr double kShortestPulse = 0.24, kLongestPulse = 0.40;
constexpr double kRefractorySeconds = 0.32, kPhraseSeconds = 2.0, kPauseSeconds = 0.25;
constexpr double kRising = 1e-3;

// Share of normal numbers that are less.
double share_below(double normal) { return 0.5 * std::erfc(-normal / std::sqrt(2.0)); }

int64_t rounded(double value) { return static_cast<int64_t>(std::nearbyint(value)); }

// Of draws, the first of which are a posture's.
Pose place_of(const std::array<double, kDraws>& draws) {
  Pose place;
  for (size_t i = 0; i < place.size(); ++i) place[i] = kPosture[i] * std::clamp(draws[i], -1.6, 1.6);
  return place;
}

int64_t interval_of(double normal) { return rounded(kPhraseSeconds * std::exp(0.35 * normal) / kHopSeconds); }

}  // namespace

template <int Count>
Spring<Count>::Spring(double hertz, const Values& state) : place_(state) {
  const double omega = 2.0 * std::numbers::pi * hertz, decay = std::exp(-omega * kHopSeconds);
  a_ = (1.0 + omega * kHopSeconds) * decay;
  b_ = kHopSeconds * decay;
  c_ = -(omega * omega) * kHopSeconds * decay;
  d_ = (1.0 - omega * kHopSeconds) * decay;
}

template <int Count>
auto Spring<Count>::step(const Values& target) -> const Values& {
  for (size_t i = 0; i < place_.size(); ++i) {
    const double away = place_[i] - target[i];
    place_[i] = target[i] + a_ * away + b_ * speed_[i];
    speed_[i] = c_ * away + d_ * speed_[i];
  }
  return place_;
}

Heard::Event Heard::step(const Measurement& measured) {
  const double level = measured.level, pitch = measured.pitch;
  top_ = std::max({level, top_ - 3.0 * kHopSeconds, -60.0});
  const double voiced = level > top_ - 30.0 ? std::clamp((measured.periodic - 0.55) / 0.2, 0.0, 1.0) : 0.0;
  activity_ += (1.0 - activity_) * 0.12 * voiced - activity_ * 0.022 * (1.0 - voiced);
  const bool begins = voiced > 0.5 && silence_ > kPauseSeconds;
  silence_ = voiced > 0.5 ? 0.0 : silence_ + kHopSeconds;
  if (voiced > 0.5) {
    ++voiced_;
    const bool leap = std::abs(pitch - centre_) > 9.0;
    centre_ += (pitch - centre_) * std::max(leap ? 0.02 : 0.006, 1.0 / static_cast<double>(voiced_));
    if (!leap) deviation_ += (std::clamp(pitch - centre_, -6.0, 6.0) - deviation_) * 0.35;
    mean_ += (level - mean_) * (mean_ > top_ - 40.0 ? 0.01 : 1.0);
  } else {
    deviation_ *= 0.955;
  }
  melody_.step({deviation_});
  return {begins, accent(level, voiced)};
}

double Heard::accent(double level, double voiced) {
  const double loud = envelope_.step({std::max(level, top_ - 40.0)})[0];
  loud_ = std::clamp(loud - mean_, -8.0, 8.0);
  const bool rising = envelope_.speed()[0] > kRising;
  double prominence = 0.0;
  if (voiced > 0.5) held_ = std::max(held_ * 0.97, 0.5 * (loud - mean_) / 5.0 + 0.5 * deviation_ / 2.5);
  if (rising_ && !rising && silence_ < 0.1) {
    prominence = std::max(0.0, 0.6 + held_);
    held_ = 0.0;
  }
  rising_ = rising;
  return prominence;
}

HeadMotion::HeadMotion(double fps, uint64_t seed, double look_ahead_s, double amount)
    : fps_(fps),
      amount_(amount),
      // Frames that lie between two measurements need the later one too.
      ahead_(std::min(look_ahead_s, kAheadSeconds) - kHopSeconds),
      seed_(seed),
      habit_(0.0),
      target_(place_of(draw<kDraws>(kNoiseStep, 0))),
      posture_(0.7, target_),
      slow_(0.5, Pose{}),
      body_(2.6, target_) {
  const std::array<double, kDraws> draws = draw<kDraws>(kNoiseStep, 0);
  habit_ = std::copysign(0.35, draws[6]) * (1.0 + 0.3 * draws[7]);
  next_ = interval_of(draws[8]);
}

template <size_t Count>
std::array<double, Count> HeadMotion::draw(uint32_t kind, int64_t hop) const {
  float drawn[Count];
  network::frame_noise(seed_, kind, hop, hop + 1, static_cast<int>(Count), drawn);
  std::array<double, Count> out;
  std::copy_n(drawn, Count, out.begin());
  return out;
}

void HeadMotion::push(const float* samples, int64_t count, std::vector<float>& out) {
  constexpr int64_t kPiece = network::kSampleRate;  // bounds the memory of a large push
  for (int64_t from = 0; from < count; from += kPiece) {
    advance(samples + from, std::min(kPiece, count - from));
    if (hops_ == 0) continue;
    const double known = (static_cast<double>(hops_) * kHopSeconds - ahead_) * fps_ - 0.5 + 1e-6;
    give(static_cast<int64_t>(std::floor(known)) + 1, out);
  }
}

void HeadMotion::finish(int64_t frames, std::vector<float>& out) {
  const double end = (static_cast<double>(frames) - 0.5) / fps_ + ahead_;
  const double lack = end - static_cast<double>(hops_) * kHopSeconds;
  int64_t hops = std::max<int64_t>(0, static_cast<int64_t>(std::ceil(lack / kHopSeconds - 1e-6))) + 1;
  const float silence[kHop] = {};
  for (; hops > 0; --hops) advance(silence, kHop);
  give(frames, out);
}

void HeadMotion::advance(const float* samples, int64_t count) {
  rows_.clear();
  prosody_.push(samples, count, rows_);
  for (const Measurement& measured : rows_) {
    ++hops_;
    track_.push_back(step(measured));
  }
}

Pose HeadMotion::step(const Measurement& measured) {
  const Heard::Event event = heard_.step(measured);
  const double busy = gate_.step({heard_.activity()})[0];
  if (heard_.activity() > 0.3) --next_;
  if ((event.begins && hops_ - last_ > 50) || next_ <= 0) {
    const std::array<double, kDraws> draws = draw<kDraws>(kNoiseStep, hops_);
    const Pose place = place_of(draws);
    for (size_t i = 0; i < place.size(); ++i) target_[i] = 0.35 * target_[i] + 0.94 * place[i];
    next_ = interval_of(draws[6]);
  }
  if (event.prominence > 0.55 && static_cast<double>(hops_ - last_) > kRefractorySeconds / kHopSeconds) {
    last_ = hops_;
    accent(event.prominence);
  }
  const std::array<double, kPoseSize> kick = draw<kPoseSize>(kNoiseStep + 1, hops_);
  for (size_t i = 0; i < kick.size(); ++i)
    drift_[i] += -drift_[i] * (kHopSeconds / 1.5) + kick[i] * std::sqrt(2.0 * kHopSeconds / 1.5);
  const double still = 0.15 + 0.85 * std::min(1.0, busy);
  Pose target = posture_.step(target_);
  const Pose& eased = slow_.step(drift_);
  for (size_t i = 0; i < target.size(); ++i) target[i] += 2.0 * still * kDrift[i] * eased[i];
  double down = 0.0, aside = 0.0;
  stroke(down, aside);
  const double loud = kLoudness * heard_.loud() * busy;
  down -= kMelody * heard_.melody() + loud;
  const Pose moved = {down, aside, 0.4 * aside, 0.1 * aside, -0.15 * down, 0.3 * down + 5.0 * loud};
  for (size_t i = 0; i < target.size(); ++i) target[i] += moved[i];
  return body_.step(target);
}

void HeadMotion::accent(double prominence) {
  const std::array<double, kDraws> draws = draw<kDraws>(kNoiseStep, hops_);
  const double choice = share_below(draws[0]);
  const double length = kShortestPulse + (kLongestPulse - kShortestPulse) * share_below(draws[1]);
  const double size = kNod * std::min(1.5, 0.35 + 0.55 * prominence) * std::exp(0.25 * draws[2]);
  const double aside = size * habit_ * (0.6 + 0.4 * draws[3]);
  const int64_t count = rounded(length / kHopSeconds);
  if (choice < 0.60) {
    strokes_.push_back({hops_, count, size, aside});
    if (choice > 0.42)
      strokes_.push_back(
          {hops_ + rounded(0.8 * static_cast<double>(count)), count, -0.45 * size, -0.3 * aside});
  } else if (choice < 0.80) {
    for (size_t i = 0; i < target_.size(); ++i) target_[i] += kSwing[i] * draws[4 + i];
  }
}

// Adds pitch and yaw of the strokes that are under way, degrees.
void HeadMotion::stroke(double& down, double& aside) {
  for (const Stroke& one : strokes_) {
    const double share = static_cast<double>(hops_ - one.start) / static_cast<double>(one.count);
    if (share <= 0.0 || share >= 1.0) continue;
    const double bump = 0.5 - 0.5 * std::cos(2.0 * std::numbers::pi * share);
    down += one.down * bump;
    aside += one.aside * bump;
  }
  const auto over = [this](const Stroke& one) { return hops_ >= one.start + one.count; };
  strokes_.erase(std::remove_if(strokes_.begin(), strokes_.end(), over), strokes_.end());
}

// Appends the poses of the frames before number `count`, between measurements by straight lines.
void HeadMotion::give(int64_t count, std::vector<float>& out) {
  if (count <= done_) return;
  const auto moment = [this](int64_t frame) {  // in measurements
    return ((static_cast<double>(frame) + 0.5) / fps_ + ahead_) / kHopSeconds;
  };
  const auto known = static_cast<int64_t>(track_.size());
  for (; done_ < count; ++done_) {
    // Measurement k is of the moment (k + 1) kHopSeconds; before the first the head is where that has it.
    const double place = std::max(moment(done_) - 1.0 - static_cast<double>(first_), 0.0);
    const int64_t low = std::min(static_cast<int64_t>(std::floor(place + 1e-6)), known - 1);
    const double share = std::clamp(place - static_cast<double>(low), 0.0, 1.0);
    const Pose& from = track_[static_cast<size_t>(low)];
    const Pose& to = track_[static_cast<size_t>(std::min(low + 1, known - 1))];
    for (size_t i = 0; i < from.size(); ++i) {
      const double value = from[i] * (1.0 - share) + to[i] * share;
      const double held = kLimits[i] * std::tanh(amount_ * value / kLimits[i]);
      out.push_back(static_cast<float>(i < 3 ? held * (std::numbers::pi / 180.0) : held));
    }
  }
  // What later frames need: a measurement before the next frame, which may need more than is known.
  int64_t spare = static_cast<int64_t>(std::floor(moment(count))) - 3 - first_;
  spare = std::min(spare, known - 1);
  if (spare > kKept) {
    track_.erase(track_.begin(), track_.begin() + spare);
    first_ += spare;
  }
}

}  // namespace facetalk::pose
