// The samples of a lattice near the surface, frame by frame, found on the device.
//
// The field is evaluated at every eighth sample (the nodes: corners of bricks). A brick between nodes that
// agree in sign, and are farther from zero on average than any of its points can be from them, is left out
// and only its sign kept. The others are looked at again in blocks of half their side, from nodes at every
// fourth sample, and what is left of those is evaluated at all samples. Then, until nothing contradicts,
// blocks that were left out are evaluated where a sample next to them differs from their sign. So every cell
// with a change of sign is made of evaluated samples, and a surface that an evaluated block touches is
// followed to its end; only a separate piece that no node sees can be missed.
#pragma once

#include "cuda/field/field.h"
#include "cuda/platform/portable.h"
#include "cuda/surface/brick_place.cuh"

namespace facetalk::cuda {

constexpr int kBandThreads = 128;

// The sign of brick `at`, or kBrickWanted where the surface may be. `node(c)` is where the values of corner c
// lie.
template <typename Node>
__device__ __forceinline__ int32_t classify(const FieldBricks& b, const int* at, const float* sdf,
                                            const float* raw, float lipschitz, Node node) {
  float edge[3];
  for (int a = 0; a < 3; ++a) {
    const int start = at[a] * b.side, last = b.shape[a] - 1;
    edge[a] = b.axis[a][start + b.side < last ? start + b.side : last] - b.axis[a][start];
  }
  float sum = 0.0f, reach = 0.0f;
  int inside = 0;
  for (int c = 0; c < 8; ++c) {
    float square = 0.0f;
    for (int a = 0; a < 3; ++a) square += (c >> a & 1) * edge[a] * edge[a];
    const int64_t here = node(c);
    sum += fabsf(raw[here]);
    inside += sdf[here] < 0.0f;
    // A point's mean distance to the corners is convex, so it is largest at a corner.
    reach += sqrtf(square);
  }
  const bool clear = (inside == 0 || inside == 8) && sum > lipschitz * reach;
  return !clear ? kBrickWanted : inside ? kBrickInside : kBrickOutside;
}

__global__ void __launch_bounds__(kBandThreads)
    field_classify_kernel(FieldBricks b, const float* node_sdf, const float* node_raw, float lipschitz,
                          int32_t* table) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kBandThreads + threadIdx.x;
  if (index >= b.count) return;
  const BrickPlace place = place_of(b, index);
  table[index] = classify(b, place.at, node_sdf, node_raw, lipschitz, [&](int c) {
    int64_t at = place.frame;
    for (int a = 0; a < 3; ++a) at = at * (b.bricks[a] + 1) + place.at[a] + (c >> a & 1);
    return at;
  });
}

// The eight blocks of each listed brick (-1: none), from the brick's 3 x 3 x 3 nodes.
__global__ void __launch_bounds__(kBandThreads)
    field_classify_blocks_kernel(FieldBricks bricks, FieldBricks blocks, const int64_t* list, int64_t listed,
                                 const float* node_sdf, const float* node_raw, float lipschitz,
                                 int32_t* table) {
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kBandThreads + threadIdx.x;
  const int64_t entry = thread / 8;
  if (entry >= listed || list[entry] < 0) return;
  const BrickPlace place = place_of(bricks, list[entry]);
  const int block = static_cast<int>(thread % 8);
  int at[3];
  int64_t index = place.frame;
  for (int a = 0; a < 3; ++a) {
    at[a] = 2 * place.at[a] + (block >> a & 1);
    if (at[a] >= blocks.bricks[a]) return;  // beyond the lattice
    index = index * blocks.bricks[a] + at[a];
  }
  table[index] = classify(blocks, at, node_sdf, node_raw, lipschitz, [&](int c) {
    int64_t node = entry;
    for (int a = 0; a < 3; ++a) node = node * 3 + (block >> a & 1) + (c >> a & 1);
    return node;
  });
}

// points (listed, points^3, 3), z fastest: the samples of listed bricks, `step` apart from their first.
// Samples beyond the lattice repeat its last ones; entries of -1 are some brick's.
__global__ void __launch_bounds__(kBandThreads)
    field_brick_points_kernel(FieldBricks b, const int64_t* list, int64_t listed, int side, int step,
                              float* points) {
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kBandThreads + threadIdx.x;
  const int64_t entry = thread / (side * side * side);
  if (entry >= listed) return;
  const int within = static_cast<int>(thread % (side * side * side));
  const BrickPlace place = place_of(b, list[entry] < 0 ? 0 : list[entry]);
  const int offset[3] = {within / (side * side), within / side % side, within % side};
  for (int a = 0; a < 3; ++a) {
    const int sample = place.at[a] * b.side + offset[a] * step;
    points[3 * thread + a] = b.axis[a][sample < b.shape[a] ? sample : b.shape[a] - 1];
  }
}

// Whether the samples of evaluated brick `at` that touch its neighbour in direction -step have the sign
// `inside`.
__device__ __forceinline__ bool touches_agree(const FieldBricks& b, const float* samples, const int* at,
                                              const int* step, bool inside) {
  int from[3], to[3];
  for (int a = 0; a < 3; ++a) {
    const int left = b.shape[a] - b.side * at[a], end = left < b.side ? left : b.side;
    from[a] = step[a] < 0 ? b.side - 1 : 0;
    to[a] = step[a] > 0 ? 1 : end;
  }
  for (int i = from[0]; i < to[0]; ++i) {
    for (int j = from[1]; j < to[1]; ++j) {
      for (int k = from[2]; k < to[2]; ++k) {
        if ((samples[(i * b.side + j) * b.side + k] < 0.0f) != inside) return false;
      }
    }
  }
  return true;
}

// wanted: 1 for a brick that was left out and that a neighbour contradicts. A warp for each brick, a lane for
// each neighbour.
__global__ void __launch_bounds__(kBandThreads)
    field_contradictions_kernel(FieldBricks b, const int32_t* table, const float* samples, uint8_t* wanted) {
  const int64_t index = (static_cast<int64_t>(blockIdx.x) * kBandThreads + threadIdx.x) / 32;
  if (index >= b.count) return;
  const int lane = threadIdx.x % 32;
  const int32_t mine = table[index];
  bool wrong = false;
  if (mine < 0 && lane < 27 && lane != 13) {
    const BrickPlace place = place_of(b, index);
    const int step[3] = {lane / 9 - 1, lane / 3 % 3 - 1, lane % 3 - 1};
    int at[3];
    bool there = true;
    for (int a = 0; a < 3; ++a) {
      at[a] = place.at[a] + step[a];
      there = there && at[a] >= 0 && at[a] < b.bricks[a];
    }
    if (there) {
      const int64_t other = ((place.frame * b.bricks[0] + at[0]) * b.bricks[1] + at[1]) * b.bricks[2] + at[2];
      const int32_t theirs = table[other];
      const int64_t cube = static_cast<int64_t>(b.side) * b.side * b.side;
      // Neighbours that were both left out share a node, so their signs agree.
      wrong = theirs >= 0 && !touches_agree(b, samples + theirs * cube, at, step, mine == kBrickInside);
    }
  }
  const bool any = __any_sync(kAllLanes, wrong) != 0;
  if (lane == 0) wanted[index] = any ? 1 : 0;
}

}  // namespace facetalk::cuda
