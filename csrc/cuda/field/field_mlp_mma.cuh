// A packed MLP on tensor cores, in 16 bit with float32 sums, from coordinates to outputs in one kernel.
//
// A block takes kPoints points through all layers. Weights come in slabs of a few steps of 16 inputs, through
// a ring of kStages in shared memory that cp.async fills ahead, across the borders of layers and tiles; a
// network's slabs lie in memory in the order of use. With kStages == 0 all hidden weights of a set stay in
// shared memory, and are only loaded again when a tile has another set: a block takes consecutive tiles, and
// those of a member are consecutive. Several groups of warps then work on tiles of their own.
#pragma once

#include "cuda/field/field_mlp_layers.cuh"

namespace facetalk::cuda {

template <typename T, typename Work, int kTilesM, int kTilesN, int kRows, int kColumns, int kChunks,
          int kStages>
__global__ void __launch_bounds__(32 * kRows * kColumns * mma_groups(kTilesM, kStages), 1)
    field_mlp_mma(FieldDeviceMlp mlp, MmaShape shape, Work work) {
  using Mlp = MmaMlp<T, Work, kTilesM, kTilesN, kRows, kColumns, kChunks, kStages>;
  static_assert(sizeof(FieldTile) <= kTileBytes);
  FACETALK_DYNAMIC_SHARED(char, memory);
  const int64_t tiles = work.tiles();
  const int begin = static_cast<int>(tiles * blockIdx.x / gridDim.x);
  const int end = static_cast<int>(tiles * (blockIdx.x + 1) / gridDim.x);
  if (begin == end) return;
  const int group = threadIdx.x / Mlp::kThreads, thread = threadIdx.x % Mlp::kThreads;
  const int group_bytes =
      kTileBytes + Mlp::kPoints * mlp.coords * 4 + shape.act_bytes + static_cast<int>(Mlp::kAsideBytes);
  char* mine = memory + group * group_bytes;
  char* act = mine + kTileBytes + Mlp::kPoints * mlp.coords * 4;
  char* weights = memory + Mlp::kGroups * group_bytes;
  // In shared memory, because registers are what the widest networks run out of.
  FieldTile& tile = *reinterpret_cast<FieldTile*>(mine);
  const Mlp run{mlp,
                shape,
                work,
                reinterpret_cast<T*>(act),
                reinterpret_cast<float*>(mine + kTileBytes),
                reinterpret_cast<uint4*>(act + shape.act_bytes),
                group,
                thread,
                thread % 32,
                thread / 32 / kColumns,
                thread / 32 % kColumns};
  auto visit = [&](int index, auto& slabs) {
    if (thread == 0) tile = work.tile(index);
    run.barrier();
    run.load_coordinates(tile);
    run.barrier();
    run.first_layer(tile);
    if (slabs.quiet()) run.barrier();
    run.hidden_layers(tile, slabs);
    run.barrier();
    run.last_layer(tile);
  };
  if constexpr (kStages > 0) {
    SlabRing<Work, Mlp::kThreads, kStages> ring(mlp, shape, work, weights, begin, end);
    Streamed<decltype(ring)> slabs{ring, shape.slab_steps};
    for (int index = begin; index < end; ++index) visit(index, slabs);
    cp_async_wait<0>();
  } else {
    for (int first = begin; first < end;) {
      const int set = work.set_of(first), last = min(work.end_of_set(first), end);
      __syncthreads();  // both groups have left the weights before
      copy_fragments<Mlp::kThreads * Mlp::kGroups>(
          weights, static_cast<const char*>(mlp.weights) + 2 * set * mlp.weight_count, shape.resident);
      cp_async_commit();
      cp_async_wait<0>();
      __syncthreads();
      for (int index = first + group; index < last; index += Mlp::kGroups) {
        Resident slabs{mlp, weights, {1, 0, 0, 0}};
        visit(index, slabs);
      }
      first = last;
    }
  }
}

}  // namespace facetalk::cuda
