// A packed MLP over a tile of points that stays in cache through all layers. Included by field_<level>.cpp
// only.
//
// A tile is a few column groups of kColumns points. A group holds its activations as rows of kColumns values:
// first the coordinates, then the hidden units, so that a layer that reads both reads one contiguous run.
// With derivatives, each group of values is followed by one group per tangent, which pass through the same
// weights without biases.
#pragma once

#include "core/field.h"
#include "cpu/field/field_simd.inl.h"

namespace {

using facetalk::FieldLayer;
using facetalk::FieldMlp;

// rows x kColumns of `out` = bias + weights (inputs, rows) ^T * x (inputs, kColumns).
template <int kRows>
void panel_product(const float* weights, const float* bias, const float* x, int inputs, float* out) {
  Vec sum[kRows][kVectors];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) sum[r][v] = bias ? splat(bias[r]) : Vec{};
  }
  for (int i = 0; i < inputs; ++i, x += kColumns, weights += kRows) {
    Vec column[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) column[v] = load(x + v * kLanes);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const Vec w = splat(weights[r]);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sum[r][v] += w * column[v];
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) store(out + r * kColumns + v * kLanes, sum[r][v]);
  }
}

using PanelProduct = void (*)(const float*, const float*, const float*, int, float*);
constexpr PanelProduct kPanelProduct[] = {
    nullptr,           panel_product<1>,  panel_product<2>, panel_product<3>,
    panel_product<4>,  panel_product<5>,  panel_product<6>,
#if defined(__AVX512F__)
    panel_product<7>,  panel_product<8>,  panel_product<9>, panel_product<10>,
    panel_product<11>, panel_product<12>,
#endif
};

// Softplus of `count` values in place; tangents (at the same place in the groups after) are scaled by its
// slope.
inline void activate(float* z, int count, int tangents, int group_stride) {
  if (tangents == 0) {
    for (int i = 0; i < count; i += kLanes) store(z + i, softplus2(load(z + i)));
    return;
  }
  for (int i = 0; i < count; i += kLanes) {
    const Vec v = load(z + i);
    const Vec slope = softplus2_slope(v);
    store(z + i, softplus2(v));
    for (int t = 1; t <= tangents; ++t) {
      float* tangent = z + t * group_stride + i;
      store(tangent, load(tangent) * slope);
    }
  }
}

struct TileBuffers {
  float* first;      // (groups, rows, kColumns)
  float* second;     // the same
  int group_stride;  // floats between groups
};

// Runs `values` groups (each followed by `tangents` tangent groups) through the network. The coordinates lie
// in the first rows of every group of buffers.first; they are copied to the other buffer here. Returns the
// buffer that holds the last layer's outputs, in the rows after the coordinates.
const float* run_mlp(const FieldMlp& mlp, int set, const float* bias, const TileBuffers& buffers, int values,
                     int tangents) {
  const int groups = values * (1 + tangents);
  const int coord_floats = mlp.coords * kColumns;
  for (int g = 0; g < groups; ++g) {
    const float* from = buffers.first + static_cast<int64_t>(g) * buffers.group_stride;
    float* to = buffers.second + static_cast<int64_t>(g) * buffers.group_stride;
    for (int i = 0; i < coord_floats; i += kLanes) store(to + i, load(from + i));
  }
  float* in = buffers.first;
  float* out = buffers.second;
  for (int l = 0; l < mlp.layers; ++l) {
    const FieldLayer& layer = mlp.layer[l];
    const int inputs = layer.coords + layer.hidden;
    const float* weights = layer.weights + static_cast<int64_t>(set) * layer.outputs * inputs;
    const float* layer_bias = bias + layer.bias_offset;
    const float* x = in + (layer.coords ? 0 : coord_floats);
    for (int p = 0; p < layer.panels; ++p) {
      const int start = layer.panel_start(p);
      const int rows = layer.panel_start(p + 1) - start;
      const float* panel = weights + static_cast<int64_t>(start) * inputs;
      float* to = out + coord_floats + start * kColumns;
      const PanelProduct product = kPanelProduct[rows];
      for (int v = 0; v < values; ++v) {
        const int64_t base = static_cast<int64_t>(v) * (1 + tangents) * buffers.group_stride;
        for (int t = 0; t <= tangents; ++t) {
          const int64_t offset = base + static_cast<int64_t>(t) * buffers.group_stride;
          product(panel, t == 0 ? layer_bias + start : nullptr, x + offset, inputs, to + offset);
        }
        if (l + 1 < mlp.layers) activate(to + base, rows * kColumns, tangents, buffers.group_stride);
      }
    }
    float* swap = in;
    in = out;
    out = swap;
  }
  return in;
}

}  // namespace
