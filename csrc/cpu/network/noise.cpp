#include "cpu/network/noise.h"

#include <cmath>
#include <numbers>

namespace facetalk::network {
namespace {

// Multipliers and Weyl increments of Philox4x32 (Salmon et al., and the authors' Random123 library).
constexpr uint64_t kFirst = 0xD2511F53, kSecond = 0xCD9E8D57;
constexpr uint32_t kWeylFirst = 0x9E3779B9, kWeylSecond = 0xBB67AE85;

void philox(uint32_t (&word)[4], uint32_t key0, uint32_t key1) {
  for (int turn = 0; turn < 10; ++turn, key0 += kWeylFirst, key1 += kWeylSecond) {
    const uint64_t first = word[0] * kFirst, second = word[2] * kSecond;
    const uint32_t b = word[1], d = word[3];
    word[0] = static_cast<uint32_t>(second >> 32) ^ b ^ key0;
    word[1] = static_cast<uint32_t>(second);
    word[2] = static_cast<uint32_t>(first >> 32) ^ d ^ key1;
    word[3] = static_cast<uint32_t>(first);
  }
}

// Centred on the cell, so that it is never 0 and its logarithm never infinite.
double uniform(uint32_t word) { return (static_cast<double>(word) + 0.5) * 0x1p-32; }

}  // namespace

void frame_noise(uint64_t seed, uint32_t step, int64_t start, int64_t stop, int channels, float* out) {
  for (int64_t frame = start; frame < stop; ++frame) {
    for (int first = 0; first < channels; first += 4) {
      uint32_t word[4] = {static_cast<uint32_t>(first / 4), static_cast<uint32_t>(frame), step, 0};
      philox(word, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
      double normal[4];
      for (int pair = 0; pair < 2; ++pair) {
        const double radius = std::sqrt(-2.0 * std::log(uniform(word[2 * pair])));
        const double angle = 2.0 * std::numbers::pi * uniform(word[2 * pair + 1]);
        normal[pair] = radius * std::cos(angle);  // both cosines come before both sines
        normal[2 + pair] = radius * std::sin(angle);
      }
      for (int i = 0; i < 4 && first + i < channels; ++i) *out++ = static_cast<float>(normal[i]);
    }
  }
}

}  // namespace facetalk::network
