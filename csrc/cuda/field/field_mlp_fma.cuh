// A packed MLP in float32, from coordinates to outputs in one kernel; with kTangents also the derivatives of
// its outputs by the point, carried forward.
//
// A block works on kColumns columns: a point each, or with kTangents four for each point, its value and three
// tangents, which pass through the same weights without biases. Activations lie in shared memory as rows of
// kColumns values, a row for each coordinate and then for each hidden unit, twice: a layer reads one copy and
// writes the other. A thread computes four neighbouring outputs of four neighbouring columns; weights come
// straight from L2, where neighbouring threads read neighbouring outputs.
#pragma once

#include "cuda/field/field_tile.cuh"

namespace facetalk::cuda {

template <typename Work, int kColumns, bool kTangents>
struct FmaMlp {
  static constexpr int kThreads = 256;
  static constexpr int kPerPoint = kTangents ? 4 : 1;
  static constexpr int kPoints = kColumns / kPerPoint;
  static constexpr int kColumnGroups = kColumns / 4;
  static constexpr int kSweep = kThreads / kColumnGroups * 4;  // outputs that the block computes at a time

  const FieldDeviceMlp& mlp;
  const Work& work;
  float* in;   // (C + width, kColumns)
  float* out;  // the same

  __device__ void load_coordinates(const FieldTile& tile) const {
    for (int i = threadIdx.x; i < kColumns * mlp.coords; i += kThreads) {
      const int c = i / kColumns, column = i % kColumns;
      const int p = column / kPerPoint, direction = column % kPerPoint - 1;
      const int q = p < tile.count ? p : tile.count - 1;  // rows beyond the end repeat the last point
      const float x = direction < 0 ? work.coordinate(tile, q, c) : work.tangent(tile, q, direction, c);
      in[i] = x;
      out[i] = x;
    }
  }

  // sum[o][c] += weights (inputs, outputs padded to 8) x rows of activations.
  __device__ __forceinline__ static void multiply(float (&sum)[4][4], const float* weights, int padded,
                                                  int inputs, const float* x) {
    for (int k = 0; k < inputs; ++k) {
      const float4 w = *reinterpret_cast<const float4*>(weights + static_cast<int64_t>(k) * padded);
      const float4 v = *reinterpret_cast<const float4*>(x + k * kColumns);
      const float weight[4] = {w.x, w.y, w.z, w.w}, column[4] = {v.x, v.y, v.z, v.w};
      FACETALK_UNROLL()
      for (int o = 0; o < 4; ++o) {
        FACETALK_UNROLL()
        for (int c = 0; c < 4; ++c) sum[o][c] = fmaf(weight[o], column[c], sum[o][c]);
      }
    }
  }

  __device__ void run_layer(const FieldTile& tile, int l) const {
    const FieldDeviceLayer& layer = mlp.layer[l];
    const bool last = l + 1 == mlp.layers;
    const int padded = (layer.outputs + 7) / 8 * 8;
    const int group = threadIdx.x % kColumnGroups * 4;
    const float* hidden =
        static_cast<const float*>(mlp.weights) + tile.set * mlp.weight_count + layer.weights;
    const float* coords = mlp.coord_weights + static_cast<int64_t>(tile.set) * mlp.coord_count + layer.coords;
    for (int o = threadIdx.x / kColumnGroups * 4; o < padded; o += kSweep) {
      float sum[4][4] = {};
      multiply(sum, hidden + o, padded, layer.hidden, in + mlp.coords * kColumns + group);
      FACETALK_UNROLL()
      for (int i = 0; i < 4; ++i) {
        const float bias = tile.bias[layer.bias + o + i];
        FACETALK_UNROLL()
        for (int c = 0; c < 4; ++c) {
          if (last) sum[i][c] *= 1.0f / kSoftplusScale;
          if (!kTangents || c == 0) sum[i][c] += bias;
        }
        if (layer.coords >= 0) {
          for (int k = 0; k < mlp.coords; ++k) {
            const float w = coords[(o + i) * mlp.coords + k];
            FACETALK_UNROLL()
            for (int c = 0; c < 4; ++c) sum[i][c] = fmaf(w, in[k * kColumns + group + c], sum[i][c]);
          }
        }
        if (!last) {
          if (kTangents) {
            const float slope = softplus2_slope(sum[i][0]);
            FACETALK_UNROLL()
            for (int c = 1; c < 4; ++c) sum[i][c] *= slope;
          }
          FACETALK_UNROLL()
          for (int c = 0; c < (kTangents ? 1 : 4); ++c) sum[i][c] = softplus2(sum[i][c]);
        }
        *reinterpret_cast<float4*>(out + (mlp.coords + o + i) * kColumns + group) =
            make_float4(sum[i][0], sum[i][1], sum[i][2], sum[i][3]);
      }
    }
  }

  __device__ void store(const FieldTile& tile) const {
    for (int p = threadIdx.x; p < tile.count; p += kThreads) {
      float* value = in + mlp.coords * kColumns + p * kPerPoint;
      work.store(tile, p, value, kColumns, kTangents ? value + 1 : nullptr, kColumns);
    }
  }
};

template <typename Work, int kColumns, bool kTangents>
__global__ void __launch_bounds__(256) field_mlp_fma(FieldDeviceMlp mlp, Work work, int rows) {
  FACETALK_DYNAMIC_SHARED(float, memory);
  FmaMlp<Work, kColumns, kTangents> run{mlp, work, memory, memory + static_cast<int64_t>(rows) * kColumns};
  const int64_t tiles = work.tiles();
  for (int64_t index = blockIdx.x; index < tiles; index += gridDim.x) {
    const FieldTile tile = work.tile(index);
    run.load_coordinates(tile);
    __syncthreads();
    for (int l = 0; l < mlp.layers; ++l) {
      run.run_layer(tile, l);
      __syncthreads();
      float* swap = run.in;
      run.in = run.out;
      run.out = swap;
    }
    run.store(tile);
    __syncthreads();
  }
}

}  // namespace facetalk::cuda
