#include "cpu/pose/prosody.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace facetalk::pose {
namespace {

constexpr int kFrame = network::kLevelFrame, kHalf = kFrame / 2;  // samples of a measurement
constexpr int kSize = 2 * kFrame;  // of the Fourier transform: twice, or lags would go around
constexpr double kHighestHertz = 900.0;
constexpr double kOctave = 0.9;
// A lag on each side of those that are looked for, to see which of them are peaks.
constexpr int kFirstLag = network::kShortestPeriod - 1, kLags = network::kLongestPeriod + 1 - kFirstLag + 1;

constexpr int count_lines() {
  int count = 0;
  while (count * static_cast<double>(network::kSampleRate) / kSize < kHighestHertz) ++count;
  return count;
}
constexpr int kLines = count_lines();
static_assert(kLines % 4 == 0 && kHalf % 4 == 0);  // sums below take four at a time

// cos(2 pi turns / (2 kSize)), for tables whose angles are whole numbers of such turns.
std::vector<double> circle() {
  std::vector<double> values(2 * kSize);
  for (int i = 0; i < 2 * kSize; ++i) values[static_cast<size_t>(i)] = std::cos(std::numbers::pi * i / kSize);
  return values;
}

// sums[i] += the sum over four rows of `table` with a weight each: wide enough for the sums to stay in registers.
void add_rows(const double* weights, const double* table, int width, double* sums) {
  const double *a = table, *b = a + width, *c = b + width, *d = c + width;
  const double wa = weights[0], wb = weights[1], wc = weights[2], wd = weights[3];
  for (int i = 0; i < width; ++i) sums[i] += (wa * a[i] + wb * b[i]) + (wc * c[i] + wd * d[i]);
}

}  // namespace

Prosody::Prosody()
    : sound_(kFrame - kHop, 0.0f),  // before the first sample was silence
      window_(kFrame),
      cosines_(static_cast<size_t>(kHalf) * kLines),
      sines_(cosines_.size()),
      back_(static_cast<size_t>(kLines) * kLags),
      taper_(kLags),
      even_(kHalf),
      odd_(kHalf),
      lags_(kLags) {
  for (int i = 0; i < kFrame; ++i)
    window_[static_cast<size_t>(i)] = 0.5 - 0.5 * std::cos(2.0 * std::numbers::pi * (i + 1) / (kFrame + 1));
  const std::vector<double> cosine = circle();
  const int around = 2 * kSize;
  for (int m = 0; m < kHalf; ++m) {
    for (int line = 0; line < kLines; ++line) {
      const int turns = line * (2 * m + 1) % around;
      const auto at = static_cast<size_t>(m * kLines + line);
      cosines_[at] = cosine[static_cast<size_t>(turns)];
      sines_[at] = cosine[static_cast<size_t>((turns + around - kSize / 2) % around)];
    }
  }
  for (int line = 0; line < kLines; ++line) {
    // Every line but that of 0 Hz is there twice, as its negative frequency has the same.
    const double scale = (line == 0 ? 1.0 : 2.0) / kSize;
    for (int lag = 0; lag < kLags; ++lag) {
      const int turns = 2 * line * (kFirstLag + lag) % around;
      back_[static_cast<size_t>(line * kLags + lag)] = scale * cosine[static_cast<size_t>(turns)];
    }
  }
  const auto own = [this](int lag) {
    double sum = 0.0;
    for (int i = 0; i + lag < kFrame; ++i)
      sum += window_[static_cast<size_t>(i)] * window_[static_cast<size_t>(i + lag)];
    return sum;
  };
  const double whole = own(0);
  for (int lag = 0; lag < kLags; ++lag) taper_[static_cast<size_t>(lag)] = own(kFirstLag + lag) / whole;
}

void Prosody::push(const float* samples, int64_t count, std::vector<Measurement>& out) {
  sound_.insert(sound_.end(), samples, samples + count);
  const auto known = static_cast<int64_t>(sound_.size());
  int64_t start = 0;
  for (; start + kFrame <= known; start += kHop) out.push_back(measured(sound_.data() + start));
  sound_.erase(sound_.begin(), sound_.begin() + start);
}

// The normalised autocorrelation at kFirstLag and after it of what lies below kHighestHertz, in lags_.
void Prosody::correlate(const float* frame, double mean) {
  for (int m = 0; m < kHalf; ++m) {
    const int late = kHalf + m, early = kHalf - 1 - m;
    const double after = (frame[late] - mean) * window_[static_cast<size_t>(late)];
    const double before = (frame[early] - mean) * window_[static_cast<size_t>(early)];
    even_[static_cast<size_t>(m)] = after + before;
    odd_[static_cast<size_t>(m)] = after - before;
  }
  double real[kLines] = {}, imaginary[kLines] = {};
  for (int m = 0; m < kHalf; m += 4) {
    const auto row = static_cast<size_t>(m);
    add_rows(even_.data() + row, cosines_.data() + row * kLines, kLines, real);
    add_rows(odd_.data() + row, sines_.data() + row * kLines, kLines, imaginary);
  }
  double power[kLines], whole = 0.0;
  for (int line = 0; line < kLines; ++line) {
    power[line] = real[line] * real[line] + imaginary[line] * imaginary[line];
    whole += (line == 0 ? 1.0 : 2.0) / kSize * power[line];
  }
  std::fill(lags_.begin(), lags_.end(), 0.0);
  for (int line = 0; line < kLines; line += 4)
    add_rows(power + line, back_.data() + static_cast<size_t>(line) * kLags, kLags, lags_.data());
  whole = std::max(whole, 1e-12);
  for (int lag = 0; lag < kLags; ++lag)
    lags_[static_cast<size_t>(lag)] =
        lags_[static_cast<size_t>(lag)] / whole / taper_[static_cast<size_t>(lag)];
}

Measurement Prosody::measured(const float* frame) {
  double power = 0.0, mean = 0.0;
  for (int i = 0; i < kFrame; ++i) {
    mean += frame[i];
    power += static_cast<double>(frame[i]) * frame[i];
  }
  mean /= kFrame;
  power /= kFrame;
  correlate(frame, mean);
  const double* r = lags_.data();
  double best = 0.0;
  const auto height = [r](int lag) { return r[lag] >= r[lag - 1] && r[lag] > r[lag + 1] ? r[lag] : 0.0; };
  for (int lag = 1; lag + 1 < kLags; ++lag) best = std::max(best, height(lag));
  int chosen = 1;
  for (int lag = kLags - 2; lag >= 1; --lag) {
    if (height(lag) >= std::max(kOctave * best, 1e-6)) chosen = lag;  // the shortest one stays
  }
  const double left = r[chosen - 1], middle = r[chosen], right = r[chosen + 1];
  const double curve = left - 2.0 * middle + right;
  const double shift = curve < -1e-9 ? std::clamp(0.5 * (left - right) / curve, -1.0, 1.0) : 0.0;
  const double lag = kFirstLag + chosen + shift;
  return {10.0 * std::log10(power + 1e-12), std::clamp(best, 0.0, 1.0),
          12.0 * std::log2(network::kSampleRate / lag / 100.0)};
}

}  // namespace facetalk::pose
