#include "cpu/network/resample.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "cpu/network/level.h"

namespace facetalk::network {
namespace {

constexpr double kPassed = 0.913, kDecibels = 120.0;
constexpr int64_t kMostPhases = 1024;  // linear interpolation between so many errs by less than 1e-6

// Modified Bessel function of the first kind, order 0.
double bessel(double x) {
  double term = 1.0, sum = 1.0;
  for (int k = 1; term > 1e-17 * sum; ++k) {
    term *= (x / (2.0 * k)) * (x / (2.0 * k));
    sum += term;
  }
  return sum;
}

float dot(const float* a, const float* b, int64_t count) {
  float sums[16] = {};
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    for (int lane = 0; lane < 16; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  float sum = 0.0f;
  for (; i < count; ++i) sum += a[i] * b[i];
  for (const float lane : sums) sum += lane;
  return sum;
}

}  // namespace

Resampler::Resampler(int rate) : rate_(rate) {
  const int64_t common = std::gcd<int64_t>(rate, kSampleRate);
  up_ = kSampleRate / common;
  down_ = rate / common;
  interpolates_ = up_ > kMostPhases;
  phases_ = interpolates_ ? kMostPhases : up_;
  // Kaiser's formulas for the window's length and shape, for a transition up to the lower Nyquist frequency.
  const double band = std::min<double>(rate, kSampleRate) / rate;  // of the input's
  const double width = std::numbers::pi * band * (1.0 - kPassed);
  half_ = static_cast<int>(std::ceil((kDecibels - 7.95) / (2.285 * width) / 2.0)) + 1;
  const double beta = 0.1102 * (kDecibels - 8.7), cutoff = band * (1.0 + kPassed) / 2.0;
  const int taps = 2 * half_;
  filter_.resize(static_cast<size_t>((phases_ + 1) * taps));
  for (int64_t phase = 0; phase <= phases_; ++phase) {
    for (int tap = 0; tap < taps; ++tap) {
      // Distance of the tap's sample from the output, in input samples.
      const double t = tap - (half_ - 1) - static_cast<double>(phase) / static_cast<double>(phases_);
      const double angle = std::numbers::pi * cutoff * t, inside = 1.0 - (t / half_) * (t / half_);
      const double sinc = std::abs(angle) < 1e-9 ? 1.0 : std::sin(angle) / angle;
      const double window = inside > 0.0 ? bessel(beta * std::sqrt(inside)) / bessel(beta) : 0.0;
      filter_[static_cast<size_t>(phase * taps + tap)] = static_cast<float>(cutoff * sinc * window);
    }
  }
  input_.assign(static_cast<size_t>(half_), 0.0f);  // silence before the first sample
  input_start_ = -half_;
}

double Resampler::delay_s() const { return static_cast<double>(half_) / static_cast<double>(rate_); }

float Resampler::at(int64_t output) const {
  const int64_t place = output * down_, centre = place / up_, rest = place % up_;
  const int taps = 2 * half_;
  const float* from = input_.data() + (centre - (half_ - 1) - input_start_);
  if (!interpolates_) return dot(from, filter_.data() + rest * taps, taps);
  const double phase = static_cast<double>(rest) / static_cast<double>(up_) * static_cast<double>(phases_);
  const auto low = static_cast<int64_t>(phase);
  const auto part = static_cast<float>(phase - static_cast<double>(low));
  const float below = dot(from, filter_.data() + low * taps, taps);
  return below + part * (dot(from, filter_.data() + (low + 1) * taps, taps) - below);
}

void Resampler::advance(int64_t until, std::vector<float>& out) {
  for (; given_ < until; ++given_) out.push_back(at(given_));
  const int64_t keep = given_ * down_ / up_ - half_ - 1;
  if (keep - input_start_ > 4096) {
    input_.erase(input_.begin(), input_.begin() + (keep - input_start_));
    input_start_ = keep;
  }
}

void Resampler::push(const float* samples, int64_t count, std::vector<float>& out) {
  constexpr int64_t kPiece = 1 << 16;
  for (int64_t from = 0; from < count; from += kPiece) {
    const int64_t now = std::min(kPiece, count - from);
    input_.insert(input_.end(), samples + from, samples + from + now);
    heard_ += now;
    // Outputs whose last tap, at centre + half, was heard.
    const int64_t last = heard_ - 1 - half_;
    if (last >= 0) advance(((last + 1) * up_ + down_ - 1) / down_, out);
  }
}

void Resampler::finish(std::vector<float>& out) {
  const auto total = static_cast<int64_t>(
      std::floor(static_cast<double>(heard_) * kSampleRate / static_cast<double>(rate_) + 0.5));
  input_.insert(input_.end(), static_cast<size_t>(2 * half_ + 2), 0.0f);
  advance(total, out);
  // Sound of less than half a sample is silence of one, as facetalk/audio/load.py has it: a clip has a frame.
  if (heard_ > 0 && total == 0) out.push_back(0.0f);
}

}  // namespace facetalk::network
