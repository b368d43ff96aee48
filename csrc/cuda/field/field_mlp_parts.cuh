// What the 16-bit kernels of packed MLPs do alike, however their activations lie in shared memory and whoever
// multiplies them: coordinates, the first layer, what follows a layer's products, the last layer's outputs.
//
// `thread` counts among the `threads` that work together on rows `begin` to `begin + rows` of the tile.
// Coordinates, biases, the spatial weight and the last sum are float32.
#pragma once

#include "cuda/field/field_tile.cuh"

namespace facetalk::cuda {

constexpr int kTileBytes = 64;       // of shared memory for the FieldTile
constexpr int kFragmentBytes = 256;  // 16 inputs x 8 outputs
constexpr int kLastTiles = 2;  // tiles of 8 outputs that the last layer can have (kMaxFieldCoords outputs)

__host__ __device__ inline int tiles_of(int outputs) { return (outputs + 7) / 8; }

__device__ __forceinline__ const float* coord_weights_of(const FieldDeviceMlp& mlp, const FieldTile& tile,
                                                         const FieldDeviceLayer& layer) {
  return mlp.coord_weights + static_cast<int64_t>(tile.set) * mlp.coord_count + layer.coords;
}

// coordinate (points, C) of these rows.
template <typename Work>
__device__ __forceinline__ void load_coordinates(const Work& work, const FieldTile& tile, int coords,
                                                 float* coordinate, int begin, int rows, int thread,
                                                 int threads) {
  for (int i = begin * coords + thread; i < (begin + rows) * coords; i += threads) {
    const int p = i / coords;
    // Rows beyond the end repeat the last point: finite numbers that nobody stores.
    coordinate[i] = work.coordinate(tile, p < tile.count ? p : tile.count - 1, i - p * coords);
  }
}

// store(r, column, pair of outputs) for these rows and all outputs, padded with zeros to `columns`: two
// neighbouring outputs a thread, for some of the rows.
template <typename T, typename Store>
__device__ __forceinline__ void first_layer_pairs(const FieldDeviceMlp& mlp, const FieldTile& tile,
                                                  const float* coordinate, int columns, int begin, int rows,
                                                  int thread, int threads, Store store) {
  const FieldDeviceLayer& layer = mlp.layer[0];
  const float* weights = coord_weights_of(mlp, tile, layer);
  const int pairs = columns / 2, real = tiles_of(layer.outputs) * 4;
  const int lines = threads > pairs ? threads / pairs : 1;
  for (int i = thread; i < lines * pairs; i += threads) {
    const int pair = i % pairs, line = i / pairs;
    float bias[2] = {0.0f, 0.0f};
    if (pair < real) {
      bias[0] = tile.bias[layer.bias + 2 * pair];
      bias[1] = tile.bias[layer.bias + 2 * pair + 1];
    }
    // In registers, because the compiler cannot know that what is stored does not change them.
    float w[2][kMaxFieldCoords] = {};
    FACETALK_UNROLL()
    for (int c = 0; c < kMaxFieldCoords; ++c) {
      if (pair >= real || c >= mlp.coords) continue;
      w[0][c] = weights[2 * pair * mlp.coords + c];
      w[1][c] = weights[(2 * pair + 1) * mlp.coords + c];
    }
    for (int r = begin + line; r < begin + rows; r += lines) {
      float z[2] = {bias[0], bias[1]};
      FACETALK_UNROLL()
      for (int c = 0; c < kMaxFieldCoords; ++c) {
        if (c >= mlp.coords) break;
        const float x = coordinate[r * mlp.coords + c];
        z[0] = fmaf(w[0][c], x, z[0]);
        z[1] = fmaf(w[1][c], x, z[1]);
      }
      store(r, 2 * pair, pair < real ? softplus2_pair<T>(z[0], z[1]) : 0u);
    }
  }
}

// Two neighbours of what does not change while the kernel runs; their address is a multiple of 8 bytes.
__device__ __forceinline__ float2 load_pair(const float* from) {
  return __ldg(reinterpret_cast<const float2*>(from));
}

// What a layer's products are added to, its biases and what the coordinates give: a warp's sums of `count`
// tiles of outputs from the layer's tile `first` on, for rows 16 * kTilesM * row on. Of kTogether tiles of
// which the first counts all do, padded ones: hidden layers are padded to 8 tiles. Others are zero. It stands in front of the products because all its loads are then on their way together: behind them, the sums
// leave no registers for what is loaded, and each tile of outputs would wait for its own.
template <int kTogether, int kTilesM, int kTilesN>
__device__ __forceinline__ void start_sums(const FieldDeviceMlp& mlp, const FieldTile& tile,
                                           const FieldDeviceLayer& layer, const float* coordinate, int row,
                                           int lane, float (&sum)[kTilesM][kTilesN][4], int first,
                                           int count) {
  const int output = first * 8 + lane % 4 * 2;
  const float* bias = tile.bias + layer.bias + output;
  const float2 none = make_float2(0.0f, 0.0f);  // not a jump, across which all sums would have to move
  FACETALK_UNROLL()
  for (int n = 0; n < kTilesN; ++n) {
    const float2 pair = n / kTogether * kTogether < count ? load_pair(bias + 8 * n) : none;
    FACETALK_UNROLL()
    for (int m = 0; m < kTilesM; ++m) {
      FACETALK_UNROLL()
      for (int i = 0; i < 4; ++i) sum[m][n][i] = i % 2 ? pair.y : pair.x;
    }
  }
  if (layer.coords < 0) return;
  const int coords = mlp.coords;
  const float* weights = coord_weights_of(mlp, tile, layer) + output * coords;
  const float* x = coordinate + (row * kTilesM * 16 + lane / 4) * coords;
  // With more rows to a warp, their coordinates and three pairs of weights find no registers beside the sums.
  if (kTilesM <= 2 && coords == 3) {
    FACETALK_UNROLL()
    for (int n = 0; n < kTilesN; ++n) {
      const float* w = weights + 24 * n;
      const float2 a = n / kTogether * kTogether < count ? load_pair(w) : none;
      const float2 b = n / kTogether * kTogether < count ? load_pair(w + 2) : none;
      const float2 c = n / kTogether * kTogether < count ? load_pair(w + 4) : none;
      FACETALK_UNROLL()
      for (int m = 0; m < kTilesM; ++m) {
        FACETALK_UNROLL()
        for (int half = 0; half < 2; ++half) {
          const float* at = x + (m * 16 + half * 8) * 3;
          float* to = sum[m][n] + 2 * half;
          to[0] = fmaf(b.x, at[2], fmaf(a.y, at[1], fmaf(a.x, at[0], to[0])));
          to[1] = fmaf(c.y, at[2], fmaf(c.x, at[1], fmaf(b.y, at[0], to[1])));
        }
      }
    }
    return;
  }
  FACETALK_UNROLL(1)
  for (int c = 0; c < coords; ++c) {
    FACETALK_UNROLL()
    for (int n = 0; n < kTilesN; ++n) {
      const float* w = weights + 8 * n * coords + c;
      const bool here = n / kTogether * kTogether < count;
      const float pair[2] = {here ? __ldg(w) : 0.0f, here ? __ldg(w + coords) : 0.0f};
      FACETALK_UNROLL()
      for (int m = 0; m < kTilesM; ++m) {
        FACETALK_UNROLL()
        for (int i = 0; i < 4; ++i)
          sum[m][n][i] = fmaf(pair[i % 2], x[(m * 16 + i / 2 * 8) * coords + c], sum[m][n][i]);
      }
    }
  }
}

// Softplus, two neighbouring outputs in a register.
template <typename T, int kTilesM, int kTilesN>
__device__ __forceinline__ void activate(const float (&sum)[kTilesM][kTilesN][4],
                                         uint32_t (&packed)[kTilesM][kTilesN][2], int n) {
  FACETALK_UNROLL()
  for (int m = 0; m < kTilesM; ++m) {
    FACETALK_UNROLL()
    for (int half = 0; half < 2; ++half) {
      packed[m][n][half] = softplus2_pair<T>(sum[m][n][2 * half], sum[m][n][2 * half + 1]);
    }
  }
}

// The network's outputs at point p, from total(o), the last layer's hidden products; `out` has room for them.
template <typename Work, typename Total>
__device__ __forceinline__ void store_outputs(const FieldDeviceMlp& mlp, const Work& work,
                                              const FieldTile& tile, const float* coordinate, int p,
                                              float* out, Total total_of) {
  const FieldDeviceLayer& layer = mlp.layer[mlp.layers - 1];
  const float* w = layer.coords < 0 ? nullptr : coord_weights_of(mlp, tile, layer);
  for (int o = 0; o < layer.outputs; ++o) {
    float total = fmaf(total_of(o), 1.0f / kSoftplusScale, tile.bias[layer.bias + o]);
    for (int c = 0; w && c < mlp.coords; ++c)
      total = fmaf(w[o * mlp.coords + c], coordinate[p * mlp.coords + c], total);
    out[o] = total;
  }
  work.store(tile, p, out, 1, nullptr, 0);
}

}  // namespace facetalk::cuda
