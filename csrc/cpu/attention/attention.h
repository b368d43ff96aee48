// Attention through a window along the sequence, on the CPU.
#pragma once

#include <cstdint>

#include "core/tensor_view.h"

namespace facetalk::cpu {

// Query i sees key j when i - left <= j <= i + right; a negative bound means unbounded. Rows that see no key
// are 0.
struct AttentionWindow {
  int64_t left = 0;
  int64_t right = 0;
};

// query (G, N, D), key (G, M, D), value (G, M, E), out (G, N, E), float32, contiguous; G is batch times
// heads. Softmax runs online over tiles of keys (Milakov and Gimelshein 2018; Dao et al., FlashAttention,
// 2022): memory is a few tiles per thread, whatever N and M are. At window (0, 0) the softmax has one term,
// so row i is value row i and neither queries nor keys are read. The result is the same for every number of
// threads.
void masked_cross_attention(const TensorView& query, const TensorView& key, const TensorView& value,
                            const AttentionWindow& window, float scale, const TensorView& out);

}  // namespace facetalk::cpu
