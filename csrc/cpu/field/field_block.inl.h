// One block of points from query to signed distance: deformation, blending, members. Included by
// field_<level>.cpp only.
//
// Points stay together through the deformation; then each member gathers the points that need it, so that its
// weights are read once for many points and no point waits for members that do not matter to it.
#pragma once

#include "core/field.h"
#include "cpu/field/field_blend.inl.h"
#include "cpu/field/field_mlp.inl.h"

namespace {

using facetalk::FieldBlock;
using facetalk::FieldSmoothing;
using facetalk::kMaxFieldCoords;
using facetalk::kMostCoordinate;

constexpr int kTileColumns = 64;      // points in a tile
constexpr int kTangentColumns = 256;  // and at most this many columns when each point brings its tangents

inline int tile_groups(int tangents) {
  const int groups = tangents ? kTangentColumns / (kColumns * (1 + tangents)) : kTileColumns / kColumns;
  return groups > 1 ? groups : 1;
}

// Scratch memory of one block, carved in a fixed order.
struct Scratch {
  Blend blend;
  float* y;         // (C, kFieldBlock) points, then canonical points
  float* seed;      // (T, C, kFieldBlock) derivative of y by tangent t
  float* sum;       // (kFieldBlock) signed distance
  float* slope;     // (T, kFieldBlock) blended member derivatives
  float* pull;      // (2, 3, kFieldBlock) sum of f_k grad w_k, and sum of grad w_k
  float* near;      // (M + 1, kLanes) MonoNPHM's nearest, and their indices
  int* near_index;  // (M + 1, kLanes)
  int* index;       // (kFieldBlock) points of a member
  TileBuffers tile;
  size_t floats;
};

Scratch carve(const FieldModel& model, bool gradients, float* base) {
  Scratch s{};
  size_t at = 0;
  auto take = [&](size_t floats) {
    float* here = base ? base + at : nullptr;
    at += (floats + 15) / 16 * 16;
    return here;
  };
  const size_t members = static_cast<size_t>(model.anchors) + 1;
  const size_t coords = static_cast<size_t>(model.identity.coords);
  const size_t tangents = gradients ? coords : 0;
  s.blend.weight = take(members * kFieldBlock);
  s.blend.active = take(members * kBlockVectors);
  s.blend.distance = take(members * kLanes);
  s.blend.unshrink = take(kFieldBlock);
  s.blend.sigma = take(kFieldBlock);
  s.blend.scale_from = take(kFieldBlock);
  s.y = take(coords * kFieldBlock);
  s.seed = take(tangents * coords * kFieldBlock);
  s.sum = take(kFieldBlock);
  s.slope = take(tangents * kFieldBlock);
  s.pull = take(gradients ? 6 * kFieldBlock : 0);
  const size_t near = static_cast<size_t>(model.neighbours) + 2;
  s.near = take(near * kLanes);
  s.near_index = reinterpret_cast<int*>(take(near * kLanes));
  s.index = reinterpret_cast<int*>(take(kFieldBlock));
  size_t rows = 0;
  const FieldMlp* networks[] = {&model.identity, &model.deformation};
  for (const FieldMlp* mlp : networks) {
    const size_t widest = static_cast<size_t>(mlp->width > mlp->outputs ? mlp->width : mlp->outputs);
    const size_t need = static_cast<size_t>(mlp->coords) + widest;
    rows = need > rows ? need : rows;
  }
  size_t groups = static_cast<size_t>(tile_groups(0));
  for (int t = 1; gradients && t <= static_cast<int>(tangents); ++t) {
    const size_t need = static_cast<size_t>(tile_groups(t) * (1 + t));
    groups = need > groups ? need : groups;
  }
  s.tile.group_stride = static_cast<int>(rows * kColumns);
  s.tile.first = take(groups * rows * kColumns);
  s.tile.second = take(groups * rows * kColumns);
  s.floats = at;
  return s;
}

// Smoothing weight of a point and its gradient.
float smoothing_weight(const FieldSmoothing& smoothing, const float* p, float* gradient) {
  float u[3];
  float q = 0.0f;
  for (int c = 0; c < 3; ++c) {
    u[c] = (p[c] - smoothing.centre[c]) * smoothing.inverse_sigma[c];
    q += u[c] * u[c];
  }
  const float e = exp2_accurate(splat(-0.5f * kLog2E * q))[0] * smoothing.scale;
  const float w = e + smoothing.shift;
  const bool clamped = w < 0.0f || w > 1.0f;
  for (int c = 0; c < 3; ++c) gradient[c] = clamped ? 0.0f : -u[c] * smoothing.inverse_sigma[c] * e;
  return w < 0.0f ? 0.0f : w > 1.0f ? 1.0f : w;
}

// Moves the points in s.y by the deformation, writes the block's offsets and Jacobian, and the seeds of the
// tangents.
void deform(const FieldBlock& block, const Scratch& s, int tangents) {
  const FieldModel& model = *block.model;
  const int outputs = model.deformation.outputs;
  const int step = tile_groups(tangents) * kColumns;
  for (int start = 0; start < block.n; start += step) {
    const int count = block.n - start < step ? block.n - start : step;
    const int values = (count + kColumns - 1) / kColumns;
    for (int g = 0; g < values; ++g) {
      float* group = s.tile.first + static_cast<int64_t>(g) * (1 + tangents) * s.tile.group_stride;
      for (int c = 0; c < 3; ++c) {
        const float* from = s.y + c * kFieldBlock + start + g * kColumns;
        for (int i = 0; i < kColumns; i += kLanes) store(group + c * kColumns + i, load(from + i));
        for (int t = 0; t < tangents; ++t) {
          float* tangent = group + (1 + t) * s.tile.group_stride + c * kColumns;
          for (int i = 0; i < kColumns; i += kLanes) store(tangent + i, splat(c == t ? 1.0f : 0.0f));
        }
      }
    }
    const float* out = run_mlp(model.deformation, 0, block.frame_bias, s.tile, values, tangents);
    for (int j = 0; j < count; ++j) {
      const int i = start + j;
      const float* column = out + static_cast<int64_t>(j / kColumns) * (1 + tangents) * s.tile.group_stride +
                            3 * kColumns + j % kColumns;
      float x[3], slope[3] = {0.0f, 0.0f, 0.0f};
      for (int c = 0; c < 3; ++c) x[c] = s.y[c * kFieldBlock + i];
      const float w = block.smoothing ? smoothing_weight(*block.smoothing, x, slope) : 1.0f;
      for (int o = 0; o < outputs; ++o) {
        const float offset = column[o * kColumns];
        const float factor = o < 3 ? w : 1.0f;
        s.y[o * kFieldBlock + i] = (o < 3 ? x[o] : 0.0f) + factor * offset;
        if (block.offsets) block.offsets[static_cast<int64_t>(i) * outputs + o] = factor * offset;
        for (int t = 0; t < tangents; ++t) {
          float d = factor * column[(1 + t) * s.tile.group_stride + o * kColumns];
          if (o < 3) d += offset * slope[t];
          if (block.jacobian) block.jacobian[(static_cast<int64_t>(i) * outputs + o) * 3 + t] = d;
          s.seed[(t * model.identity.coords + o) * kFieldBlock + i] = d + (o == t ? 1.0f : 0.0f);
        }
      }
    }
  }
}

// Adds member k's part to the points that it matters to.
void add_member(const FieldBlock& block, const Scratch& s, int k, int tangents) {
  const FieldModel& model = *block.model;
  const int coords = model.identity.coords;
  const float* weight = s.blend.weight + k * kFieldBlock;
  int count = 0;
  for (int v = 0; v * kLanes < block.n; ++v) {
    if (s.blend.active[k * kBlockVectors + v] == 0.0f) continue;
    const int end = (v + 1) * kLanes < block.n ? (v + 1) * kLanes : block.n;
    for (int i = v * kLanes; i < end; ++i) {
      s.index[count] = i;
      count += weight[i] > 0.0f;
    }
  }
  const float zero[3] = {0.0f, 0.0f, 0.0f};
  const float* anchor = k < model.anchors ? model.anchor + 3 * k : zero;
  const float* bias = model.member_bias + static_cast<int64_t>(k) * model.identity.bias_count;
  const int step = tile_groups(tangents) * kColumns;
  for (int start = 0; start < count; start += step) {
    const int here = count - start < step ? count - start : step;
    const int values = (here + kColumns - 1) / kColumns;
    for (int j = 0; j < values * kColumns; ++j) {
      const int i = s.index[start + (j < here ? j : here - 1)];
      float* column = s.tile.first +
                      static_cast<int64_t>(j / kColumns) * (1 + tangents) * s.tile.group_stride +
                      j % kColumns;
      for (int c = 0; c < coords; ++c) {
        const float sign = c == 0 ? model.mirror[k] : 1.0f;
        column[c * kColumns] = sign * (s.y[c * kFieldBlock + i] - (c < 3 ? anchor[c] : 0.0f));
        for (int t = 0; t < tangents; ++t) {
          column[(1 + t) * s.tile.group_stride + c * kColumns] =
              sign * s.seed[(t * coords + c) * kFieldBlock + i];
        }
      }
    }
    const float* out = run_mlp(model.identity, model.member_set[k], bias, s.tile, values, tangents);
    for (int j = 0; j < here; ++j) {
      const int i = s.index[start + j];
      const float* column = out + static_cast<int64_t>(j / kColumns) * (1 + tangents) * s.tile.group_stride +
                            coords * kColumns + j % kColumns;
      s.sum[i] += weight[i] * column[0];
      if (tangents == 0) continue;
      for (int t = 0; t < tangents; ++t)
        s.slope[t * kFieldBlock + i] += weight[i] * column[(1 + t) * s.tile.group_stride];
      float gradient[3];
      weight_gradient(model, s.blend, s.y, k, i, gradient);
      for (int c = 0; c < 3; ++c) {
        s.pull[c * kFieldBlock + i] += column[0] * gradient[c];
        s.pull[(3 + c) * kFieldBlock + i] += gradient[c];
      }
    }
  }
}

void evaluate_block(const FieldBlock& block, float* scratch) {
  const FieldModel& model = *block.model;
  const bool deforms = block.frame_bias != nullptr;
  const int coords = model.identity.coords;
  const bool derive = block.gradient != nullptr || block.jacobian != nullptr;
  const int tangents = !derive ? 0 : deforms ? 3 : block.coords;
  const Scratch s = carve(model, derive, scratch);
  // Rows are padded with the last point, so that whole vectors can be computed.
  const int padded = (block.n + kColumns - 1) / kColumns * kColumns;
  for (int c = 0; c < coords; ++c) {
    for (int i = 0; i < padded; ++i) {
      const int from = i < block.n ? i : block.n - 1;
      s.y[c * kFieldBlock + i] =
          c < block.coords ? block.points[static_cast<int64_t>(from) * block.stride + c] : 0.0f;
    }
  }
  for (int t = 0; t < tangents; ++t) {
    for (int c = 0; c < coords; ++c) {
      float* seed = s.seed + (t * coords + c) * kFieldBlock;
      for (int i = 0; i < padded; ++i) seed[i] = c == t ? 1.0f : 0.0f;
    }
  }
  if (deforms) deform(block, s, tangents);
  if (!block.sdf && !block.raw_sdf && !block.gradient) return;
  // deform() wrote the real points only.
  for (int c = 0; c < coords; ++c) {
    for (int i = block.n; i < padded; ++i) s.y[c * kFieldBlock + i] = s.y[c * kFieldBlock + block.n - 1];
  }
  for (int v = 0; v * kLanes < block.n; ++v) {
    if (model.blending == FieldBlending::kNphm) {
      blend_nphm(model, s.y + v * kLanes, v, s.blend);
    } else {
      blend_mononphm(model, s.y + v * kLanes, v, s.blend, s.near, s.near_index);
    }
  }
  // Where the deformation overflowed, no member is near, and the empty sum must not pass for a distance.
  for (int i = 0; i < block.n; ++i) {
    bool held = true;
    for (int c = 0; c < coords; ++c) {
      const float y = s.y[c * kFieldBlock + i];
      held = held && y <= kMostCoordinate && y >= -kMostCoordinate;
    }
    s.sum[i] = held ? 0.0f : __builtin_nanf("");
  }
  const int gradients = block.gradient ? tangents : 0;
  for (int t = 0; t < gradients; ++t) {
    for (int i = 0; i < block.n; ++i) s.slope[t * kFieldBlock + i] = 0.0f;
  }
  for (int c = 0; c < (gradients ? 6 : 0); ++c) {
    for (int i = 0; i < block.n; ++i) s.pull[c * kFieldBlock + i] = 0.0f;
  }
  for (int k = 0; k <= model.anchors; ++k) add_member(block, s, k, gradients);
  for (int i = 0; i < block.n; ++i) {
    if (block.sdf) block.sdf[i] = s.sum[i];
    if (block.raw_sdf) {
      block.raw_sdf[i] = model.blending == FieldBlending::kNphm ? s.sum[i] * s.blend.unshrink[i] : s.sum[i];
    }
    for (int t = 0; t < gradients; ++t) {
      float total = s.slope[t * kFieldBlock + i];
      for (int c = 0; c < 3; ++c) {
        const float pull = s.pull[c * kFieldBlock + i] - s.sum[i] * s.pull[(3 + c) * kFieldBlock + i];
        total += pull * s.seed[(t * coords + c) * kFieldBlock + i];
      }
      block.gradient[static_cast<int64_t>(i) * tangents + t] = total;
    }
  }
}

size_t scratch_floats(const FieldModel& model, bool gradients) {
  return carve(model, gradients, nullptr).floats;
}

}  // namespace
