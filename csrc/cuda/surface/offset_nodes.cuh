// Offsets of a deformation on coarse lattices of nodes, interpolated between (tricubic, Lagrange): the
// formulas of cpu/surface/offset_lattice.cpp, in the same order. A block of kGuidedThreads interpolates a brick at a
// time.
#pragma once

#include "core/cubic.h"
#include "cuda/platform/portable.h"
#include "cuda/surface/brick_place.cuh"
#include "cuda/surface/canonical_cache.cuh"
#include "cuda/surface/field_guided.h"

namespace facetalk::cuda {

constexpr int kMostWindow = 5;  // nodes of a brick along an axis: 4 for a cell, one more for half cells

// The nodes that a brick's samples are interpolated from.
struct NodeWindow {
  int first[3];
  int count;  // along each axis
};

__device__ __forceinline__ NodeWindow window_of(const FieldNodes& nodes, const int* at) {
  NodeWindow w;
  for (int a = 0; a < 3; ++a) w.first[a] = at[a] * kBrickSide / nodes.spacing;
  w.count = nodes.spacing < kBrickSide ? 3 + kBrickSide / nodes.spacing : 4;
  return w;
}

__device__ __forceinline__ int64_t node_at(const FieldNodes& nodes, int64_t frame, int i, int j, int k) {
  return frame * nodes.nodes + (static_cast<int64_t>(i) * nodes.shape[1] + j) * nodes.shape[2] + k;
}

// One of the eight half-size cells of a brick is probed, another one in each neighbour.
__device__ __forceinline__ int64_t probed_cell(const FieldNodes& nodes, const BrickPlace& place) {
  const NodeWindow w = window_of(nodes, place.at);
  const int* b = place.at;
  const int cells = w.count - 3;
  return node_at(nodes, place.frame, w.first[0] + (b[1] + b[2]) % cells, w.first[1] + (b[0] + b[2]) % cells,
                 w.first[2] + (b[0] + b[1]) % cells);
}

// The largest of the errors probed in a brick and in those around it; at least 0.
__device__ __forceinline__ float probed_error(const FieldNodes& nodes, const BrickPlace& place) {
  float most = 0.0f;
  for (int n = 0; n < 27; ++n) {
    BrickPlace other = place;
    const int step[3] = {n / 9 - 1, n / 3 % 3 - 1, n % 3 - 1};
    bool there = true;
    for (int a = 0; a < 3; ++a) {
      other.at[a] += step[a];
      there = there && other.at[a] >= 0;
    }
    if (!there) continue;
    const NodeWindow w = window_of(nodes, other.at);
    for (int a = 0; a < 3; ++a) there = there && w.first[a] + w.count <= nodes.shape[a];
    if (there) most = fmaxf(most, nodes.error[probed_cell(nodes, other)]);
  }
  return most;
}

// Shared memory of a block that interpolates a brick's offsets, one axis after the other.
struct BrickOffsets {
  float weight[3][kBrickSide][kMostWindow];
  float first[3][kMostWindow][kMostWindow][kBrickSide];  // x nodes, y nodes, z samples
  float second[3][kMostWindow][kBrickSide][kBrickSide];  // x nodes, y samples, z samples
};

// All threads of the block take part; offset_of() may be called when it returns.
__device__ inline void interpolate_brick(const FieldNodes& nodes, const BrickPlace& place,
                                         BrickOffsets& shared) {
  const int thread = static_cast<int>(threadIdx.x);
  const NodeWindow w = window_of(nodes, place.at);
  if (thread < 3 * kBrickSide) {
    const int a = thread / kBrickSide, s = thread % kBrickSide;
    const int sample = place.at[a] * kBrickSide + s;
    float* weight = shared.weight[a][s];
    for (int n = 0; n < kMostWindow; ++n) weight[n] = 0.0f;
    cubic_weights(static_cast<float>(sample % nodes.spacing) / static_cast<float>(nodes.spacing),
                  weight + (sample / nodes.spacing - w.first[a]));
  }
  __syncthreads();
  constexpr int kFirst = kMostWindow * kMostWindow * kBrickSide;
  for (int e = thread; e < 3 * kFirst; e += kGuidedThreads) {
    const int c = e / kFirst, i = e % kFirst / (kMostWindow * kBrickSide);
    const int j = e / kBrickSide % kMostWindow, k = e % kBrickSide;
    float sum = 0.0f;
    if (i < w.count && j < w.count) {
      const float* row =
          nodes.offset + 3 * node_at(nodes, place.frame, w.first[0] + i, w.first[1] + j, w.first[2]) + c;
      for (int n = 0; n < w.count; ++n) sum += row[3 * n] * shared.weight[2][k][n];
    }
    shared.first[c][i][j][k] = sum;
  }
  __syncthreads();
  constexpr int kSecond = kMostWindow * kBrickSide * kBrickSide;
  for (int e = thread; e < 3 * kSecond; e += kGuidedThreads) {
    const int c = e / kSecond, i = e % kSecond / (kBrickSide * kBrickSide);
    const int j = e / kBrickSide % kBrickSide, k = e % kBrickSide;
    float sum = 0.0f;
    for (int n = 0; n < w.count; ++n) sum += shared.weight[1][j][n] * shared.first[c][i][n][k];
    shared.second[c][i][j][k] = sum;
  }
  __syncthreads();
}

__device__ __forceinline__ float offset_of(const BrickOffsets& shared, int c, int i, int j, int k) {
  float sum = 0.0f;
  for (int n = 0; n < kMostWindow; ++n) sum += shared.weight[0][i][n] * shared.second[c][n][j][k];
  return sum;
}

__global__ void __launch_bounds__(kGuidedThreads)
    guided_node_points_kernel(FieldNodes nodes, double shift, const int64_t* list, int64_t listed,
                              float* points) {
  const int64_t entry = guided_thread();
  if (entry >= listed) return;
  int64_t rest = (list[entry] < 0 ? 0 : list[entry]) % nodes.nodes;
  for (int a = 2; a >= 0; --a) {
    const double at = static_cast<double>(rest % nodes.shape[a]) + shift;
    points[3 * entry + a] = static_cast<float>(nodes.origin[a] + nodes.step[a] * at);
    rest /= nodes.shape[a];
  }
}

__global__ void __launch_bounds__(kGuidedThreads)
    guided_probe_errors_kernel(FieldNodes nodes, const int64_t* list, int64_t listed, const float* offsets) {
  const int64_t entry = guided_thread();
  if (entry >= listed || list[entry] < 0) return;
  float w[4];
  cubic_weights(0.5f, w);
  float square = 0.0f;
  for (int c = 0; c < 3; ++c) {
    float sum = 0.0f;
    for (int i = 0; i < 4; ++i) {
      for (int j = 0; j < 4; ++j) {
        const int64_t ahead = (static_cast<int64_t>(i) * nodes.shape[1] + j) * nodes.shape[2];
        const float* row = nodes.offset + 3 * (list[entry] + ahead) + c;
        sum += w[i] * w[j] * (w[0] * row[0] + w[1] * row[3] + w[2] * row[6] + w[3] * row[9]);
      }
    }
    const float d = sum - offsets[3 * entry + c];
    square += d * d;
  }
  nodes.error[list[entry]] = sqrtf(square);
}

}  // namespace facetalk::cuda
