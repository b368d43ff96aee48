// Looking the canonical cache up on the device: the formulas of cpu/surface/canonical_cache.cpp, in the same order.
// Without contraction (the emulation) answers are the CPU's to the bit; nvcc fuses multiply-adds, and values
// differ by rounding, at most about 4e-6 times the largest sample around.
#pragma once

#include "core/cubic.h"
#include "cuda/platform/portable.h"
#include "cuda/surface/field_guided.h"

namespace facetalk::cuda {

constexpr int kGuidedThreads = 128;

__device__ __forceinline__ int64_t guided_thread() {
  return static_cast<int64_t>(blockIdx.x) * kGuidedThreads + threadIdx.x;
}

// Interpolated value at y and the bound of its error; false where nothing is cached.
__device__ inline bool cache_value(const CanonicalCache& cache, const float* y, float* out,
                                   float* error_bound) {
  float u[3];
  const int32_t brick = cache.find(y, u);
  if (brick < 0) return false;
  *error_bound = cache.error[brick];
  float w[3][4];
  int cell[3];
  for (int a = 0; a < 3; ++a) {
    cell[a] = CanonicalCache::cell_at(u[a]);
    cubic_weights(u[a] - static_cast<float>(cell[a]), w[a]);
  }
  const float* from = cache.samples(brick, cell);
  float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  for (int i = 0; i < 4; ++i) {
    float slab[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int j = 0; j < 4; ++j) {
      const float* row = from + (i * kCacheNodes + j) * kCacheNodes;
      for (int k = 0; k < 4; ++k) slab[k] += w[1][j] * row[k];
    }
    for (int k = 0; k < 4; ++k) sum[k] += w[0][i] * slab[k];
  }
  *out = sum[0] * w[2][0] + sum[1] * w[2][1] + sum[2] * w[2][2] + sum[3] * w[2][3];
  return true;
}

__global__ void __launch_bounds__(kGuidedThreads)
    canonical_cache_query_kernel(CanonicalCache cache, const float* points, int64_t n, float* values,
                                 uint8_t* covered, float* far, float* error) {
  const int64_t i = guided_thread();
  if (i >= n) return;
  float value = 0.0f, bound = 0.0f;
  covered[i] = cache_value(cache, points + 3 * i, &value, &bound) ? 1 : 0;
  values[i] = value;
  error[i] = bound;
  far[i] = cache.distance(points + 3 * i);
}

}  // namespace facetalk::cuda
