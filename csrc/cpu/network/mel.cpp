#include "cpu/network/mel.h"

#include <algorithm>
#include <cmath>

#include "cpu/network/level.h"
#include "cpu/parallel.h"

namespace facetalk::network {
namespace {

constexpr int kWindow = 400, kBins = kWindow / 2 + 1;
constexpr int64_t kBlock = 48;  // frames that are transformed at a time
constexpr double kPi = 3.14159265358979323846;
constexpr double kLeast = 1e-10;  // power
constexpr float kRange = 8.0f;    // powers of ten below the loudest

// The scale of Slaney's Auditory Toolbox (1998): linear to 1 kHz, then 27 steps for each factor of 6.4.
constexpr double kBreakHertz = 1000.0, kLinearStep = 200.0 / 3.0, kLogSteps = 27.0, kLogFactor = 6.4;
double mel_of(double hertz) {
  return hertz < kBreakHertz
             ? hertz / kLinearStep
             : kBreakHertz / kLinearStep + kLogSteps * std::log(hertz / kBreakHertz) / std::log(kLogFactor);
}
double hertz_of(double mel) {
  const double beyond = mel - kBreakHertz / kLinearStep;
  return beyond < 0.0 ? mel * kLinearStep : kBreakHertz * std::exp(beyond * std::log(kLogFactor) / kLogSteps);
}

// Hann's window and the real discrete Fourier transform in one product: it is a hundredth of what Whisper's
// layers take.
Linear fourier() {
  std::vector<float> weights(static_cast<size_t>(2 * kBins) * kWindow);
  for (int bin = 0; bin < kBins; ++bin) {
    for (int i = 0; i < kWindow; ++i) {
      const double taper = 0.5 - 0.5 * std::cos(2.0 * kPi * i / kWindow);
      // The phase in whole turns first, so that large products lose nothing.
      const double phase = 2.0 * kPi * (bin * i % kWindow) / kWindow;
      const auto at = static_cast<size_t>(2 * bin) * kWindow + static_cast<size_t>(i);
      weights[at] = static_cast<float>(taper * std::cos(phase));
      weights[at + kWindow] = static_cast<float>(taper * std::sin(phase));
    }
  }
  return Linear(weights, {}, 2 * kBins, kWindow);
}

}  // namespace

LogMel::LogMel(int bands) : bands_(bands), transform_(fourier()) {
  const double top = mel_of(kSampleRate / 2.0);
  for (int band = 0; band < bands; ++band) {
    double corner[3];
    for (int i = 0; i < 3; ++i) corner[i] = hertz_of(top * (band + i) / (bands + 1));
    Band filter;
    for (int bin = 0; bin < kBins; ++bin) {
      const double hertz = static_cast<double>(bin) * kSampleRate / kWindow;
      const double rise = (hertz - corner[0]) / (corner[1] - corner[0]);
      const double fall = (corner[2] - hertz) / (corner[2] - corner[1]);
      const double weight = std::min(rise, fall) * 2.0 / (corner[2] - corner[0]);  // of area 1
      if (weight > 0.0) {
        if (filter.weights.empty()) filter.first = bin;
        filter.weights.push_back(weight);
      }
    }
    filters_.push_back(std::move(filter));
  }
}

void LogMel::run(const float* sound, int64_t samples, Floats& scratch, float* out) const {
  constexpr int64_t kHalf = kWindow / 2;
  const int64_t count = frames(samples);
  float* padded = scratch.need(samples + kWindow);
  std::copy_n(sound, samples, padded + kHalf);
  for (int64_t i = 1; i <= kHalf; ++i) {
    padded[kHalf - i] = sound[std::min(i, samples - 1)];
    padded[kHalf + samples - 1 + i] = sound[std::max<int64_t>(samples - 1 - i, 0)];
  }
  cpu::parallel_for(count, kBlock, [&](int64_t begin, int64_t end) {
    std::vector<float> spectrum(static_cast<size_t>(kBlock * 2 * kBins));
    double power[kBins];
    for (int64_t first = begin; first < end; first += kBlock) {
      const int64_t rows = std::min(kBlock, end - first);
      transform_.run(padded + first * kMelHop, kMelHop, rows, spectrum.data(), 2 * kBins);
      for (int64_t row = 0; row < rows; ++row) {
        const float* parts = spectrum.data() + row * 2 * kBins;
        for (int bin = 0; bin < kBins; ++bin) {
          const double real = parts[2 * bin], imaginary = parts[2 * bin + 1];
          power[bin] = real * real + imaginary * imaginary;
        }
        for (int band = 0; band < bands_; ++band) {
          const Band& filter = filters_[static_cast<size_t>(band)];
          double sum = 0.0;
          for (size_t i = 0; i < filter.weights.size(); ++i)
            sum += filter.weights[i] * power[static_cast<size_t>(filter.first) + i];
          out[(first + row) * bands_ + band] = static_cast<float>(std::log10(std::max(sum, kLeast)));
        }
      }
    }
  });
  const float loudest = *std::max_element(out, out + count * bands_);
  for (int64_t i = 0; i < count * bands_; ++i) out[i] = (std::max(out[i], loudest - kRange) + 4.0f) / 4.0f;
}

}  // namespace facetalk::network
