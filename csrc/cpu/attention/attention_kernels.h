// The inner loops of attention, compiled once per SIMD level from attention_kernels.inl.h.
#pragma once

#include <cstdint>

namespace facetalk::cpu {

constexpr int kAttentionRows = 128;    // queries of a block, at most
constexpr int kAttentionNarrow = 16;   // windows up to this many keys take the direct path
constexpr int kAttentionMaxTile = 32;  // keys of a tile, at most
constexpr int kAttentionPad = 16;      // floats that rows of scratch are padded to

struct AttentionBlock {
  const float* query;  // (rows, depth): queries first_row to first_row + rows - 1
  const float* key;    // (keys, depth), all of them
  const float* value;  // (keys, width)
  float* out;          // (rows, width)
  int64_t rows, first_row, keys, depth, width;
  int64_t left, right;  // window; bounded by the caller, never negative
  float scale;
};

struct AttentionKernels {
  // Floats of scratch, aligned to 64 bytes, that block() needs.
  int64_t (*scratch_size)(int64_t depth, int64_t width);
  void (*block)(const AttentionBlock& block, float* scratch);
  // The same for windows of at most kAttentionNarrow keys; needs no scratch.
  void (*narrow)(const AttentionBlock& block);
};

namespace baseline {
extern const AttentionKernels kAttention;
}
namespace avx2 {
extern const AttentionKernels kAttention;
}
namespace avx512 {
extern const AttentionKernels kAttention;
}

}  // namespace facetalk::cpu
