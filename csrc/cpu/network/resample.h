// Sound of any rate to 16 kHz, as it arrives: a polyphase filter with linear phase.
#pragma once

#include <cstdint>
#include <vector>

namespace facetalk::network {

// A windowed sinc (Kaiser, 120 dB) that passes 0.913 of the band, like soxr's "high quality", whose output it
// matches to what tests/capi/test_resample.py says. Output j is the sound at j / 16000 seconds.
class Resampler {
 public:
  explicit Resampler(int rate);

  double delay_s() const;  // how much later than the sound its output comes
  void push(const float* samples, int64_t count, std::vector<float>& out);
  void finish(std::vector<float>& out);

 private:
  void advance(int64_t until, std::vector<float>& out);
  float at(int64_t output) const;

  int64_t rate_, up_, down_;  // output j lies at input sample j down / up
  int half_;                  // taps on each side
  bool interpolates_;         // between phases, where there would be too many
  int64_t phases_;
  std::vector<float> filter_;  // (phases + 1, 2 half)
  std::vector<float> input_;   // from input_start_ on
  int64_t input_start_, heard_ = 0, given_ = 0;
};

}  // namespace facetalk::network
