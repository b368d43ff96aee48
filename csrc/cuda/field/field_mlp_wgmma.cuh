// A packed MLP of one set in 16 bit by warpgroup products (compute capability 9.0), from coordinates to
// outputs in one kernel.
//
// A block takes 128 points through all layers: two warpgroups have 64 of them each, and a warp of a third
// sends for weights, stage after stage of 64 inputs x columns of outputs, through a ring of mbarriers, across
// the borders of layers and tiles. A network's stages lie in memory in the order of use, as wgmma reads them.
// The two warpgroups share the stages and nothing else, so that one's softplus fills the time of the other's
// products; they never meet.
//
// Activations stay in shared memory in place, 64 columns of all points after each other. Of a layer with two
// passes the first one's results wait in registers, packed, until the second has read the inputs.
#pragma once

#include "cuda/field/field_mlp_parts.cuh"
#include "cuda/platform/hopper.cuh"

namespace facetalk::cuda {

constexpr int kWgmmaPoints = 128;  // of a tile
constexpr int kWgmmaRows = 64;     // of a warpgroup
constexpr int kWgmmaGroups = kWgmmaPoints / kWgmmaRows;
constexpr int kWgmmaThreads = (kWgmmaGroups + 1) * kWarpgroup;
constexpr int kWgmmaActBytes = kWgmmaPoints * kSwizzleDepth * 2;  // of 64 columns of activations

// A layer of up to kWgmmaMost outputs takes one pass, a wider one has a pass of so many before. Outputs that
// the last pass computes:
constexpr int kWgmmaMost = 256;
__host__ __device__ inline int wgmma_waiting(int outputs) { return outputs > kWgmmaMost ? kWgmmaMost : 0; }
__host__ __device__ inline int wgmma_columns(int outputs) {
  const int left = outputs - wgmma_waiting(outputs);
  return left <= 64 ? 64 : left <= 144 ? 144 : kWgmmaMost;
}
// Units of a layer, in steps of 64.
__host__ __device__ inline int wgmma_depth(int units) { return (units + kSwizzleDepth - 1) / kSwizzleDepth; }

// Of shared memory, in this order: activations, stages, coordinates, a FieldTile for each warpgroup,
// barriers.
struct WgmmaShape {
  int stages;
  int stage_bytes;  // of the largest
  int act_bytes;
};

#if defined(FACETALK_HAS_WGMMA)

// The ring as one of its users walks over it.
struct WgmmaRing {
  uint64_t* full;   // (stages)
  uint64_t* empty;  // (stages)
  char* memory;
  const WgmmaShape& shape;
  int at = 0;
  uint32_t round = 0;

  __device__ __forceinline__ char* stage() const { return memory + at * shape.stage_bytes; }
  __device__ __forceinline__ void next() {
    if (++at < shape.stages) return;
    at = 0;
    round ^= 1u;
  }
};

// Sends for the weights of `tiles` tiles, by one thread.
__device__ inline void send_for_stages(const FieldDeviceMlp& mlp, WgmmaRing ring, int tiles) {
  for (int tile = 0; tile < tiles; ++tile) {
    const char* from = static_cast<const char*>(mlp.weights);
    for (int l = 1; l < mlp.layers - 1; ++l) {
      const FieldDeviceLayer& layer = mlp.layer[l];
      const int depth = wgmma_depth(layer.hidden), waiting = wgmma_waiting(layer.outputs) == 0 ? 0 : depth;
      for (int i = 0; i < waiting + depth; ++i) {
        const int bytes = (i < waiting ? kWgmmaMost : wgmma_columns(layer.outputs)) * kSwizzleDepth * 2;
        mbarrier_wait(ring.empty + ring.at, ring.round ^ 1u);
        mbarrier_arrive_expect(ring.full + ring.at, bytes);
        bulk_copy(ring.stage(), from, bytes, ring.full + ring.at);
        ring.next();
        from += bytes;
      }
    }
  }
}

// Who a thread is, found out anew wherever it matters, because the sums leave few registers to remember it
// in.
struct WgmmaPlace {
  int group, thread;  // among warpgroups, and in its own
  int lane, row;      // row: of this warp's 16 among the tile's
  __device__ __forceinline__ WgmmaPlace() {
    const int all = static_cast<int>(thread_anew());
    group = all / kWarpgroup;
    thread = all % kWarpgroup;
    lane = all % 32;
    row = all / 32;
  }
};

// What a warpgroup does.
template <typename T, typename Work>
struct WgmmaMlp {
  static constexpr int kTiles = kWgmmaMost / 8;  // of outputs: the sums of a thread in a pass

