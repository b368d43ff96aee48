// Gradients of windowed attention (after FlashAttention, Dao et al. 2022, algorithm 4, without its atomic
// sums).
#pragma once

#include "cuda/attention/attention_common.cuh"

namespace facetalk::cuda {

constexpr int kBackThreads = 128;
constexpr int kBackTile = 32;  // queries and keys of a tile
constexpr int kBackWeights = kBackTile + 4;

template <int kDim>
constexpr int kBackStride = kDim + 4;

template <int kDim>
constexpr size_t kBackShared =
    sizeof(float) * (4 * kBackTile * kBackStride<kDim> + 2 * kBackTile * kBackWeights + 2 * kBackTile);

struct AttentionBackwardTask {
  AttentionTask forward;
  AttentionOperand grad;            // of out
  AttentionOperand grad_a, grad_b;  // of what the launch owns: query and none, or key and value
  float* delta;  // (batch * heads, rows) sum of grad times out: written for queries, read for keys
  float factor;  // natural scale of the scores
};

// Rows [first, first + kBackTile) of a head as float32; rows from `end` on and columns from `columns` on are
// zeros.
template <typename T, int kDim>
__device__ __forceinline__ void back_load(float* tile, const T* head, int64_t stride, int first, int end,
                                          int columns) {
  constexpr int kItems = Unit<T>::kItems;
  constexpr int kUnits = kDim / kItems;
  for (int unit = static_cast<int>(threadIdx.x); unit < kBackTile * kUnits; unit += kBackThreads) {
    const int row = unit / kUnits;
    const int at = unit % kUnits * kItems;
    float items[kItems];
    Unit<T>::unpack(Unit<T>::load(head + (first + row) * stride, at, first + row < end && at < columns),
                    items);
    FACETALK_UNROLL()
    for (int i = 0; i < kItems; i += 4) {
      *reinterpret_cast<float4*>(tile + row * kBackStride<kDim> + at + i) =
          make_float4(items[i], items[i + 1], items[i + 2], items[i + 3]);
    }
  }
}

template <typename T, int kDim>
__device__ __forceinline__ void back_store(T* row, int c, int columns, const float (&sum)[kDim / 32][4]) {
  FACETALK_UNROLL()
  for (int x = 0; x < kDim / 32; ++x) {
    const int at = 4 * c + 32 * x;
    if (at >= columns) break;
    if constexpr (sizeof(T) == 4) {
      *reinterpret_cast<float4*>(row + at) = make_float4(sum[x][0], sum[x][1], sum[x][2], sum[x][3]);
    } else {
      *reinterpret_cast<uint2*>(row + at) =
          make_uint2(pack2<T>(sum[x][0], sum[x][1]), pack2<T>(sum[x][2], sum[x][3]));
    }
  }
}

// A block owns kBackTile rows of one side and walks the tiles of the other side that share windows with them.
// For queries (kKeys false) a pair is (query, gradient of out), its partner (key, value); for keys the other
// way round. Both need the products of the firsts, the scores, and of the seconds, the gradients of the
// weights:
//   weight    = exp(score - lse)              of the pair's query
//   gradient  = weight (product - delta)      of the score
//   grad_a   += gradient times the other's first; grad_b (keys alone) += weight times the other's second
// Threads are laid out as in attention_tiles: thread 8 g + c has own rows g and g + 16.
template <typename T, int kDim, bool kKeys>
__global__ void __launch_bounds__(kBackThreads, kDim > 64 ? 2 : 3)
    attention_backward(const AttentionBackwardTask task, unsigned heads) {
  constexpr int kStride = kBackStride<kDim>;
  FACETALK_DYNAMIC_SHARED(float, shared);
  float* own_a = shared;
  float* own_b = own_a + kBackTile * kStride;
  float* other_a = own_b + kBackTile * kStride;
  float* other_b = other_a + kBackTile * kStride;
  float* gradients = other_b + kBackTile * kStride;
  float* weights = gradients + kBackTile * kBackWeights;
  float* lse = weights + kBackTile * kBackWeights;  // of the tile's queries, to base 2
  float* delta = lse + kBackTile;

  const AttentionTask& forward = task.forward;
  const int thread = static_cast<int>(threadIdx.x);
  const int g = thread / 8;
  const int c = thread % 8;
  const unsigned head = blockIdx.x % heads;
  const int first = static_cast<int>(blockIdx.x / heads) * kBackTile;
  const AttentionOperand& a = kKeys ? forward.key : forward.query;
  const AttentionOperand& b = kKeys ? forward.value : task.grad;
  const AttentionOperand& with_a = kKeys ? forward.query : forward.key;
  const AttentionOperand& with_b = kKeys ? task.grad : forward.value;
  const int own_count = kKeys ? forward.keys : forward.rows;
  const int other_count = kKeys ? forward.rows : forward.keys;
  // Own row n meets the others n - before .. n + after.
  const int before = kKeys ? forward.right : forward.left;
  const int after = kKeys ? forward.left : forward.right;
  const int64_t first_query = static_cast<int64_t>(head) * forward.rows;

  back_load<T, kDim>(own_a, head_of<const T>(a, forward, head), a.row, first, own_count, forward.depth);
  back_load<T, kDim>(own_b, head_of<const T>(b, forward, head), b.row, first, own_count, forward.width);
  if constexpr (!kKeys) {
    __syncthreads();
    const int row = thread / 4;  // four lanes a row
    const T* out = head_of<const T>(forward.out, forward, head) + (first + row) * forward.out.row;
    float sum = 0.0f;
    for (int at = thread % 4 * Unit<T>::kItems; at < forward.width; at += 4 * Unit<T>::kItems) {
      float items[Unit<T>::kItems];
      Unit<T>::unpack(Unit<T>::load(out, at, first + row < own_count), items);
      FACETALK_UNROLL()
      for (int i = 0; i < Unit<T>::kItems; ++i) sum = fmaf(own_b[row * kStride + at + i], items[i], sum);
    }
    sum += __shfl_xor_sync(kAllLanes, sum, 1);
    sum += __shfl_xor_sync(kAllLanes, sum, 2);
    if (thread % 4 == 0 && first + row < own_count) {
      delta[row] = sum;
      lse[row] = forward.lse[first_query + first + row] * kLog2E;
      task.delta[first_query + first + row] = sum;
    }
  }

  const int begin = max(0, first - before);
  const int end = min(other_count, min(first + kBackTile, own_count) + after);
  float sum_a[2][kDim / 32][4] = {};
  float sum_b[2][kDim / 32][4] = {};
  for (int from = begin; from < end; from += kBackTile) {
    __syncthreads();
    back_load<T, kDim>(other_a, head_of<const T>(with_a, forward, head), with_a.row, from, end,
                       forward.depth);
    back_load<T, kDim>(other_b, head_of<const T>(with_b, forward, head), with_b.row, from, end,
                       forward.width);
    if (kKeys && thread < kBackTile && from + thread < end) {
      delta[thread] = task.delta[first_query + from + thread];
      lse[thread] = forward.lse[first_query + from + thread] * kLog2E;
    }
    __syncthreads();
    float score[2][4] = {};
    float product[2][4] = {};
    for (int d = 0; d < kDim; d += 4) {
      FACETALK_UNROLL()
      for (int pass = 0; pass < 2; ++pass) {
        const float* own = pass == 0 ? own_a : own_b;
        const float* other = pass == 0 ? other_a : other_b;
        float4 with[4];
        FACETALK_UNROLL()
        for (int u = 0; u < 4; ++u)
          with[u] = *reinterpret_cast<const float4*>(other + (c + 8 * u) * kStride + d);
        FACETALK_UNROLL()
        for (int r = 0; r < 2; ++r) {
          const float4 mine = *reinterpret_cast<const float4*>(own + (g + 16 * r) * kStride + d);
          FACETALK_UNROLL()
          for (int u = 0; u < 4; ++u) {
            float& sum = pass == 0 ? score[r][u] : product[r][u];
            sum = fmaf(mine.x, with[u].x, sum);
            sum = fmaf(mine.y, with[u].y, sum);
            sum = fmaf(mine.z, with[u].z, sum);
            sum = fmaf(mine.w, with[u].w, sum);
          }
        }
      }
    }
    FACETALK_UNROLL()
    for (int r = 0; r < 2; ++r) {
      FACETALK_UNROLL()
      for (int u = 0; u < 4; ++u) {
        const int mine = first + g + 16 * r;
        const int its = from + c + 8 * u;
        const int query = kKeys ? c + 8 * u : g + 16 * r;
        const bool seen = its >= mine - before && its <= mine + after && its < end;
        const float weight = seen ? exp2f(score[r][u] * forward.scale - lse[query]) : 0.0f;
        const int at = (g + 16 * r) * kBackWeights + c + 8 * u;
        gradients[at] = seen ? weight * (product[r][u] - delta[query]) * task.factor : 0.0f;
        if (kKeys) weights[at] = weight;
      }
    }
    __syncwarp();  // the eight threads of a row are in one warp
    FACETALK_UNROLL(4)
    for (int k = 0; k < kBackTile; ++k) {
      FACETALK_UNROLL()
      for (int x = 0; x < kDim / 32; ++x) {
        const float4 with_first = *reinterpret_cast<const float4*>(other_a + k * kStride + 4 * c + 32 * x);
        FACETALK_UNROLL()
        for (int r = 0; r < 2; ++r) {
          const float gradient = gradients[(g + 16 * r) * kBackWeights + k];
          sum_a[r][x][0] = fmaf(gradient, with_first.x, sum_a[r][x][0]);
          sum_a[r][x][1] = fmaf(gradient, with_first.y, sum_a[r][x][1]);
          sum_a[r][x][2] = fmaf(gradient, with_first.z, sum_a[r][x][2]);
          sum_a[r][x][3] = fmaf(gradient, with_first.w, sum_a[r][x][3]);
        }
        if constexpr (kKeys) {
          const float4 with_second = *reinterpret_cast<const float4*>(other_b + k * kStride + 4 * c + 32 * x);
          FACETALK_UNROLL()
          for (int r = 0; r < 2; ++r) {
            const float weight = weights[(g + 16 * r) * kBackWeights + k];
            sum_b[r][x][0] = fmaf(weight, with_second.x, sum_b[r][x][0]);
            sum_b[r][x][1] = fmaf(weight, with_second.y, sum_b[r][x][1]);
            sum_b[r][x][2] = fmaf(weight, with_second.z, sum_b[r][x][2]);
            sum_b[r][x][3] = fmaf(weight, with_second.w, sum_b[r][x][3]);
          }
        }
      }
    }
  }

  FACETALK_UNROLL()
  for (int r = 0; r < 2; ++r) {
    const int row = first + g + 16 * r;
    if (row >= own_count) continue;
    T* to_a = head_of<T>(task.grad_a, forward, head) + row * task.grad_a.row;
    back_store<T, kDim>(to_a, c, forward.depth, sum_a[r]);
    if constexpr (kKeys) {
      T* to_b = head_of<T>(task.grad_b, forward, head) + row * task.grad_b.row;
      back_store<T, kDim>(to_b, c, forward.width, sum_b[r]);
    }
  }
}

}  // namespace facetalk::cuda
