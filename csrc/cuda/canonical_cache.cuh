// Looking the canonical cache up on the device: the formulas of cpu/canonical_cache.cpp, in the same order.
// Without contraction (the emulation) answers are the CPU's to the bit; nvcc fuses multiply-adds, and values
// differ by rounding, at most about 4e-6 times the largest sample around.
#pragma once

#include "cuda/field_guided.h"
#include "cuda/portable.h"

namespace facetalk::cuda {

constexpr int kGuidedThreads = 128;
constexpr int kCacheCells = 4;                // of a brick, along each axis
constexpr int kCacheNodes = kCacheCells + 3;  // samples of a brick, along each axis
constexpr int kCacheBrick = kCacheNodes * kCacheNodes * kCacheNodes;

__device__ __forceinline__ int64_t guided_thread() {
  return static_cast<int64_t>(blockIdx.x) * kGuidedThreads + threadIdx.x;
}

// Lagrange's cubic through samples at -1, 0, 1, 2.
__device__ __forceinline__ void cache_weights(float t, float* w) {
  const float a = t + 1.0f;
  const float b = t - 1.0f;
  const float c = t - 2.0f;
  w[0] = t * b * c * (-1.0f / 6.0f);
  w[1] = a * b * c * 0.5f;
  w[2] = a * t * c * -0.5f;
  w[3] = a * t * b * (1.0f / 6.0f);
}

// Interpolated value at y and the bound of its error; false where nothing is cached.
__device__ inline bool cache_value(const CanonicalCache& cache, const float* y, float* out,
                                   float* error_bound) {
  float u[3];  // in cells of the level
  int64_t at = 0;
  for (int a = 0; a < 3; ++a) {
    u[a] = (y[a] - cache.origin[a]) / cache.spacing;
    if (!(u[a] >= 0.0f && u[a] < static_cast<float>(cache.shape[a] * kCacheCells))) return false;
    const int brick = static_cast<int>(u[a]) / kCacheCells;
    u[a] -= static_cast<float>(brick * kCacheCells);
    at = at * cache.shape[a] + brick;
  }
  int32_t entry = cache.table[at];
  while (entry < -1) {
    int child = 0;
    for (int a = 0; a < 3; ++a) {
      const bool upper = u[a] >= 0.5f * kCacheCells;
      child = 2 * child + (upper ? 1 : 0);
      u[a] = 2.0f * u[a] - (upper ? static_cast<float>(kCacheCells) : 0.0f);
    }
    entry = cache.children[8 * (-2 - static_cast<int64_t>(entry)) + child];
  }
  if (entry < 0) return false;
  *error_bound = cache.error[entry];
  float w[3][4];
  int cell[3];
  for (int a = 0; a < 3; ++a) {
    cell[a] = static_cast<int>(u[a]);
    // Rounding can put the last point of a brick beside it.
    cell[a] = cell[a] >= kCacheCells ? kCacheCells - 1 : cell[a] < 0 ? 0 : cell[a];
    cache_weights(u[a] - static_cast<float>(cell[a]), w[a]);
  }
  const float* from = cache.data + static_cast<int64_t>(entry) * kCacheBrick +
                      (cell[0] * kCacheNodes + cell[1]) * kCacheNodes + cell[2];
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

// Signed lower bound of the distance to the surface, 0 where unknown.
__device__ __forceinline__ float cache_distance(const CanonicalCache& cache, const float* y) {
  int64_t at = 0;
  for (int a = 0; a < 3; ++a) {
    const float u = (y[a] - cache.far_origin[a]) / cache.far_spacing;
    if (!(u >= 0.0f && u < static_cast<float>(cache.far_shape[a]))) return 0.0f;
    at = at * cache.far_shape[a] + static_cast<int64_t>(u);
  }
  return cache.far[at];
}

// The cell of local bounds that holds a point, or -1.
__device__ __forceinline__ int64_t bounds_cell(const FieldLocalBounds& bounds, const float* point) {
  int64_t index = bounds.levels > 0 ? 0 : -1;
  for (int a = 0; a < 3 && index >= 0; ++a) {
    const float u = (point[a] - bounds.origin[a]) * bounds.inverse_spacing[a];
    const bool there = u >= 0.0f && u < static_cast<float>(bounds.shape[a]);
    index = there ? index * bounds.shape[a] + static_cast<int64_t>(u) : -1;
  }
  return index;
}

// The greatest slope within `radius` of a point (0: at it); `everywhere` beyond the lattice and its reach.
__device__ __forceinline__ float bounds_within(const FieldLocalBounds& bounds, const float* point,
                                               float radius, float everywhere) {
  const int64_t index = bounds_cell(bounds, point);
  const int64_t size = static_cast<int64_t>(bounds.shape[0]) * bounds.shape[1] * bounds.shape[2];
  for (int l = 0; index >= 0 && l < bounds.levels; ++l) {
    if (bounds.reach[l] >= radius) return bounds.values[l * size + index];
  }
  return everywhere;
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
  far[i] = cache_distance(cache, points + 3 * i);
}

}  // namespace facetalk::cuda
