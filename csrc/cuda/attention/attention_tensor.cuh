// Wide windows in 16 bit: 64 queries meet tiles of 64 keys on tensor cores (after FlashAttention-2, Dao
// 2023).
#pragma once

#include "cuda/attention/attention_common.cuh"

namespace facetalk::cuda {

constexpr int kTensorWarps = 4;
constexpr int kTensorThreads = 32 * kTensorWarps;
constexpr int kTensorRows = 16 * kTensorWarps;  // queries of a block
constexpr int kTensorKeys = 64;                 // keys of a tile

// Elements from row to row of a tile: 16 bytes more than a row, so that the eight rows of an ldmatrix lie in
// different banks.
template <int kDim>
constexpr int kTensorStride = kDim + 8;

template <int kDim>
constexpr size_t kTensorShared =
    size_t{2} * 2 * kTensorKeys * kTensorStride<kDim> * 2;  // two stages of keys and values

// Depth and width are at most kDim. Each warp owns 16 queries and walks the block's tiles with the others; a
// tile that none of its queries sees costs it two barriers.
template <typename T, int kDim>
__global__ void __launch_bounds__(kTensorThreads)
    attention_tensor(const AttentionTask task, unsigned heads, int row_tiles) {
  constexpr int kStride = kTensorStride<kDim>;
  constexpr int kTile = kTensorKeys * kStride;
  FACETALK_DYNAMIC_SHARED(T, tiles);  // (2 stages, keys and values, kTensorKeys, kStride)
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int g = lane / 4;
  const int t = lane % 4;
  const unsigned head = blockIdx.x % heads;
  // Last tiles first: under a causal window they see the most keys, and the short ones fill the end of the
  // launch.
  const int first = (row_tiles - 1 - static_cast<int>(blockIdx.x / heads)) * kTensorRows;
  const int warp_first = first + static_cast<int>(threadIdx.x) / 32 * 16;
  const T* keys = head_of<const T>(task.key, task, head);
  const T* values = head_of<const T>(task.value, task, head);

  // Scores are scaled within the exponential, where it costs nothing, but only by what keeps their order: the
  // sign of the scale goes into the queries, and so does a scale of 0.
  const float scale = task.scale == 0.0f ? 1.0f : fabsf(task.scale);
  const uint32_t flip = task.scale < 0.0f ? 0x80008000u : 0u;
  const uint32_t keep = task.scale == 0.0f ? 0u : 0xffffffffu;
  uint32_t query[kDim / 16][4];
  {
    const T* queries = head_of<const T>(task.query, task, head);
    FACETALK_UNROLL()
    for (int s = 0; s < kDim / 16; ++s) {
      FACETALK_UNROLL()
      for (int part = 0; part < 4; ++part) {
        const int row = warp_first + g + part % 2 * 8;
        const int column = 16 * s + 2 * t + part / 2 * 8;
        const bool valid = row < task.rows && column < task.depth;
        const uint32_t pair =
            valid ? *reinterpret_cast<const uint32_t*>(queries + row * task.query.row + column) : 0u;
        query[s][part] = (pair & keep) ^ flip;
      }
    }
  }

  const int last = min(first + kTensorRows, task.rows) - 1;
  const int begin = max(0, first - task.left);
  const int end = min(task.keys, last + task.right + 1);
  const int count = end > begin ? (end - begin + kTensorKeys - 1) / kTensorKeys : 0;
  float sum[kDim / 8][4] = {};
  SoftmaxRow row[2];  // queries g and g + 8; totals of this lane's keys alone until the end

  if (count > 0) {
    fetch_rows<kTensorThreads, kTensorKeys, kDim>(tiles, kStride, keys, task.key.row, begin, end, task.depth);
    fetch_rows<kTensorThreads, kTensorKeys, kDim>(tiles + kTile, kStride, values, task.value.row, begin, end,
                                                  task.width);
    cp_async_commit();
  }
  for (int n = 0; n < count; ++n) {
    const int from = begin + n * kTensorKeys;
    const T* key_tile = tiles + n % 2 * 2 * kTile;
    const T* value_tile = key_tile + kTile;
    if (n + 1 < count) {
      T* next = tiles + (n + 1) % 2 * 2 * kTile;
      fetch_rows<kTensorThreads, kTensorKeys, kDim>(next, kStride, keys, task.key.row, from + kTensorKeys,
                                                    end, task.depth);
      fetch_rows<kTensorThreads, kTensorKeys, kDim>(next + kTile, kStride, values, task.value.row,
                                                    from + kTensorKeys, end, task.width);
      cp_async_commit();
      cp_async_wait<1>();
    } else {
      cp_async_wait<0>();
    }
    __syncthreads();
    const bool some = from <= warp_first + 15 + task.right && from + kTensorKeys > warp_first - task.left;
    if (some) {
      // Scores: 8 columns of 8 keys each.
      float score[kTensorKeys / 8][4] = {};
      FACETALK_UNROLL()
      for (int s = 0; s < kDim / 16; ++s) {
        FACETALK_UNROLL()
        for (int pair = 0; pair < kTensorKeys / 16; ++pair) {
          uint32_t b[4];
          ldmatrix(b,
                   key_tile + (16 * pair + lane / 16 * 8 + lane % 8) * kStride + 16 * s + lane / 8 % 2 * 8);
          mma_m16n8k16<T>(score[2 * pair], query[s], {b[0], b[1]});
          mma_m16n8k16<T>(score[2 * pair + 1], query[s], {b[2], b[3]});
        }
      }
      const bool all = from >= warp_first + 15 - task.left &&
                       from + kTensorKeys - 1 <= warp_first + task.right && from + kTensorKeys <= end;
      if (!all) {
        FACETALK_UNROLL()
        for (int h = 0; h < 2; ++h) {
          // First and last key that the query sees, counted from this lane's first.
          const int i = warp_first + g + 8 * h;
          const int low = i - task.left - from - 2 * t;
          const int high = min(i + task.right, end - 1) - from - 2 * t;
          FACETALK_UNROLL()
          for (int c = 0; c < kTensorKeys / 8; ++c) {
            FACETALK_UNROLL()
            for (int e = 0; e < 2; ++e) {
              if (8 * c + e < low || 8 * c + e > high) score[c][2 * h + e] = kNothingSeen;
            }
          }
        }
      }
      float largest[2] = {kNothingSeen, kNothingSeen};
      FACETALK_UNROLL()
      for (int c = 0; c < kTensorKeys / 8; ++c) {
        FACETALK_UNROLL()
        for (int e = 0; e < 4; ++e) largest[e / 2] = fmaxf(largest[e / 2], score[c][e]);
      }
      FACETALK_UNROLL()
      for (int h = 0; h < 2; ++h) {
        largest[h] = fmaxf(largest[h], __shfl_xor_sync(kAllLanes, largest[h], 1));
        largest[h] = fmaxf(largest[h], __shfl_xor_sync(kAllLanes, largest[h], 2));
        float reference;
        const float factor = row[h].shrink(largest[h] * scale, reference);
        FACETALK_UNROLL()
        for (int c = 0; c < kDim / 8; ++c) {
          sum[c][2 * h] *= factor;
          sum[c][2 * h + 1] *= factor;
        }
        FACETALK_UNROLL()
        for (int c = 0; c < kTensorKeys / 8; ++c) {
          FACETALK_UNROLL()
          for (int e = 2 * h; e < 2 * h + 2; ++e) {
            score[c][e] = fast_exp2(fmaf(score[c][e], scale, -reference));
            row[h].total += score[c][e];
          }
        }
      }
      // Weights, rounded to 16 bit, are the left operand as they lie.
      FACETALK_UNROLL()
      for (int s = 0; s < kTensorKeys / 16; ++s) {
        const uint32_t weight[4] = {pack2<T>(score[2 * s][0], score[2 * s][1]),
                                    pack2<T>(score[2 * s][2], score[2 * s][3]),
                                    pack2<T>(score[2 * s + 1][0], score[2 * s + 1][1]),
                                    pack2<T>(score[2 * s + 1][2], score[2 * s + 1][3])};
        FACETALK_UNROLL()
        for (int pair = 0; pair < kDim / 16; ++pair) {
          uint32_t b[4];
          ldmatrix_trans(b, value_tile + (16 * s + lane % 16) * kStride + 16 * pair + lane / 16 * 8);
          mma_m16n8k16<T>(sum[2 * pair], weight, {b[0], b[1]});
          mma_m16n8k16<T>(sum[2 * pair + 1], weight, {b[2], b[3]});
        }
      }
    }
    __syncthreads();  // the next round fetches into this stage
  }

  T* out = head_of<T>(task.out, task, head);
  FACETALK_UNROLL()
  for (int h = 0; h < 2; ++h) {
    row[h].total += __shfl_xor_sync(kAllLanes, row[h].total, 1);
    row[h].total += __shfl_xor_sync(kAllLanes, row[h].total, 2);
    const int i = warp_first + g + 8 * h;
    if (i >= task.rows) continue;
    const float inverse = row[h].inverse();
    FACETALK_UNROLL()
    for (int c = 0; c < kDim / 8; ++c) {
      if (8 * c >= task.width) break;
      *reinterpret_cast<uint32_t*>(out + i * task.out.row + 8 * c + 2 * t) =
          pack2<T>(sum[c][2 * h] * inverse, sum[c][2 * h + 1] * inverse);
    }
    if (task.lse != nullptr && t == 0) {
      task.lse[static_cast<int64_t>(head) * task.rows + i] = row[h].log_sum();
    }
  }
}

}  // namespace facetalk::cuda
