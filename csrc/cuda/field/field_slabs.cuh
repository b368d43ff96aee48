// The weights of 16-bit networks on their way into shared memory: slabs of a few steps of 16 inputs, through
// a ring that cp.async fills ahead, or all of a set to stay.
#pragma once

#include "cuda/field/field_mlp_parts.cuh"

namespace facetalk::cuda {

// Shared memory of a block: the tile, its coordinates, activations, what threads put aside, weights.
struct MmaShape {
  int stride;      // elements of a row of activations
  int slab_steps;  // see FieldPlan
  int slab_bytes;  // of a stage
  int act_bytes;   // of activations
  int resident;    // bytes of all hidden weights of a set, without the last layer's
};

// Elements of a row of activations: every layer's inputs padded to 16, and 8 more, so that the eight rows
// that ldmatrix reads together lie in different banks.
__host__ __device__ inline int mma_stride(const FieldDeviceMlp& mlp) {
  return (mlp.width + 15) / 16 * 16 + 8;
}

// First tile of a chunk, or of a warp's share of a chunk: an even split.
__host__ __device__ inline int split(int tiles, int part, int parts) { return tiles * part / parts; }

// Walks over the slabs of a network in the order of use.
struct SlabWalk {
  int layer, chunk, step;  // step: inputs / 16
  int offset;              // bytes from the start of the set's weights

  __device__ void start() {
    layer = 1;
    chunk = step = 0;
    offset = 0;
  }
  __device__ bool done(const FieldDeviceMlp& mlp) const { return layer >= mlp.layers - 1; }
  __device__ int steps(const FieldDeviceMlp& mlp, int slab_steps) const {
    const int left = (mlp.layer[layer].hidden + 15) / 16 - step;
    return left < slab_steps ? left : slab_steps;
  }
  __device__ int tiles(const FieldDeviceMlp& mlp) const {
    const int all = tiles_of(mlp.layer[layer].outputs);
    return split(all, chunk + 1, mlp.chunks) - split(all, chunk, mlp.chunks);
  }
  __device__ void next(const FieldDeviceMlp& mlp, int slab_steps) {
    const int here = steps(mlp, slab_steps);
    offset += here * tiles(mlp) * kFragmentBytes;
    step += here;
    if (step * 16 < mlp.layer[layer].hidden) return;
    step = 0;
    if (++chunk < mlp.chunks) return;
    chunk = 0;
    ++layer;
  }
};

// Copies whole fragments with all threads of the block.
template <int kThreads>
__device__ __forceinline__ void copy_fragments(char* shared, const char* global, int bytes) {
  for (int at = threadIdx.x * 16; at < bytes; at += kThreads * 16) cp_async<16>(shared + at, global + at);
}

// The weights of a block's tiles, slab after slab.
template <typename Work, int kThreads, int kStages>
class SlabRing {
 public:
  __device__ SlabRing(const FieldDeviceMlp& mlp, const MmaShape& shape, const Work& work, char* memory,
                      int64_t tile, int64_t end)
      : mlp_(mlp), shape_(shape), work_(work), memory_(memory), tile_(tile), end_(end) {
    walk_.start();
    find_set();
    for (int s = 0; s < kStages - 1; ++s) issue();
  }

  // Waits for the next slab, sends for the one that takes the place of the last, and returns it. Every thread
  // of the block has then left the slab before.
  __device__ const char* next() {
    cp_async_wait<kStages - 2>();
    __syncthreads();
    const char* slab = memory_ + read_ * shape_.slab_bytes;
    read_ = read_ + 1 == kStages ? 0 : read_ + 1;
    issue();
    return slab;
  }

 private:
  __device__ void find_set() {
    if (tile_ < end_) set_ = work_.set_of(tile_);
  }

  __device__ void issue() {
    if (walk_.done(mlp_)) {
      walk_.start();
      ++tile_;
      find_set();
    }
    if (tile_ < end_ && !walk_.done(mlp_)) {
      const char* from = static_cast<const char*>(mlp_.weights) + 2 * set_ * mlp_.weight_count + walk_.offset;
      const int bytes = walk_.steps(mlp_, shape_.slab_steps) * walk_.tiles(mlp_) * kFragmentBytes;
      copy_fragments<kThreads>(memory_ + write_ * shape_.slab_bytes, from, bytes);
      walk_.next(mlp_, shape_.slab_steps);
      write_ = write_ + 1 == kStages ? 0 : write_ + 1;
    }
    cp_async_commit();  // an empty group where nothing is left, so that the count of groups stays right
  }

  const FieldDeviceMlp& mlp_;
  const MmaShape& shape_;
  const Work& work_;
  char* memory_;
  int tile_, end_;
  int set_ = 0;
  SlabWalk walk_;
  int read_ = 0, write_ = 0;
};

// Slabs from the ring.
template <typename Ring>
struct Streamed {
  Ring& ring;
  int slab_steps;
  __device__ int steps() const { return slab_steps; }
  __device__ const char* next() const { return ring.next(); }
  __device__ static constexpr bool quiet() { return false; }
};

// A chunk at a time from weights that stay.
struct Resident {
  const FieldDeviceMlp& mlp;
  const char* memory;
  SlabWalk walk;
  static constexpr int kAllSteps = 1 << 20;
  __device__ int steps() const { return kAllSteps; }
  __device__ const char* next() {
    const char* slab = memory + walk.offset;
    walk.next(mlp, kAllSteps);
    return slab;
  }
  __device__ static constexpr bool quiet() { return true; }
};

}  // namespace facetalk::cuda
