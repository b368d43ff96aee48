// Windows of a few keys, and of one.
#pragma once

#include "cuda/attention/attention_common.cuh"

namespace facetalk::cuda {

constexpr int kCopyThreads = 128;
constexpr int kCopyRows = 64;  // of a block

// Row i of out is row i of value, 0 past the last key. A block moves kCopyRows rows of one head, `units`
// times 16 bytes each.
template <typename T>
__global__ void __launch_bounds__(kCopyThreads)
    attention_copy(const AttentionTask task, unsigned blocks, int units) {
  const unsigned head = blockIdx.x / blocks;
  const int first = static_cast<int>(blockIdx.x % blocks) * kCopyRows;
  const T* value = head_of<const T>(task.value, task, head);
  T* out = head_of<T>(task.out, task, head);
  const int count = min(kCopyRows, task.rows - first) * units;
  for (int n = static_cast<int>(threadIdx.x); n < count; n += kCopyThreads) {
    const int row = first + n / units;
    const int at = n % units * Unit<T>::kItems;
    *reinterpret_cast<uint4*>(out + row * task.out.row + at) =
        Unit<T>::load(value, row * task.value.row + at, row < task.keys);
  }
}

constexpr int kNarrowThreads = 64;
constexpr int kNarrowQueries = 4;  // consecutive queries of a group of lanes: keys are read once for the four
constexpr int kNarrowStep = 4;     // keys of a step: their eight loads are under way together

// kLanes lanes, each with 16 bytes of every row, share kNarrowQueries queries. Scores are summed across them
// by shuffles; the groups of a warp take the same number of steps, so all lanes take part in each.
template <typename T, int kLanes>
__global__ void __launch_bounds__(kNarrowThreads)
    attention_narrow(const AttentionTask task, unsigned blocks) {
  constexpr int kItems = Unit<T>::kItems;
  const unsigned head = blockIdx.x / blocks;
  const int group = static_cast<int>(blockIdx.x % blocks) * (kNarrowThreads / kLanes) +
                    static_cast<int>(threadIdx.x) / kLanes;
  const int at = static_cast<int>(threadIdx.x) % kLanes * kItems;
  const int first = group * kNarrowQueries;  // at most a block past the last row
  const T* queries = head_of<const T>(task.query, task, head);
  const T* keys = head_of<const T>(task.key, task, head);
  const T* values = head_of<const T>(task.value, task, head);

  float query[kNarrowQueries][kItems];
  float sum[kNarrowQueries][kItems] = {};
  SoftmaxRow row[kNarrowQueries];
  FACETALK_UNROLL()
  for (int q = 0; q < kNarrowQueries; ++q) {
    const bool valid = first + q < task.rows && at < task.depth;
    Unit<T>::unpack(Unit<T>::load(queries, (first + q) * task.query.row + at, valid), query[q]);
    FACETALK_UNROLL()
    for (int i = 0; i < kItems; ++i) query[q][i] *= task.scale;
  }

  const int reach = task.left + task.right;  // keys of a window, less one
  for (int start = 0; start < reach + kNarrowQueries; start += kNarrowStep) {
    uint4 key_raw[kNarrowStep];
    uint4 value_raw[kNarrowStep];
    FACETALK_UNROLL()
    for (int k = 0; k < kNarrowStep; ++k) {
      const int j = first - task.left + start + k;
      const bool valid = j >= 0 && j < task.keys && start + k < reach + kNarrowQueries;
      key_raw[k] = Unit<T>::load(keys, j * task.key.row + at, valid && at < task.depth);
      value_raw[k] = Unit<T>::load(values, j * task.value.row + at, valid && at < task.width);
    }
    float score[kNarrowQueries][kNarrowStep];
    FACETALK_UNROLL()
    for (int k = 0; k < kNarrowStep; ++k) {
      const int j = first - task.left + start + k;
      float key[kItems];
      Unit<T>::unpack(key_raw[k], key);
      FACETALK_UNROLL()
      for (int q = 0; q < kNarrowQueries; ++q) {
        float dot = 0.0f;
        FACETALK_UNROLL()
        for (int i = 0; i < kItems; ++i) dot = fmaf(query[q][i], key[i], dot);
        FACETALK_UNROLL()
        for (int step = kLanes / 2; step > 0; step /= 2) dot += __shfl_xor_sync(kAllLanes, dot, step);
        const int past = start + k - q;  // keys after the window's first
        const bool seen = j >= 0 && j < task.keys && past >= 0 && past <= reach;
        score[q][k] = seen ? dot : kNothingSeen;
      }
    }
    float value[kNarrowStep][kItems];
    FACETALK_UNROLL()
    for (int k = 0; k < kNarrowStep; ++k) Unit<T>::unpack(value_raw[k], value[k]);
    FACETALK_UNROLL()
    for (int q = 0; q < kNarrowQueries; ++q) {
      float largest = score[q][0];
      FACETALK_UNROLL()
      for (int k = 1; k < kNarrowStep; ++k) largest = fmaxf(largest, score[q][k]);
      float reference;
      const float factor = row[q].shrink(largest, reference);
      FACETALK_UNROLL()
      for (int i = 0; i < kItems; ++i) sum[q][i] *= factor;
      FACETALK_UNROLL()
      for (int k = 0; k < kNarrowStep; ++k) {
        const float weight = fast_exp2(score[q][k] - reference);
        row[q].total += weight;
        FACETALK_UNROLL()
        for (int i = 0; i < kItems; ++i) sum[q][i] = fmaf(weight, value[k][i], sum[q][i]);
      }
    }
  }

  T* out = head_of<T>(task.out, task, head);
  FACETALK_UNROLL()
  for (int q = 0; q < kNarrowQueries; ++q) {
    if (first + q >= task.rows) break;
    const float inverse = row[q].inverse();
    FACETALK_UNROLL()
    for (int i = 0; i < kItems; ++i) sum[q][i] *= inverse;
    if (at < task.width) {
      *reinterpret_cast<uint4*>(out + (first + q) * task.out.row + at) = Unit<T>::pack(sum[q]);
    }
    if (task.lse != nullptr && at == 0) {
      task.lse[static_cast<int64_t>(head) * task.rows + first + q] = row[q].log_sum();
    }
  }
}

}  // namespace facetalk::cuda
