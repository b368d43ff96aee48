// The layers of a packed MLP on tensor cores, as one group of warps computes them; field_mlp_mma.cuh is the
// kernel.
//
// Activations of the group's kPoints points stay in shared memory as 16 bit, in place: a layer's results wait
// in registers until every warp has read its inputs. Warps are arranged (kRows, kColumns) over (points,
// outputs); a warp computes 16 * kTilesM points by up to 8 * kTilesN outputs at a time. Layers wider than one
// sweep of the warps (8 * kFieldChunkTiles outputs) take two, of which the first waits, packed.
#pragma once

#include <type_traits>

#include "cuda/field/field_mlp_parts.cuh"
#include "cuda/field/field_slabs.cuh"

namespace facetalk::cuda {

// With weights that stay, groups of warps work on tiles of their own, so that one's softplus and loads fill the
// time of the other's products. A ring keeps all warps of a block together.
constexpr int mma_groups(int tiles_m, int stages) { return stages == 0 ? 8 / tiles_m : 1; }

// visit(a number that the compiler knows) for the one that the launch has, up to kMost: loops over a warp's tiles of
// outputs are then without jumps, between which loads could not be sent for ahead.
template <int kMost, typename Visitor>
__device__ __forceinline__ void visit_count(int count, Visitor&& visit) {
  if constexpr (kMost == 0) {
    visit(std::integral_constant<int, 0>{});
  } else if (count == kMost) {
    visit(std::integral_constant<int, kMost>{});
  } else {
    visit_count<kMost - 1>(count, visit);
  }
}

template <typename T, typename Work, int kTilesM, int kTilesN, int kRows, int kColumns, int kChunks,
          int kStages>
struct MmaMlp {
  // Registers do not hold both the sums of a chunk and all of the one before: half of it waits in shared
  // memory where a warp's tiles are largest, each thread's part in a place of its own.
  static constexpr int kAside = kChunks > 1 && kTilesM* kTilesN >= 32 ? kTilesM / 2 : 0;
  static constexpr int kPoints = 16 * kTilesM * kRows;
  static constexpr int kThreads = 32 * kRows * kColumns;
  static constexpr int kGroups = mma_groups(kTilesM, kStages);
  static constexpr int kAsideBytes = kAside * kTilesN / 2 * kThreads * 16;

  const FieldDeviceMlp& mlp;
  const MmaShape& shape;
  const Work& work;
  T* act;             // (kPoints, stride)
  float* coordinate;  // (kPoints, C)
  uint4* aside;       // (kAside, kTilesN / 2, kThreads)

  int group;  // of this thread among groups, and its number in it
  int thread;
  int lane, row, column;  // of this warp among its group's

  __device__ __forceinline__ void barrier() const {
    if constexpr (kGroups == 1) {
      __syncthreads();
    } else {
      named_barrier(1 + group, kThreads);
    }
  }

  __device__ T* act_row(int r) const { return act + r * shape.stride; }

  __device__ void load_coordinates(const FieldTile& tile) const {
    cuda::load_coordinates(work, tile, mlp.coords, coordinate, 0, kPoints, thread, kThreads);
  }

  __device__ void first_layer(const FieldTile& tile) const {
    const int columns = (mlp.layer[0].outputs + 15) / 16 * 16;
    first_layer_pairs<T>(
        mlp, tile, coordinate, columns, 0, kPoints, thread, kThreads,
        [&](int r, int column, uint32_t pair) { *reinterpret_cast<uint32_t*>(act_row(r) + column) = pair; });
  }

  // sum += activations of the warp's points x a slab: `steps` steps of 16 inputs from `step`, tiles_here
  // tiles wide of which the warp takes `count` from `first`.
  template <int kTiles>
  __device__ __forceinline__ void multiply(float (&sum)[kTilesM][kTiles][4], const char* slab, int step,
                                           int steps, int tiles_here, int first, int count) const {
    const T* a_row = act_row(row * 16 * kTilesM + lane % 16) + lane / 16 * 8 + step * 16;
    const char* b_lane = slab + first * kFragmentBytes + lane * 8;
    visit_count<kTiles>(count, [&](auto known) {
      constexpr int kCount = decltype(known)::value;
      const T* a_from = a_row;
      const char* b_from = b_lane;
      FACETALK_UNROLL(1)
      for (int k = 0; k < steps; ++k) {
        uint32_t a[kTilesM][4], b[kTiles][2];
        FACETALK_UNROLL()
        for (int m = 0; m < kTilesM; ++m) ldmatrix<4>(a[m], a_from + m * 16 * shape.stride);
        FACETALK_UNROLL()
        for (int n = 0; n < kCount; ++n) {
          const uint2 pair = *reinterpret_cast<const uint2*>(b_from + n * kFragmentBytes);
          b[n][0] = pair.x;
          b[n][1] = pair.y;
        }
        FACETALK_UNROLL()
        for (int n = 0; n < kCount; ++n) {
          FACETALK_UNROLL()
          for (int m = 0; m < kTilesM; ++m) mma_m16n8k16<T>(sum[m][n], a[m], b[n]);
        }
        a_from += 16;
        b_from += tiles_here * kFragmentBytes;
      }
    });
  }

