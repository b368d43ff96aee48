// Loudness, voicing and pitch of speech every 10 ms: facetalk/pose/prosody.py, which says why, in C++.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/network/level.h"

namespace facetalk::pose {

constexpr int kHop = 160;  // samples from one measurement to the next, 10 ms
constexpr double kHopSeconds = static_cast<double>(kHop) / network::kSampleRate;

struct Measurement {
  double level;     // dB of full scale
  double periodic;  // 0 to 1
  double pitch;     // semitones above 100 Hz, which mean nothing where the sound is not periodic
};

// Measures 16 kHz sound. A measurement is a function of the 40 ms before it alone, so it does not matter how the sound
// is cut. Autocorrelations are direct sums where Python has a Fourier transform: so few of its lines are looked at that
// these cost no more, and they need tables alone. Both are the same to rounding.
class Prosody {
 public:
  Prosody();

  // Appends the measurements that `count` more samples complete.
  void push(const float* samples, int64_t count, std::vector<Measurement>& out);

 private:
  Measurement measured(const float* frame);
  void correlate(const float* frame, double mean);

  std::vector<float> sound_;               // from the next measurement's first sample on
  std::vector<double> window_;             // (frame)
  std::vector<double> cosines_, sines_;    // (frame / 2, lines): the lines of a frame, about its middle
  std::vector<double> back_;               // (lines, lags): from lines to lags
  std::vector<double> taper_;              // (lags)
  std::vector<double> even_, odd_, lags_;  // of the frame at hand
};

}  // namespace facetalk::pose
