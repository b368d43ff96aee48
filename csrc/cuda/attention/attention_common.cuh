// What the attention kernels share: the problem as they read it, rows in units of 16 bytes, one step of the
// softmax.
#pragma once

#include <cmath>

#include "cuda/attention/attention.h"
#include "cuda/platform/matrix.cuh"
#include "cuda/platform/portable.h"

namespace facetalk::cuda {

constexpr float kLog2E = 1.44269504088896340736f;

// An AttentionProblem with a window that fits the sequences: rows + keys <= kAttentionMaxRows, so row numbers
// are ints, and i - left and i + right stay in range.
struct AttentionTask {
  AttentionOperand query, key, value, out;
  float* lse;
  int heads, rows, keys, depth, width;
  int left, right;
  float scale;  // of the scores, for exponentials to base 2
};

// One head of an operand.
template <typename T>
__device__ __forceinline__ T* head_of(const AttentionOperand& operand, const AttentionTask& task,
                                      unsigned index) {
  const auto heads = static_cast<unsigned>(task.heads);
  return static_cast<T*>(operand.data) + static_cast<int64_t>(index / heads) * operand.batch +
         static_cast<int64_t>(index % heads) * operand.head;
}

// 16 bytes of a row as float32 and back.
template <typename T>
struct Unit {
  static constexpr int kItems = 16 / sizeof(T);

  static __device__ __forceinline__ void unpack(const uint4& raw, float (&items)[kItems]) {
    const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
    FACETALK_UNROLL()
    for (int w = 0; w < 4; ++w) {
      if constexpr (sizeof(T) == 4) {
        items[w] = __uint_as_float(words[w]);
      } else {
        const float2 pair = unpack2<T>(words[w]);
        items[2 * w] = pair.x;
        items[2 * w + 1] = pair.y;
      }
    }
  }
  static __device__ __forceinline__ uint4 pack(const float (&items)[kItems]) {
    uint32_t words[4];
    FACETALK_UNROLL()
    for (int w = 0; w < 4; ++w) {
      if constexpr (sizeof(T) == 4) {
        words[w] = __float_as_uint(items[w]);
      } else {
        words[w] = pack2<T>(items[2 * w], items[2 * w + 1]);
      }
    }
    return make_uint4(words[0], words[1], words[2], words[3]);
  }
  // Items [at, at + kItems) from `head` on, zeros when not valid: then no address is formed, as `head` may be null.
  static __device__ __forceinline__ uint4 load(const T* head, int64_t at, bool valid) {
    return valid ? *reinterpret_cast<const uint4*>(head + at) : make_uint4(0, 0, 0, 0);
  }
};

// Asks for kRows rows of a head from `first` on, kDim items each, into a tile with `tile_stride` items from
// row to row; rows from `end` on and columns from `columns` on become zeros. The block's kThreads threads
// share the work; each stays in one column and steps down the rows, so that one address is all it keeps.
template <int kThreads, int kRows, int kDim, typename T>
__device__ __forceinline__ void fetch_rows(T* tile, int tile_stride, const T* head, int64_t stride, int first,
                                           int end, int columns) {
  constexpr int kItems = Unit<T>::kItems;
  constexpr int kUnits = kDim / kItems;
  constexpr int kStep = kThreads / kUnits;
  static_assert(kThreads % kUnits == 0 && kRows % kStep == 0, "threads must tile the rows evenly");
  const int start = static_cast<int>(threadIdx.x) / kUnits;
  const int at = static_cast<int>(threadIdx.x) % kUnits * kItems;
  const T* from = head + (first + start) * stride + at;
  T* to = tile + start * tile_stride + at;
  FACETALK_UNROLL()
  for (int row = 0; row < kRows; row += kStep) {
    const bool valid = first + start + row < end && at < columns;
    cp_async<16>(to + row * tile_stride, valid ? from : head, valid);
    from += kStep * stride;
  }
}

constexpr float kNothingSeen = -INFINITY;

// The online softmax of one row (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018):
// takes the largest of the new scores, gives what old sums shrink by, and the reference that new exponents
// are taken against. A row that has seen nothing yet gets the reference 0, so that no infinities are
// subtracted.
struct SoftmaxRow {
  float highest = kNothingSeen;
  float total = 0.0f;

  __device__ __forceinline__ float shrink(float largest, float& reference) {
    const float top = fmaxf(highest, largest);  // a NaN score is no maximum; its weight is NaN all the same
    reference = top == kNothingSeen ? 0.0f : top;
    const float factor = fast_exp2(highest - reference);
    highest = top;
    total *= factor;
    return factor;
  }
  // 0 for rows that see nothing; NaN stays NaN.
  __device__ __forceinline__ float inverse() const { return total == 0.0f ? 0.0f : 1.0f / total; }
  // Natural logarithm of the sum of the exponentials.
  __device__ __forceinline__ float log_sum() const {
    return total == 0.0f ? kNothingSeen : (highest + log2f(total)) / kLog2E;
  }
};

}  // namespace facetalk::cuda