  const FieldDeviceMlp& mlp;
  const Work& work;
  const FieldTile& tile;
  T* act;             // (columns / 64, 128 points, 64), swizzled
  float* coordinate;  // (128, C)

  __device__ __forceinline__ static void barrier() { named_barrier(1 + WgmmaPlace().group, kWarpgroup); }

  __device__ __forceinline__ T* at(int r, int column) const {
    return act + column / kSwizzleDepth * (kWgmmaActBytes / 2) + r / kSwizzleRows * (kSwizzleBytes / 2) +
           swizzled(r % kSwizzleRows, column % kSwizzleDepth);
  }

  // What this warpgroup stored is there for its products.
  __device__ __forceinline__ static void publish() {
    fence_async_proxy();
    barrier();
  }

  __device__ __forceinline__ void first_layer() const {
    const WgmmaPlace me;
    first_layer_pairs<T>(
        mlp, tile, coordinate, wgmma_depth(mlp.layer[0].outputs) * kSwizzleDepth, me.group * kWgmmaRows,
        kWgmmaRows, me.thread, kWarpgroup,
        [&](int r, int column, uint32_t pair) { *reinterpret_cast<uint32_t*>(at(r, column)) = pair; });
  }

  // The products of a stage, on their way.
  template <int kColumns>
  __device__ __forceinline__ static void start_products(float (&sum)[kTiles][4], const T* inputs,
                                                        const char* weights) {
    wgmma_fence();
    FACETALK_UNROLL()
    for (int step = 0; step < kSwizzleDepth / 16; ++step)
      wgmma_m64k16<T, kColumns>(sum, wgmma_descriptor(inputs, step), wgmma_descriptor(weights, step));
    wgmma_commit();
  }

  // The sums of a pass, through `depth` stages. Frees each when the next one's products are on their way.
  template <int kColumns>
  __device__ __forceinline__ void multiply_columns(float (&sum)[kTiles][4], WgmmaRing& ring,
                                                   int depth) const {
    const WgmmaPlace me;
    const T* inputs = act + me.group * (kWgmmaRows * kSwizzleDepth);
    mbarrier_wait(ring.full + ring.at, ring.round);
    start_products<kColumns>(sum, inputs, ring.stage());
    for (int k = 1; k < depth; ++k) {
      uint64_t* before = ring.empty + ring.at;
      ring.next();
      inputs += kWgmmaActBytes / 2;
      mbarrier_wait(ring.full + ring.at, ring.round);
      start_products<kColumns>(sum, inputs, ring.stage());
      wgmma_wait<1>();
      if (me.lane == 0) mbarrier_arrive(before);
    }
    wgmma_wait_all(sum);
    if (me.lane == 0) mbarrier_arrive(ring.empty + ring.at);
    ring.next();
  }

  __device__ __forceinline__ void multiply(float (&sum)[kTiles][4], WgmmaRing& ring, int depth,
                                           int columns) const {
    switch (columns) {
      case 64:
        return multiply_columns<64>(sum, ring, depth);
      case 144:
        return multiply_columns<144>(sum, ring, depth);
      default:
        return multiply_columns<kWgmmaMost>(sum, ring, depth);
    }
  }

