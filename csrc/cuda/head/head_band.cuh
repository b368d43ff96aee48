// Kernels between those of csrc/cuda/surface/field_band.cuh: which nodes are evaluated next, and bricks put together.
// A thread for each of many things.
#pragma once

#include "cuda/field/field.h"
#include "cuda/platform/portable.h"
#include "cuda/surface/brick_place.cuh"

namespace facetalk::cuda {

constexpr int kSearchThreads = 256;

__device__ __forceinline__ int64_t search_thread() {
  return static_cast<int64_t>(blockIdx.x) * kSearchThreads + threadIdx.x;
}

// Nodes of a lattice, or every `stride`-th of them: `count` of those along each axis, the last of which may name
// the border's.
struct NodeGrid {
  const float* axis[3];
  int nodes[3];
  int count[3];
  int stride;
};

// points (n, 3) of listed places of the grid (null: of those from `start` on), and their numbers among all nodes.
__global__ void __launch_bounds__(kSearchThreads)
    search_nodes_kernel(NodeGrid grid, const int64_t* list, int64_t start, int64_t n, float* points,
                        int64_t* number) {
  const int64_t e = search_thread();
  if (e >= n) return;
  int64_t rest = list == nullptr ? start + e : list[e];
  int at[3];
  for (int a = 2; a >= 0; --a) {
    at[a] = static_cast<int>(rest % grid.count[a]) * grid.stride;
    if (at[a] >= grid.nodes[a]) at[a] = grid.nodes[a] - 1;
    rest /= grid.count[a];
  }
  for (int a = 0; a < 3; ++a) points[3 * e + a] = grid.axis[a][at[a]];
  number[e] = (static_cast<int64_t>(at[0]) * grid.nodes[1] + at[1]) * grid.nodes[2] + at[2];
}

// Values of nodes: the size without NPHM's fade far from the anchors, and the sign.
__global__ void __launch_bounds__(kSearchThreads)
    search_store_kernel(const int64_t* number, int64_t n, const float* sdf, const float* raw_sdf,
                        float* values) {
  const int64_t e = search_thread();
  if (e >= n) return;
  const float size = fabsf(raw_sdf[e]);
  values[number[e]] = sdf[e] < 0.0f ? -size : size;
}

// flags of the grid of half blocks' corners, (2 blocks + 1 along each axis): 1 for those that halve an edge, a face
// or the inside of a wanted block.
__global__ void __launch_bounds__(kSearchThreads)
    search_between_kernel(FieldBricks blocks, const int32_t* table, int64_t n, int32_t* flags) {
  const int64_t e = search_thread();
  if (e >= n) return;
  int64_t rest = e;
  int first[3], last[3];
  bool corner = true;
  for (int a = 2; a >= 0; --a) {
    const int side = 2 * blocks.bricks[a] + 1, at = static_cast<int>(rest % side);
    rest /= side;
    corner = corner && at % 2 == 0;
    first[a] = at % 2 == 0 ? at / 2 - 1 : at / 2;
    last[a] = at / 2;
    if (first[a] < 0) first[a] = 0;
    if (last[a] >= blocks.bricks[a]) last[a] = blocks.bricks[a] - 1;
  }
  bool wanted = false;
  for (int i = first[0]; !corner && i <= last[0]; ++i) {
    for (int j = first[1]; j <= last[1]; ++j) {
      for (int k = first[2]; k <= last[2]; ++k) {
        const int64_t block = (static_cast<int64_t>(i) * blocks.bricks[1] + j) * blocks.bricks[2] + k;
        wanted = wanted || table[block] == kBrickWanted;
      }
    }
  }
  flags[e] = wanted ? 1 : 0;
}

__global__ void __launch_bounds__(kSearchThreads)
    search_wanted_kernel(const int32_t* table, int64_t n, int32_t* flags) {
  const int64_t e = search_thread();
  if (e < n) flags[e] = table[e] == kBrickWanted ? 1 : 0;
}

__global__ void __launch_bounds__(kSearchThreads)
    search_contradicted_kernel(const uint8_t* wanted, int64_t n, int32_t* flags) {
  const int64_t e = search_thread();
  if (e < n) flags[e] = wanted[e];
}

// Listed blocks are stored from number `first` on.
__global__ void __launch_bounds__(kSearchThreads)
    search_number_kernel(const int64_t* list, int64_t n, int64_t first, int32_t* table) {
  const int64_t e = search_thread();
  if (e < n) table[list[e]] = static_cast<int32_t>(first + e);
}

// Bricks of 8^3 samples over blocks of `blocks.side`.
struct BrickGrid {
  int bricks[3];
  int64_t count;
};

__device__ __forceinline__ void brick_at(const BrickGrid& grid, int64_t brick, int* at) {
  for (int a = 2; a >= 0; --a) {
    at[a] = static_cast<int>(brick % grid.bricks[a]);
    brick /= grid.bricks[a];
  }
}

// flags: 1 for a brick with a stored block.
__global__ void __launch_bounds__(kSearchThreads)
    search_stored_kernel(FieldBricks blocks, BrickGrid grid, const int32_t* table, int32_t* flags) {
  const int64_t e = search_thread();
  if (e >= grid.count) return;
  int at[3];
  brick_at(grid, e, at);
  const int along = kBrickSide / blocks.side;
  bool stored = false;
  for (int i = at[0] * along; i < (at[0] + 1) * along && i < blocks.bricks[0]; ++i) {
    for (int j = at[1] * along; j < (at[1] + 1) * along && j < blocks.bricks[1]; ++j) {
      for (int k = at[2] * along; k < (at[2] + 1) * along && k < blocks.bricks[2]; ++k)
        stored =
            stored || table[(static_cast<int64_t>(i) * blocks.bricks[1] + j) * blocks.bricks[2] + k] >= 0;
    }
  }
  flags[e] = stored ? 1 : 0;
}

// The table of bricks, from the sums of those flags. All blocks of one that is not stored have one sign, or they
// would contradict each other.
__global__ void __launch_bounds__(kSearchThreads)
    search_table_kernel(FieldBricks blocks, BrickGrid grid, const int32_t* table, const int32_t* sums,
                        int32_t* out) {
  const int64_t e = search_thread();
  if (e >= grid.count) return;
  int at[3];
  brick_at(grid, e, at);
  const int along = kBrickSide / blocks.side;
  const int64_t block =
      (static_cast<int64_t>(at[0] * along) * blocks.bricks[1] + at[1] * along) * blocks.bricks[2] +
      at[2] * along;
  out[e] = sums[e + 1] > sums[e] ? sums[e] : table[block];
}

// samples (listed, 8, 8, 8) of listed bricks from those (stored, side^3) of blocks; +1 or -1 where a block was left
// out. Those beyond the lattice mean nothing.
__global__ void __launch_bounds__(kSearchThreads)
    search_bricks_kernel(FieldBricks blocks, BrickGrid grid, const int32_t* table, const float* samples,
                         const int64_t* list, int64_t listed, float* out) {
  const int64_t e = search_thread();
  if (e >= listed * kBrickSamples) return;
  int at[3];
  brick_at(grid, list[e / kBrickSamples], at);
  int rest = static_cast<int>(e % kBrickSamples);
  int64_t block = 0;
  int within = 0, place[3];
  for (int a = 2; a >= 0; --a) {
    place[a] = at[a] * kBrickSide + rest % kBrickSide;
    rest /= kBrickSide;
  }
  bool there = true;
  for (int a = 0; a < 3; ++a) {
    there = there && place[a] < blocks.shape[a];
    const int of = place[a] / blocks.side;
    block = block * blocks.bricks[a] + (of < blocks.bricks[a] ? of : blocks.bricks[a] - 1);
    within = within * blocks.side + place[a] % blocks.side;
  }
  const int32_t entry = table[block];
  const float far = entry == kBrickInside ? -1.0f : 1.0f;
  out[e] = entry >= 0 && there
               ? samples[entry * static_cast<int64_t>(blocks.side) * blocks.side * blocks.side + within]
               : far;
}

}  // namespace facetalk::cuda
