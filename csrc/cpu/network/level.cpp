#include "cpu/network/level.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <numbers>

#include "cpu/network/kernels.h"

namespace facetalk::network {
namespace {

constexpr double kVoiced = 0.5;  // normalised autocorrelation above which a frame is voiced
constexpr int kStep = 5;         // measurements from one point of the curve to the next
constexpr double kKeepDecibels = 6.0, kFollowDecibels = 10.0;

}  // namespace

HighPass::HighPass(double hertz) {
  // Poles of the analogue prototype through the bilinear transform, frequencies prewarped; zeros at 1.
  const double warped = std::tan(std::numbers::pi * hertz / kSampleRate);
  for (int s = 0; s < 2; ++s) {
    const std::complex<double> prototype = std::polar(1.0, std::numbers::pi * (5 + 2 * s) / 8.0);
    const std::complex<double> analogue = warped / prototype;
    const std::complex<double> pole = (1.0 + analogue) / (1.0 - analogue);
    Section& section = sections_[s];
    section.a[0] = -2.0 * pole.real();
    section.a[1] = std::norm(pole);
    const double gain = (1.0 - section.a[0] + section.a[1]) / 4.0;  // 1 at half the sampling rate
    section.b[0] = gain;
    section.b[1] = -2.0 * gain;
    section.b[2] = gain;
  }
}

double HighPass::next(double sample) {
  if (!started_) {
    // A constant gives nothing after the first section, so only that one has a state to start from.
    started_ = true;
    sections_[0].state[0] = -sections_[0].b[0] * sample;
    sections_[0].state[1] = sections_[0].b[2] * sample;
  }
  for (Section& section : sections_) {
    const double out = section.b[0] * sample + section.state[0];
    section.state[0] = section.b[1] * sample - section.a[0] * out + section.state[1];
    section.state[1] = section.b[2] * sample - section.a[1] * out;
    sample = out;
  }
  return sample;
}

Measure measure(const double* sound) {
  constexpr int kLags = kLongestPeriod + 1;
  double padded[kLevelFrame + kLags + 32] = {};
  double sums[kLags + 32];
  std::copy(sound, sound + kLevelFrame, padded);
  network_kernels().autocorrelation(padded, kLevelFrame, kLags, sums);
  const double power = sums[0] / kLevelFrame;
  double best = -INFINITY;
  for (int lag = kShortestPeriod; lag < kLags; ++lag) {
    // Fewer products at longer lags are made up for, or deep voices would lose.
    best = std::max(best, sums[lag] * (static_cast<double>(kLevelFrame) / (kLevelFrame - lag)));
  }
  Measure out;
  out.decibels = static_cast<float>(10.0 * std::log10(power + 1e-12));
  out.voiced = best > kVoiced * sums[0] && power > 1e-11;
  return out;
}

float quantile(std::vector<float>& values, double q) {
  const double at = q * static_cast<double>(values.size() - 1);
  const auto low = static_cast<std::ptrdiff_t>(at);
  std::nth_element(values.begin(), values.begin() + low, values.end());
  const float below = values[static_cast<size_t>(low)];
  if (low + 1 >= static_cast<std::ptrdiff_t>(values.size())) return below;
  const float above = *std::min_element(values.begin() + low + 1, values.end());
  return static_cast<float>(below + (at - static_cast<double>(low)) * (static_cast<double>(above) - below));
}

double blend_levels(double whole, double local) {
  const double away = local - whole;
  const double part =
      std::clamp((std::abs(away) - kKeepDecibels) / (kFollowDecibels - kKeepDecibels), 0.0, 1.0);
  return whole + away * part * part * (3.0 - 2.0 * part);
}

void Level::update(const float* samples, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const double sample = samples[i];
    const double above = above_.next(sample);
    total_ += sample;
    squares_ += sample * sample;
    squares_above_ += above * above;
    waiting_.push_back(band_.next(sample));
  }
  count_ += count;
  size_t used = 0;
  for (; waiting_.size() - used >= kLevelFrame; used += kLevelHop) {
    const Measure found = measure(waiting_.data() + used);
    decibels_.push_back(found.decibels);
    voiced_.push_back(found.voiced);
  }
  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(used));
}

