// Wide windows in float32: 64 queries meet tiles of 32 keys in fused multiply-adds.
//
// Tensor cores would take float32 as TF32, with 11 bits, or as three TF32 products; plain float32 keeps the
// error of the CPU backend.
#pragma once

#include "cuda/attention/attention_common.cuh"

namespace facetalk::cuda {

constexpr int kTilesThreads = 128;
constexpr int kTilesRows = 64;  // queries of a block
constexpr int kTilesKeys = 32;  // keys of a tile
constexpr int kTilesWeights = kTilesKeys + 4;

// Floats from row to row: four more than a row, so that eight neighbouring rows start in different banks.
template <int kDim>
constexpr int kTilesStride = kDim + 4;

template <int kDim>
constexpr size_t kTilesShared =
    sizeof(float) * ((kTilesRows + 2 * kTilesKeys) * kTilesStride<kDim> + kTilesRows * kTilesWeights);

// Thread 8 g + c owns queries g + 16 r (r = 0..3). Of a tile's scores it computes keys c + 8 k (k = 0..3), of
// the sums columns 4 c + 32 x and the three after; a query's eight threads lie in one warp, so weights change
// hands without a barrier of the block. Keys of the next tile arrive during this one's softmax and sums,
// values during the next one's scores.
template <int kDim>
__global__ void __launch_bounds__(kTilesThreads, kDim > 64 ? 2 : 3)
    attention_tiles(const AttentionTask task, unsigned heads, int row_tiles) {
  constexpr int kStride = kTilesStride<kDim>;
  FACETALK_DYNAMIC_SHARED(float, shared);
  float* query_tile = shared;
  float* key_tile = query_tile + kTilesRows * kStride;
  float* value_tile = key_tile + kTilesKeys * kStride;
  float* weights = value_tile + kTilesKeys * kStride;
  const int g = static_cast<int>(threadIdx.x) / 8;
  const int c = static_cast<int>(threadIdx.x) % 8;
  const unsigned head = blockIdx.x % heads;
  const int first =
      (row_tiles - 1 - static_cast<int>(blockIdx.x / heads)) * kTilesRows;  // as in attention_tensor
  const auto* keys = head_of<const float>(task.key, task, head);
  const auto* values = head_of<const float>(task.value, task, head);

  const int last = min(first + kTilesRows, task.rows) - 1;
  const int begin = max(0, first - task.left);
  const int end = min(task.keys, last + task.right + 1);
  const int count = end > begin ? (end - begin + kTilesKeys - 1) / kTilesKeys : 0;
  float sum[4][kDim / 32][4] = {};
  SoftmaxRow row[4];  // totals of this thread's keys alone until the end

  if (count > 0) {
    fetch_rows<kTilesThreads, kTilesRows, kDim>(query_tile, kStride,
                                                head_of<const float>(task.query, task, head), task.query.row,
                                                first, task.rows, task.depth);
    cp_async_commit();
    fetch_rows<kTilesThreads, kTilesKeys, kDim>(key_tile, kStride, keys, task.key.row, begin, end,
                                                task.depth);
    cp_async_commit();
    fetch_rows<kTilesThreads, kTilesKeys, kDim>(value_tile, kStride, values, task.value.row, begin, end,
                                                task.width);
    cp_async_commit();
  }
  for (int n = 0; n < count; ++n) {
    const int from = begin + n * kTilesKeys;
    cp_async_wait<1>();  // all but the values
    __syncthreads();
    float score[4][4] = {};
    FACETALK_UNROLL(2)
    for (int d = 0; d < kDim; d += 4) {
      float4 q[4];
      float4 k[4];
      FACETALK_UNROLL()
      for (int u = 0; u < 4; ++u) {
        q[u] = *reinterpret_cast<const float4*>(query_tile + (g + 16 * u) * kStride + d);
        k[u] = *reinterpret_cast<const float4*>(key_tile + (c + 8 * u) * kStride + d);
      }
      FACETALK_UNROLL()
      for (int r = 0; r < 4; ++r) {
        FACETALK_UNROLL()
        for (int u = 0; u < 4; ++u) {
          score[r][u] = fmaf(q[r].x, k[u].x, score[r][u]);
          score[r][u] = fmaf(q[r].y, k[u].y, score[r][u]);
          score[r][u] = fmaf(q[r].z, k[u].z, score[r][u]);
          score[r][u] = fmaf(q[r].w, k[u].w, score[r][u]);
        }
      }
    }
    __syncthreads();
    const int next = from + kTilesKeys;  // past the end nothing is valid, and the group is empty of copies
    fetch_rows<kTilesThreads, kTilesKeys, kDim>(key_tile, kStride, keys, task.key.row, next, end, task.depth);
    cp_async_commit();

    FACETALK_UNROLL()
    for (int r = 0; r < 4; ++r) {
      const int i = first + g + 16 * r;
      float largest = kNothingSeen;
      FACETALK_UNROLL()
      for (int u = 0; u < 4; ++u) {
        const int j = from + c + 8 * u;
        const bool seen = j >= i - task.left && j <= i + task.right && j < end;
        score[r][u] = seen ? score[r][u] * task.scale : kNothingSeen;
        largest = fmaxf(largest, score[r][u]);
      }
      FACETALK_UNROLL()
      for (int step = 4; step > 0; step /= 2)
        largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, step));
      float reference;
      const float factor = row[r].shrink(largest, reference);
      FACETALK_UNROLL()
      for (int x = 0; x < kDim / 32; ++x) {
        FACETALK_UNROLL()
        for (int e = 0; e < 4; ++e) sum[r][x][e] *= factor;
      }
      FACETALK_UNROLL()
      for (int u = 0; u < 4; ++u) {
        const float weight = fast_exp2(score[r][u] - reference);
        row[r].total += weight;
        weights[(g + 16 * r) * kTilesWeights + c + 8 * u] = weight;
      }
    }
    cp_async_wait<1>();  // the values; the next keys may still be on their way
    __syncthreads();     // the values of all threads, and the weights