  // What the sums of `count` tiles of outputs start from, the layer's tiles from `before` on.
  __device__ __forceinline__ void start(float (&sum)[1][kTiles][4], const FieldDeviceLayer& layer, int before,
                                        int count) const {
    const WgmmaPlace me;
    start_sums<8>(mlp, tile, layer, coordinate, me.row, me.lane, sum, before, count);
    pin(sum[0]);
  }

  // Where a thread's results go: of its tile n of outputs, and 8 rows below.
  struct Results {
    char* rows;
    int first;
    __device__ __forceinline__ void write(int n, const uint32_t (&pair)[2]) const {
      char* place = rows + n / 8 * kWgmmaActBytes + (first ^ n % 8 * 16);
      *reinterpret_cast<uint32_t*>(place) = pair[0];
      *reinterpret_cast<uint32_t*>(place + kSwizzleBytes) = pair[1];
    }
  };
  // Of the pass whose first outputs are tile `before`, a multiple of 8.
  __device__ __forceinline__ Results results(const WgmmaPlace& me, int before) const {
    return {reinterpret_cast<char*>(act) + before / 8 * kWgmmaActBytes +
                me.row * (16 / kSwizzleRows * kSwizzleBytes),
            2 * swizzled(me.lane / 4, me.lane % 4 * 2)};
  }

  // The first of two passes: its results wait.
  __device__ __forceinline__ void first_pass(float (&sum)[1][kTiles][4], uint32_t (&waiting)[1][kTiles][2],
                                             const FieldDeviceLayer& layer, WgmmaRing& ring) const {
    start(sum, layer, 0, kTiles);
    multiply_columns<kWgmmaMost>(sum[0], ring, wgmma_depth(layer.hidden));
    FACETALK_UNROLL()
    for (int n = 0; n < kTiles; ++n) activate<T>(sum, waiting, n);
    pin(waiting[0]);  // before the products that take the sums' registers
  }

  __device__ __forceinline__ void hidden_layers(WgmmaRing& ring) const {
    for (int l = 1; l < mlp.layers - 1; ++l) {
      const FieldDeviceLayer& layer = mlp.layer[l];
      const int before = wgmma_waiting(layer.outputs) / 8;  // tiles of the first of two passes
      float sum[1][kTiles][4];
      uint32_t ready[1][kTiles][2], waiting[1][kTiles][2];
      if (before > 0) first_pass(sum, waiting, layer, ring);
      const int count = tiles_of(layer.outputs) - before;
      start(sum, layer, before, count);
      multiply(sum[0], ring, wgmma_depth(layer.hidden), wgmma_columns(layer.outputs));
      barrier();  // every warp has read its inputs
      const WgmmaPlace me;
      if (before > 0) {
        const Results to = results(me, 0);
        FACETALK_UNROLL()
        for (int n = 0; n < kTiles; ++n) to.write(n, waiting[0][n]);
      }
      const Results to = results(me, before);
      FACETALK_UNROLL()
      for (int n = 0; n < kTiles; ++n) {
        if (n % 8 == 0 && n >= count) break;  // the next layer reads 64 inputs at a time
        activate<T>(sum, ready, n);
        to.write(n, ready[0][n]);
      }
      publish();
    }
  }

