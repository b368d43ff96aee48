// The samples of a lattice near the surface, frame by frame, found on the device.
//
// The field is evaluated at nodes: every second sample of the lattice has a place for its value, and every eighth
// is evaluated first, the corners of blocks of 8^3 samples. A block whose corners agree in sign, and which what is
// known to be free of surface around them covers, is left out and only its sign kept. The others are looked at
// again in blocks of half their side, from nodes between, down to blocks of 2^3, and what is left of those is
// evaluated at all samples. Then, until nothing contradicts, blocks that were left out are evaluated where a sample
// next to them differs from their sign. So every cell with a change of sign is made of evaluated samples, and a
// surface that an evaluated block touches is followed to its end; only a separate piece that no node sees can be
// missed.
//
// Around a corner with value v, all within |v| / slope is free of surface. The slope is measured: between the
// corners of the block, with a margin, where it is small enough for that to mean something; at most `lipschitz`.
#pragma once

#include "cuda/field/field.h"
#include "cuda/platform/portable.h"
#include "cuda/surface/brick_place.cuh"

namespace facetalk::cuda {

constexpr int kBandThreads = 128;

constexpr int kCover = 8;  // cells along an edge by which a block is looked at for what is not covered
constexpr float kSlopeMargin =
    1.1f;  // on slopes between corners, which are means: as surface/slopes.py has it
constexpr float kLeastSlope = 1.1f;  // of a signed distance, with that margin; a flat spot is no flat field
constexpr float kSlopeScale =
    0.07f;  // head units, over which NPHM's blending weights change: edges of blocks
            // whose slopes are measured

// Along an axis: places for every second sample from the first, and for the last.
__host__ __device__ constexpr int band_nodes(int samples) { return (samples + 1) / 2 + 1; }

// table: the sign of each block, or kBrickWanted where the surface may be; from nodes, (frames, band_nodes of each
// axis), of which a sign bit says inside. parents: the table of blocks of twice the side, whose signs stay; null:
// all are looked at. A thread for each block; those that have to be looked at are few, and the warp takes them one
// after the other.
__device__ int32_t classified(const FieldBricks& b, const float* nodes, float lipschitz, int64_t index) {
  const int lane = threadIdx.x % 32;
  const BrickPlace place = place_of(b, index);
  // Each corner has four lanes.
  float edge[3];
  int64_t at = place.frame;
  bool small = true;
  for (int a = 0; a < 3; ++a) {
    const int start = place.at[a] * b.side, last = b.shape[a] - 1, count = band_nodes(b.shape[a]);
    const int node = (place.at[a] + (lane >> a & 1)) * (b.side / 2);
    edge[a] = b.axis[a][start + b.side < last ? start + b.side : last] - b.axis[a][start];
    small = small && edge[a] <= kSlopeScale;
    at = at * count + (node < count ? node : count - 1);
  }
  const float value = nodes[at];
  const unsigned inside = __ballot_sync(kAllLanes, __float_as_uint(value) >> 31 != 0);
  float square = 0.0f, diagonal = 0.0f;
  for (int a = 0; a < 3; ++a) {
    float rise = fabsf(__shfl_xor_sync(kAllLanes, value, 1 << a) - value);
    rise = fmaxf(rise, __shfl_xor_sync(kAllLanes, rise, 1 << (a + 1) % 3));
    rise = fmaxf(rise, __shfl_xor_sync(kAllLanes, rise, 1 << (a + 2) % 3));
    if (edge[a] > 0.0f) rise = rise / edge[a];
    square += rise * rise;
    diagonal += edge[a] * edge[a];
  }
  const float slope = small ? fminf(lipschitz, fmaxf(kLeastSlope, kSlopeMargin * sqrtf(square))) : lipschitz;
  // A cell is covered when its middle is nearer to a corner than what is free around that, less half the cell.
  const float left = fabsf(value) / slope - 0.5f / kCover * sqrtf(diagonal);
  const float reach = left >= 0.0f ? left * left : -1.0f;
  float reaches[8];
  FACETALK_UNROLL()
  for (int c = 0; c < 8; ++c) reaches[c] = __shfl_sync(kAllLanes, reach, c);
  bool covered = true;
  for (int cell = lane; cell < kCover * kCover * kCover; cell += 32) {
    const int middle[3] = {cell / (kCover * kCover), cell / kCover % kCover, cell % kCover};
    float near[3], far[3];  // squares of the distances along each axis to the lower and the upper corners
    for (int a = 0; a < 3; ++a) {
      const float below = (static_cast<float>(middle[a]) + 0.5f) / kCover * edge[a], above = edge[a] - below;
      near[a] = below * below;
      far[a] = above * above;
    }
    bool free = false;
    FACETALK_UNROLL()
    for (int c = 0; c < 8; ++c) {
      const float distance =
          (c & 1 ? far[0] : near[0]) + (c & 2 ? far[1] : near[1]) + (c & 4 ? far[2] : near[2]);
      free = free || distance <= reaches[c];
    }
    covered = covered && free;
  }
  const bool clear = __all_sync(kAllLanes, covered) != 0 && (inside == 0 || inside == kAllLanes);
  return !clear ? kBrickWanted : inside != 0 ? kBrickInside : kBrickOutside;
}

__global__ void __launch_bounds__(kBandThreads)
    field_classify_kernel(FieldBricks b, const float* nodes, const int32_t* parents, float lipschitz,
                          int32_t* table) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kBandThreads + threadIdx.x;
  const int lane = threadIdx.x % 32;
  const bool there = index < b.count;
  int32_t mine = kBrickWanted;
  if (there && parents != nullptr) {
    const BrickPlace place = place_of(b, index);
    int64_t above = place.frame;
    for (int a = 0; a < 3; ++a) above = above * ((b.bricks[a] + 1) / 2) + place.at[a] / 2;
    mine = parents[above];
  }
  for (unsigned left = __ballot_sync(kAllLanes, there && mine == kBrickWanted); left != 0; left &= left - 1) {
    const int which = __ffs(static_cast<int>(left)) - 1;
    const int32_t found = classified(b, nodes, lipschitz, index - lane + which);
    if (lane == which) mine = found;
  }
  if (there) table[index] = mine;
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
__device__ bool contradicted(const FieldBricks& b, const int32_t* table, const float* samples,
                             int64_t index) {
  const int lane = threadIdx.x % 32;
  const bool inside = table[index] == kBrickInside;
  bool wrong = false;
  if (lane < 27 && lane != 13) {
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
      wrong = theirs >= 0 && !touches_agree(b, samples + theirs * cube, at, step, inside);
    }
  }
  return __any_sync(kAllLanes, wrong) != 0;
}

