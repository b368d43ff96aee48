// Noise that belongs to a frame: facetalk/diffusion/noise.py in C++, to the bit.
#pragma once

#include <cstdint>

namespace facetalk::network {

// Standard normal noise of the frames `start` to `stop` at a sampling step (0: what sampling starts from):
// Philox4x32-10 (Salmon et al., SC 2011) by (seed, step, frame, channel) and Box-Muller. out: (stop - start,
// channels).
void frame_noise(uint64_t seed, uint32_t step, int64_t start, int64_t stop, int channels, float* out);

}  // namespace facetalk::network