  // Few outputs, so each warp takes its 16 rows by mma. The sums then take the place of the rows' first 64
  // activations.
  __device__ __forceinline__ void last_layer() const {
    const WgmmaPlace me;
    const FieldDeviceLayer& layer = mlp.layer[mlp.layers - 1];
    const int steps = (layer.hidden + 15) / 16, tiles = tiles_of(layer.outputs);
    const char* weights = static_cast<const char*>(mlp.weights) + 2 * layer.weights + me.lane * 8;
    float sum[kLastTiles][4] = {};
    FACETALK_UNROLL(4)
    for (int k = 0; k < steps; ++k) {
      uint32_t a[4];
      ldmatrix<4>(a, at(me.row * 16 + me.lane % 16, k * 16 + me.lane / 16 * 8));
      FACETALK_UNROLL()
      for (int n = 0; n < kLastTiles; ++n) {
        if (n >= tiles) break;
        const uint2 pair = *reinterpret_cast<const uint2*>(weights + (k * tiles + n) * kFragmentBytes);
        const uint32_t b[2] = {pair.x, pair.y};
        mma_m16n8k16<T>(sum[n], a, b);
      }
    }
    __syncwarp();  // every lane has read the rows
    constexpr int kStride = 8 * kLastTiles;
    float* part = reinterpret_cast<float*>(at(me.row * 16, 0));  // (16, kStride)
    FACETALK_UNROLL()
    for (int n = 0; n < kLastTiles; ++n) {
      FACETALK_UNROLL()
      for (int i = 0; i < 4; ++i)
        part[(i / 2 * 8 + me.lane / 4) * kStride + n * 8 + me.lane % 4 * 2 + i % 2] = sum[n][i];
    }
    __syncwarp();
    const int p = me.row * 16 + me.lane;
    if (me.lane < 16 && p < tile.count) {
      float* mine = part + me.lane * kStride;
      store_outputs(mlp, work, tile, coordinate, p, mine, [&](int o) { return mine[o]; });
    }
  }
};

#endif

template <typename T, typename Work>
__global__ void __launch_bounds__(kWgmmaThreads, 1)
    field_mlp_wgmma(FieldDeviceMlp mlp, WgmmaShape shape, Work work) {
#if defined(FACETALK_HAS_WGMMA)
  static_assert(sizeof(FieldTile) <= kTileBytes);
  FACETALK_DYNAMIC_SHARED(char, memory);
  const int64_t tiles = work.tiles();
  const int begin = static_cast<int>(tiles * blockIdx.x / gridDim.x);
  const int end = static_cast<int>(tiles * (blockIdx.x + 1) / gridDim.x);
  if (begin == end) return;
  char* stages = memory + shape.act_bytes;
  auto* coordinate = reinterpret_cast<float*>(stages + shape.stages * shape.stage_bytes);
  char* places = reinterpret_cast<char*>(coordinate + kWgmmaPoints * mlp.coords);
  auto* barriers = reinterpret_cast<uint64_t*>(places + kWgmmaGroups * kTileBytes);
  WgmmaRing ring{barriers, barriers + shape.stages, stages, shape};
  if (threadIdx.x == 0) {
    for (int s = 0; s < shape.stages; ++s) {
      mbarrier_init(ring.full + s, 1);
      mbarrier_init(ring.empty + s, kWgmmaGroups * kWarpgroup / 32);
    }
    mbarrier_init_fence();
  }
  __syncthreads();
  const int group = static_cast<int>(threadIdx.x) / kWarpgroup;
  if (group == kWgmmaGroups) {
    give_registers<24>();
    if (threadIdx.x % kWarpgroup == 0) send_for_stages(mlp, ring, end - begin);
  } else {
    take_registers<240>();
    // In shared memory, because registers are what the sums leave few of.
    FieldTile& tile = *reinterpret_cast<FieldTile*>(places + group * kTileBytes);
    const WgmmaMlp<T, Work> run{mlp, work, tile, reinterpret_cast<T*>(memory), coordinate};
    for (int index = begin; index < end; ++index) {
      const WgmmaPlace me;
      if (me.thread == 0) tile = work.tile(index);
      run.barrier();
      load_coordinates(work, tile, mlp.coords, coordinate, me.group * kWgmmaRows, kWgmmaRows, me.thread,
                       kWarpgroup);
      run.barrier();
      run.first_layer();
      run.publish();
      run.hidden_layers(ring);
      run.last_layer();
      run.barrier();  // the tile and its coordinates have been read
    }
  }
#endif
}

}  // namespace facetalk::cuda