double Level::mean() const { return total_ / static_cast<double>(std::max<int64_t>(count_, 1)); }

double Level::variance() const {
  return std::max(0.0, squares_ / static_cast<double>(std::max<int64_t>(count_, 1)) - mean() * mean());
}

bool Level::rumbles() const {
  return variance() > kRumbles * (squares_above_ / static_cast<double>(std::max<int64_t>(count_, 1)));
}

std::vector<double> Level::curve(double floor) const {
  const double power =
      rumbles() ? squares_above_ / static_cast<double>(std::max<int64_t>(count_, 1)) : variance();
  const double whole = 10.0 * std::log10(std::max(power, 1e-12));
  const double lowest = 10.0 * std::log10(std::max(floor, 1e-12));
  const auto frames = static_cast<int64_t>(decibels_.size());
  if (frames == 0) return {std::max(whole, lowest)};
  const int64_t points = (frames + kStep - 1) / kStep;
  std::vector<float> values;
  for (size_t i = 0; i < decibels_.size(); ++i) {
    if (voiced_[i]) values.push_back(decibels_[i]);
  }
  const float loudest = values.size() >= kEnoughVoiced ? quantile(values, 0.9) : -INFINITY;
  const auto is_speech = [&](int64_t i) {
    return voiced_[static_cast<size_t>(i)] != 0 &&
           decibels_[static_cast<size_t>(i)] > loudest - kRangeDecibels;
  };
  values.clear();
  for (int64_t i = 0; i < frames; ++i) {
    if (is_speech(i)) values.push_back(decibels_[static_cast<size_t>(i)]);
  }
  const double spread = values.empty() ? 0.0
                                       : static_cast<double>(quantile(values, 0.9)) -
                                             static_cast<double>(quantile(values, 0.1));
  std::vector<std::pair<int64_t, double>> known;  // point, level around it
  for (int64_t point = 0; point < points; ++point) {
    values.clear();
    const int64_t first = std::max<int64_t>(0, point * kStep - kLevelReach);
    const int64_t last = std::min(frames, point * kStep + kLevelReach + 1);
    for (int64_t i = first; i < last; ++i) {
      if (is_speech(i)) values.push_back(decibels_[static_cast<size_t>(i)]);
    }
    if (values.size() >= kEnoughVoiced) known.emplace_back(point, quantile(values, 0.5));
  }
  std::vector<double> out(static_cast<size_t>(points), std::max(whole, lowest));
  if (known.empty() || spread < kSpreadDecibels) return out;
  size_t next = 0;  // first known point at or after
  for (int64_t point = 0; point < points; ++point) {
    while (next < known.size() && known[next].first < point) ++next;
    double local;
    if (next == known.size()) {
      local = known.back().second;
    } else if (next == 0 || known[next].first == point) {
      local = known[next].second;
    } else {
      const auto& [left, low] = known[next - 1];
      const auto& [right, high] = known[next];
      local = low + (high - low) * static_cast<double>(point - left) / static_cast<double>(right - left);
    }
    out[static_cast<size_t>(point)] = blend_levels(whole, local);
  }
  return out;
}

void scale_by(const std::vector<double>& points, int64_t first, int64_t last, float* out) {
  const auto factor = [](double decibels) {
    return 1.0 / std::sqrt(std::pow(10.0, decibels / 10.0) + kScaleFloor);
  };
  const double end = static_cast<double>(points.size() - 1);
  double known_level = NAN, known_factor = 0.0;  // most curves are flat in most places
  for (int64_t sample = first; sample < last; ++sample) {
    const double at =
        std::clamp((static_cast<double>(sample) - kLevelFrame / 2) / (kLevelHop * kStep), 0.0, end);
    const auto low = std::min(static_cast<size_t>(at), points.size() - 1);
    const size_t high = std::min(low + 1, points.size() - 1);
    const double level = points[low] + (points[high] - points[low]) * (at - static_cast<double>(low));
    if (level != known_level) {
      known_level = level;
      known_factor = factor(level);
    }
    *out++ = static_cast<float>(known_factor);
  }
}

}  // namespace facetalk::network