    FACETALK_UNROLL(2)
    for (int k = 0; k < kTilesKeys; k += 4) {
      float4 w[4];
      FACETALK_UNROLL()
      for (int r = 0; r < 4; ++r) {
        w[r] = *reinterpret_cast<const float4*>(weights + (g + 16 * r) * kTilesWeights + k);
      }
      FACETALK_UNROLL()
      for (int u = 0; u < 4; ++u) {
        FACETALK_UNROLL()
        for (int x = 0; x < kDim / 32; ++x) {
          const float4 v = *reinterpret_cast<const float4*>(value_tile + (k + u) * kStride + 4 * c + 32 * x);
          FACETALK_UNROLL()
          for (int r = 0; r < 4; ++r) {
            const float weight = u == 0 ? w[r].x : u == 1 ? w[r].y : u == 2 ? w[r].z : w[r].w;
            sum[r][x][0] = fmaf(weight, v.x, sum[r][x][0]);
            sum[r][x][1] = fmaf(weight, v.y, sum[r][x][1]);
            sum[r][x][2] = fmaf(weight, v.z, sum[r][x][2]);
            sum[r][x][3] = fmaf(weight, v.w, sum[r][x][3]);
          }
        }
      }
    }
    __syncthreads();
    fetch_rows<kTilesThreads, kTilesKeys, kDim>(value_tile, kStride, values, task.value.row, next, end,
                                                task.width);
    cp_async_commit();
  }
  cp_async_wait<0>();

  auto* out = head_of<float>(task.out, task, head);
  FACETALK_UNROLL()
  for (int r = 0; r < 4; ++r) {
    FACETALK_UNROLL()
    for (int step = 4; step > 0; step /= 2) row[r].total += __shfl_xor_sync(kAllLanes, row[r].total, step);
    const int i = first + g + 16 * r;
    if (i >= task.rows) continue;
    const float inverse = row[r].inverse();
    FACETALK_UNROLL()
    for (int x = 0; x < kDim / 32; ++x) {
      const int at = 4 * c + 32 * x;
      if (at < task.width) {
        *reinterpret_cast<float4*>(out + i * task.out.row + at) = make_float4(
            sum[r][x][0] * inverse, sum[r][x][1] * inverse, sum[r][x][2] * inverse, sum[r][x][3] * inverse);
      }
    }
    if (task.lse != nullptr && c == 0) {
      task.lse[static_cast<int64_t>(head) * task.rows + i] = row[r].log_sum();
    }
  }
}

}  // namespace facetalk::cuda
