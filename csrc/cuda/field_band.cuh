// The bricks of a lattice that hold the surface, frame by frame, found on the device.
//
// The field is evaluated at every eighth sample (the nodes: corners of bricks). A brick between nodes that
// agree in sign, and are farther from zero on average than any of its points can be from them, is left out
// and only its sign kept; the rest is evaluated at all of its 8 x 8 x 8 samples. Then, until nothing
// contradicts, bricks that were left out are evaluated where a sample next to them, or the sign of a
// neighbour that was left out too, differs from theirs. So every cell with a change of sign is made of
// evaluated samples, and a surface that a stored brick touches is followed to its end; only a separate piece
// that no node sees can be missed.
#pragma once

#include "cuda/field.h"
#include "cuda/portable.h"

namespace facetalk::cuda {

constexpr int kBandThreads = 128;

struct BrickPlace {
  int64_t frame;
  int at[3];  // brick along each axis
};

__device__ __forceinline__ BrickPlace place_of(const FieldBricks& b, int64_t index) {
  const int64_t per_frame = static_cast<int64_t>(b.bricks[0]) * b.bricks[1] * b.bricks[2];
  BrickPlace place;
  place.frame = index / per_frame;
  int rest = static_cast<int>(index - place.frame * per_frame);
  place.at[2] = rest % b.bricks[2];
  rest /= b.bricks[2];
  place.at[1] = rest % b.bricks[1];
  place.at[0] = rest / b.bricks[1];
  return place;
}

// A brick's sign (kBrickOutside, kBrickInside), or kBrickWanted where the surface may be.
__global__ void __launch_bounds__(kBandThreads)
    field_classify_kernel(FieldBricks b, const float* node_sdf, const float* node_raw, float lipschitz,
                          int32_t* table) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kBandThreads + threadIdx.x;
  if (index >= b.count) return;
  const BrickPlace place = place_of(b, index);
  int nodes[3];
  float edge[3];
  for (int a = 0; a < 3; ++a) {
    nodes[a] = b.bricks[a] + 1;
    const int start = place.at[a] * 8, last = b.shape[a] - 1;
    edge[a] = b.axis[a][start + 8 < last ? start + 8 : last] - b.axis[a][start];
  }
  float sum = 0.0f, reach = 0.0f;
  int inside = 0;
  for (int c = 0; c < 8; ++c) {
    int64_t at = place.frame;
    float square = 0.0f;
    for (int a = 0; a < 3; ++a) {
      at = at * nodes[a] + place.at[a] + (c >> a & 1);
      square += (c >> a & 1) * edge[a] * edge[a];
    }
    sum += fabsf(node_raw[at]);
    inside += node_sdf[at] < 0.0f;
    // A point's mean distance to the corners is convex, so it is largest at a corner.
    reach += sqrtf(square);
  }
  const bool clear = (inside == 0 || inside == 8) && sum > lipschitz * reach;
  table[index] = !clear ? kBrickWanted : inside ? kBrickInside : kBrickOutside;
}

// Samples of a list of bricks: points (listed, 512, 3), z fastest, and the frame of each brick. Samples
// beyond the lattice repeat its last ones.
__global__ void __launch_bounds__(kBandThreads)
    field_brick_points_kernel(FieldBricks b, const int64_t* list, int64_t listed, float* points,
                              int32_t* frame) {
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kBandThreads + threadIdx.x;
  const int64_t brick = thread / 512;
  if (brick >= listed) return;
  const int within = static_cast<int>(thread % 512);
  const BrickPlace place = place_of(b, list[brick]);
  for (int a = 0; a < 3; ++a) {
    const int sample = place.at[a] * 8 + (within >> (6 - 3 * a) & 7);
    points[3 * thread + a] = b.axis[a][sample < b.shape[a] ? sample : b.shape[a] - 1];
  }
  if (within == 0) frame[brick] = static_cast<int32_t>(place.frame);
}

// Whether the samples of stored brick `at` that touch its neighbour in direction -step have the sign
// `inside`.
__device__ __forceinline__ bool touches_agree(const FieldBricks& b, const float* samples, const int* at,
                                              const int* step, bool inside) {
  int from[3], to[3];
  for (int a = 0; a < 3; ++a) {
    const int left = b.shape[a] - 8 * at[a], end = left < 8 ? left : 8;
    from[a] = step[a] < 0 ? 7 : 0;
    to[a] = step[a] > 0 ? 1 : end;
  }
  for (int i = from[0]; i < to[0]; ++i) {
    for (int j = from[1]; j < to[1]; ++j) {
      for (int k = from[2]; k < to[2]; ++k) {
        if ((samples[(i * 8 + j) * 8 + k] < 0.0f) != inside) return false;
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
      wrong = theirs < 0 ? theirs != mine
                         : !touches_agree(b, samples + static_cast<int64_t>(theirs) * 512, at, step,
                                          mine == kBrickInside);
    }
  }
  const bool any = __any_sync(kAllLanes, wrong) != 0;
  if (lane == 0) wanted[index] = any ? 1 : 0;
}

}  // namespace facetalk::cuda
