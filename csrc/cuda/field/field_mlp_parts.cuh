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
    const float* w = weights + 2 * pair * mlp.coords;
    for (int r = begin + line; r < begin + rows; r += lines) {
      float z[2] = {bias[0], bias[1]};
      if (pair < real) {
        for (int c = 0; c < mlp.coords; ++c) {
          const float x = coordinate[r * mlp.coords + c];
          z[0] = fmaf(w[c], x, z[0]);
          z[1] = fmaf(w[mlp.coords + c], x, z[1]);
        }
      }
      store(r, 2 * pair, pair < real ? pack2<T>(softplus2_half(z[0]), softplus2_half(z[1])) : 0u);
    }
  }
}

// What follows a layer's products, on a warp's sums: its n-th tile of outputs, which is the layer's tile
// `place`, of rows 16 * kTilesM * row on.
template <int kTilesM, int kTilesN>
__device__ __forceinline__ void add_bias(const FieldTile& tile, const FieldDeviceLayer& layer, int lane,
                                         float (&sum)[kTilesM][kTilesN][4], int n, int place) {
  const int output = place * 8 + lane % 4 * 2;
  const float bias[2] = {tile.bias[layer.bias + output], tile.bias[layer.bias + output + 1]};
  FACETALK_UNROLL()
  for (int m = 0; m < kTilesM; ++m) {
    FACETALK_UNROLL()
    for (int i = 0; i < 4; ++i) sum[m][n][i] += bias[i % 2];
  }
}

// Of coordinate c; w: weights of the layer's coordinates.
template <int kTilesM, int kTilesN>
__device__ __forceinline__ void add_coordinate(int coords, const float* w, const float* coordinate, int c,
                                               int row, int lane, float (&sum)[kTilesM][kTilesN][4], int n,
                                               int place) {
  w += (place * 8 + lane % 4 * 2) * coords;
  const float pair[2] = {w[c], w[coords + c]};
  FACETALK_UNROLL()
  for (int m = 0; m < kTilesM; ++m) {
    FACETALK_UNROLL()
    for (int half = 0; half < 2; ++half) {
      const int r = (row * kTilesM + m) * 16 + half * 8 + lane / 4;
      const float x = coordinate[r * coords + c];
      sum[m][n][2 * half] = fmaf(pair[0], x, sum[m][n][2 * half]);
      sum[m][n][2 * half + 1] = fmaf(pair[1], x, sum[m][n][2 * half + 1]);
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
      packed[m][n][half] =
          pack2<T>(softplus2_half(sum[m][n][2 * half]), softplus2_half(sum[m][n][2 * half + 1]));
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