// A thread for each brick sees whether a neighbour is stored, which is so for few of those that are not; the warp
// compares them one after the other.
__global__ void __launch_bounds__(kBandThreads)
    field_contradictions_kernel(FieldBricks b, const int32_t* table, const float* samples, uint8_t* wanted) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kBandThreads + threadIdx.x;
  const int lane = threadIdx.x % 32;
  bool near = false;
  if (index < b.count && table[index] < 0) {
    const BrickPlace place = place_of(b, index);
    for (int row = 0; row < 9; ++row) {
      const int i = place.at[0] + row / 3 - 1, j = place.at[1] + row % 3 - 1;
      if (i < 0 || i >= b.bricks[0] || j < 0 || j >= b.bricks[1]) continue;
      const int32_t* their = table + ((place.frame * b.bricks[0] + i) * b.bricks[1] + j) * b.bricks[2];
      const int k = place.at[2];
      near =
          near || their[k] >= 0 || (k > 0 && their[k - 1] >= 0) || (k + 1 < b.bricks[2] && their[k + 1] >= 0);
    }
  }
  uint8_t mine = 0;
  for (unsigned left = __ballot_sync(kAllLanes, near); left != 0; left &= left - 1) {
    const int which = __ffs(static_cast<int>(left)) - 1;
    const bool wrong = contradicted(b, table, samples, index - lane + which);
    if (lane == which) mine = wrong ? 1 : 0;
  }
  if (index < b.count) wanted[index] = mine;
}

}  // namespace facetalk::cuda