  // Results of the warp's first `count` tiles of a chunk; the others are zero.
  __device__ __forceinline__ static void finish(const float (&sum)[kTilesM][kTilesN][4],
                                                uint32_t (&packed)[kTilesM][kTilesN][2], int count) {
    FACETALK_UNROLL()
    for (int n = 0; n < kTilesN; ++n) {
      if (n >= count) break;
      activate<T>(sum, packed, n);
    }
  }

  // The same, to shared memory.
  __device__ __forceinline__ void finish_and_write(const float (&sum)[kTilesM][kTilesN][4], int first,
                                                   int count) const {
    visit_count<kTilesN>(count, [&](auto known) {
      uint32_t ready[kTilesM][kTilesN][2];
      FACETALK_UNROLL()
      for (int n = 0; n < decltype(known)::value; ++n) {
        activate<T>(sum, ready, n);
        write_tile(ready, n, first);
      }
    });
  }

  __device__ __forceinline__ void write_tile(const uint32_t (&packed)[kTilesM][kTilesN][2], int n,
                                             int first) const {
    const int output = (first + n) * 8 + lane % 4 * 2;
    FACETALK_UNROLL()
    for (int m = 0; m < kTilesM; ++m) {
      FACETALK_UNROLL()
      for (int half = 0; half < 2; ++half) {
        const int r = (row * kTilesM + m) * 16 + half * 8 + lane / 4;
        *reinterpret_cast<uint32_t*>(act_row(r) + output) = packed[m][n][half];
      }
    }
  }

  __device__ __forceinline__ void write(const uint32_t (&packed)[kTilesM][kTilesN][2], int first,
                                        int count) const {
    FACETALK_UNROLL()
    for (int n = 0; n < kTilesN; ++n) {
      if (n >= count) break;
      write_tile(packed, n, first);
    }
  }

  __device__ __forceinline__ void put_aside(const uint32_t (&from)[kTilesM][kTilesN][2],
                                            uint32_t (&waiting)[kTilesM - kAside][kTilesN][2]) const {
    FACETALK_UNROLL()
    for (int m = 0; m < kTilesM; ++m) {
      FACETALK_UNROLL()
      for (int n = 0; n < kTilesN; n += 2) {
        if (m < kAside) {
          aside[(m * kTilesN / 2 + n / 2) * kThreads + thread] =
              make_uint4(from[m][n][0], from[m][n][1], from[m][n + 1][0], from[m][n + 1][1]);
          continue;
        }
        FACETALK_UNROLL()
        for (int i = 0; i < 4; ++i) waiting[m - kAside][n + i / 2][i % 2] = from[m][n + i / 2][i % 2];
      }
    }
  }

  __device__ __forceinline__ void take_back(const uint32_t (&waiting)[kTilesM - kAside][kTilesN][2],
                                            uint32_t (&to)[kTilesM][kTilesN][2]) const {
    FACETALK_UNROLL()
    for (int m = 0; m < kTilesM; ++m) {
      FACETALK_UNROLL()
      for (int n = 0; n < kTilesN; n += 2) {
        if (m < kAside) {
          const uint4 four = aside[(m * kTilesN / 2 + n / 2) * kThreads + thread];
          to[m][n][0] = four.x;
          to[m][n][1] = four.y;
          to[m][n + 1][0] = four.z;
          to[m][n + 1][1] = four.w;
          continue;
        }
        FACETALK_UNROLL()
        for (int i = 0; i < 4; ++i) to[m][n + i / 2][i % 2] = waiting[m - kAside][n + i / 2][i % 2];
      }
    }
  }

