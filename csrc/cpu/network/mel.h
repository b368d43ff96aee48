// Log-mel spectrograms as Whisper reads them (Radford et al., 2022, section 2.2).
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/network/layers.h"

namespace facetalk::network {

constexpr int kMelHop = 160;  // samples from a frame to the next, 10 ms

// Frames of 25 ms, each around the moment `frame * kMelHop`; what a frame sees beyond the sound's ends is the
// sound reflected at them.
class LogMel {
 public:
  LogMel() = default;
  explicit LogMel(int bands);

  int bands() const { return bands_; }
  static int64_t frames(int64_t samples) { return samples / kMelHop; }

  // (samples) of 16 kHz -> (frames(samples), bands()). The logarithm of the power in each band, no more than
  // 80 dB below the loudest of all. At least kMelHop samples.
  void run(const float* sound, int64_t samples, Floats& scratch, float* out) const;

 private:
  struct Band {
    int first = 0;                // bin of the spectrum
    std::vector<double> weights;  // of the bins from there on
  };
  int bands_ = 0;
  Linear transform_;  // windowed sound to cosine and sine parts
  std::vector<Band> filters_;
};

}  // namespace facetalk::network