  // Inputs of the next layer are read 16 at a time: the eight beyond an odd number of tiles are zeros.
  __device__ void pad(int outputs) const {
    const int tiles = tiles_of(outputs);
    if (tiles % 2 == 0) return;
    for (int r = thread; r < kPoints; r += kThreads)
      *reinterpret_cast<uint4*>(act_row(r) + tiles * 8) = make_uint4(0, 0, 0, 0);
  }

  // The last layer: few outputs, so warps of a row share its inputs instead, and their sums meet in shared
  // memory in the order of warps. Activations are lost.
  __device__ void last_layer(const FieldTile& tile) const {
    const FieldDeviceLayer& layer = mlp.layer[mlp.layers - 1];
    const int steps = (layer.hidden + 15) / 16, tiles = tiles_of(layer.outputs);
    const int from = split(steps, column, kColumns), to = split(steps, column + 1, kColumns);
    const char* weights =
        static_cast<const char*>(mlp.weights) + 2 * (tile.set * mlp.weight_count + layer.weights);
    float sum[kTilesM][kLastTiles][4] = {};
    multiply<kLastTiles>(sum, weights + static_cast<int64_t>(from) * tiles * kFragmentBytes, from, to - from,
                         tiles, 0, tiles);
    barrier();
    float* part = reinterpret_cast<float*>(act);  // (kColumns, kPoints, 8 * tiles)
    FACETALK_UNROLL()
    for (int n = 0; n < kLastTiles; ++n) {
      if (n >= tiles) break;
      FACETALK_UNROLL()
      for (int m = 0; m < kTilesM; ++m) {
        FACETALK_UNROLL()
        for (int i = 0; i < 4; ++i) {
          const int r = (row * kTilesM + m) * 16 + i / 2 * 8 + lane / 4;
          part[(column * kPoints + r) * 8 * tiles + n * 8 + lane % 4 * 2 + i % 2] = sum[m][n][i];
        }
      }
    }
    barrier();
    for (int p = thread; p < tile.count; p += kThreads) {
      // This thread alone reads the point's sums.
      store_outputs(mlp, work, tile, coordinate, p, part + p * 8 * tiles, [&](int o) {
        float total = 0.0f;
        for (int i = 0; i < kColumns; ++i) total += part[(i * kPoints + p) * 8 * tiles + o];
        return total;
      });
    }
    barrier();
  }

  // Hidden layers; `slab(layer, chunk, step)` gives a slab of weights once it is there.
  template <typename Slabs>
  __device__ __forceinline__ void hidden_layers(const FieldTile& tile, Slabs&& slabs) const {
    for (int l = 1; l < mlp.layers - 1; ++l) {
      const FieldDeviceLayer& layer = mlp.layer[l];
      const int steps = (layer.hidden + 15) / 16, tiles = tiles_of(layer.outputs);
      uint32_t waiting[kTilesM - kAside][kTilesN][2];
      FACETALK_UNROLL()
      for (int chunk = 0; chunk < kChunks; ++chunk) {
        const int start = split(tiles, chunk, kChunks), here = split(tiles, chunk + 1, kChunks) - start;
        const int mine = split(here, column, kColumns);
        const int count = split(here, column + 1, kColumns) - mine;
        float sum[kTilesM][kTilesN][4];
        start_sums<1>(mlp, tile, layer, coordinate, row, lane, sum, start + mine, count);
        for (int step = 0; step < steps; step += slabs.steps()) {
          const int left = steps - step;
          const char* slab = slabs.next();
          multiply<kTilesN>(sum, slab, step, left < slabs.steps() ? left : slabs.steps(), here, mine, count);
        }
        if (chunk + 1 < kChunks) {
          uint32_t ready[kTilesM][kTilesN][2] = {};
          finish(sum, ready, count);
          put_aside(ready, waiting);
          continue;
        }
        barrier();  // every warp has read its inputs
        if (kChunks > 1) {
          uint32_t ready[kTilesM][kTilesN][2];
          const int first = split(start, column, kColumns);
          take_back(waiting, ready);
          write(ready, first, split(start, column + 1, kColumns) - first);
        }
        finish_and_write(sum, start + mine, count);
      }
      pad(layer.outputs);
      if (slabs.quiet()) barrier();  // a ring has a barrier before each slab
    }
  }
};

}  // namespace facetalk::cuda
