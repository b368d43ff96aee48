// What the field's MLP kernels share: softplus, which points a tile holds, what goes into and out of a
// network.
#pragma once

#include "cuda/field/field.h"
#include "cuda/platform/matrix.cuh"
#include "cuda/platform/portable.h"

namespace facetalk::cuda {

// 2^-|z|, and zero far out, where softplus is exactly linear or zero.
__device__ __forceinline__ float exp2_negative_abs(float z) { return fast_exp2(-fabsf(z)); }

// Base-2 softplus, max(z, 0) + log2(1 + 2^-|z|), for 16-bit results: the logarithm is a minimax polynomial of
// degree 5 without constant term (absolute error 1.5e-5, a tenth of what fp16 can hold where it matters), so
// that one visit to the special-function unit is enough. There is no branch around it: the unit serves whole
// warps, and the tile of a warp's accumulators holds eight hidden units, nearly always one of them in
// transition.
__device__ __forceinline__ float softplus2_half(float z) {
  const float e = exp2_negative_abs(z);
  float p = 0.046385355f;
  p = fmaf(p, e, -0.19626963f);
  p = fmaf(p, e, 0.41759577f);
  p = fmaf(p, e, -0.7096628f);
  p = fmaf(p, e, 1.4419656f);
  return fmaf(p, e, fmaxf(z, 0.0f));
}

// Of two numbers into one register.
template <typename T>
__device__ __forceinline__ uint32_t softplus2_pair(float low, float high) {
  return pack2<T>(softplus2_half(low), softplus2_half(high));
}
// In fp16 arithmetic, two numbers an instruction, since the instructions are what the kernels of narrow networks
// wait for: the polynomial has degree 4 (absolute error 1e-4). Together that errs by 0.4 more than rounding the exact
// value to fp16 does where the function is in transition, and not at all elsewhere.
template <>
__device__ __forceinline__ uint32_t softplus2_pair<__half>(float low, float high) {
  constexpr uint32_t kSigns = 0x80008000u;
  const auto both = [](float value) { return pack2<__half>(value, value); };
  const uint32_t z = pack2<__half>(low, high), e = exp2_halves(z | kSigns);
  uint32_t p = fma_halves(both(-0.08476866f), e, both(0.32559571f));
  p = fma_halves(p, e, both(-0.67994407f));
  p = fma_halves(p, e, both(1.43901468f));
  return fma_halves(p, e, max_halves(z, 0u));
}

// The same with the CPU backend's polynomial of degree 6 (absolute error 2.1e-6, or 1.5e-8 in the networks'
// units).
__device__ __forceinline__ float softplus2(float z) {
  const float e = exp2_negative_abs(z);
  float p = -0.026457414031028748f;
  p = fmaf(p, e, 0.12345138192176819f);
  p = fmaf(p, e, -0.27953803539276123f);
  p = fmaf(p, e, 0.45827075839042664f);
  p = fmaf(p, e, -0.7182819247245789f);
  p = fmaf(p, e, 1.442553162574768f);
  return fmaf(p, e, fmaxf(z, 0.0f));
}

// Its derivative 1 / (1 + 2^-z).
__device__ __forceinline__ float softplus2_slope(float z) {
  const float e = exp2_negative_abs(z);
  const float inverse = 1.0f / (1.0f + e);
  return z < 0.0f ? e * inverse : inverse;
}

// Points that a block works on together: `first` counts among the points of a segment or among pairs.
struct FieldTile {
  int64_t first;
  int64_t segment;  // or member
  int count;
  int set;
  const float* bias;
};

// The spatial weight of the offset at x, and its gradient (zero where it is clamped).
__device__ inline float smoothing_weight(const FieldSmoothing& s, const float* x, float* slope) {
  float exponent = 0.0f, pull[3];
  for (int c = 0; c < 3; ++c) {
    const float d = (x[c] - s.centre[c]) * s.inverse_sigma[c];
    exponent += d * d;
    pull[c] = -d * s.inverse_sigma[c];
  }
  const float bell = expf(-0.5f * exponent) * s.scale;
  const float w = bell + s.shift;
  const bool inside = w > 0.0f && w < 1.0f;
  for (int c = 0; c < 3; ++c) slope[c] = inside ? bell * pull[c] : 0.0f;
  return fminf(fmaxf(w, 0.0f), 1.0f);
}

// Input and output of the deformation.
struct DeformWork {
  FieldSegments s;
  int bias_count;
  int outputs;
  int points;  // of a tile

  __device__ int64_t tiles_per_segment() const { return ceil_div(s.length, points); }
  __device__ int64_t tiles() const { return tiles_per_segment() * s.count; }

  __device__ FieldTile tile(int64_t index) const {
    const int64_t per = tiles_per_segment();
    FieldTile t;
    t.segment = index / per;
    t.first = (index - t.segment * per) * points;
    const int64_t left = s.length - t.first;
    t.count = left < points ? static_cast<int>(left) : points;
    t.set = 0;
    t.bias = s.bias + (s.row ? static_cast<int64_t>(s.row[t.segment]) : t.segment) * bias_count;
    return t;
  }

  // Weight set of a tile, and the tile with which another set's begin.
  __device__ int set_of(int) const { return 0; }
  __device__ int end_of_set(int) const { return static_cast<int>(tiles()); }

  // Coordinate c of point i of the tile.
  __device__ float coordinate(const FieldTile& t, int i, int c) const {
    return s.points[t.segment * s.point_stride + (t.first + i) * 3 + c];
  }
  __device__ float tangent(const FieldTile&, int, int direction, int c) const {
    return c == direction ? 1.0f : 0.0f;
  }

  // Takes the network's outputs at point i. slope: (outputs, 3) with the given stride, or null.
  __device__ void store(const FieldTile& t, int i, const float* out, int stride, const float* slope,
                        int slope_stride) const {
    const int64_t at = (t.segment * s.length + t.first + i) * outputs;
    float x[3], fade[3] = {0.0f, 0.0f, 0.0f};
    for (int c = 0; c < 3; ++c) x[c] = coordinate(t, i, c);
    const float w = s.smooth ? smoothing_weight(s.smoothing, x, fade) : 1.0f;
    for (int o = 0; o < outputs; ++o) {
      const float value = out[o * stride];
      const float offset = o < 3 ? w * value : value;
      if (s.offsets) s.offsets[at + o] = offset;
      if (s.y) s.y[at + o] = o < 3 ? x[o] + offset : offset;
      if (!slope) continue;
      for (int d = 0; d < 3; ++d) {
        float change = slope[o * slope_stride + d];
        if (o < 3) change = w * change + value * fade[d];
        if (s.jacobian) s.jacobian[(at + o) * 3 + d] = change;
        if (s.seed) s.seed[(at + o) * 3 + d] = change + (o == d ? 1.0f : 0.0f);
      }
    }
  }
};

// Input and output of the members.
struct MemberWork {
  FieldPairs p;
  int bias_count;
  int coords;
  int points;  // of a tile

  __device__ int64_t tiles() const { return p.tile_start[p.anchors + 1]; }

  // The member whose tiles hold `index`: the last one that starts at or before it.
  __device__ int member_of(int index) const {
    int low = 0, high = p.anchors + 1;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      if (p.tile_start[middle] <= index) {
        low = middle;
      } else {
        high = middle;
      }
    }
    return low;
  }
  __device__ int set_of(int index) const { return p.member_set[member_of(index)]; }
  __device__ int end_of_set(int index) const {
    int member = member_of(index);
    const int set = p.member_set[member];
    while (member <= p.anchors && p.member_set[member] == set) ++member;
    return p.tile_start[member];
  }

  __device__ FieldTile tile(int64_t index) const {
    const int low = member_of(static_cast<int>(index));
    FieldTile t;
    t.segment = low;
    t.first = p.start[low] + (index - p.tile_start[low]) * points;
    const int64_t left = p.start[low + 1] - t.first;
    t.count = left < points ? static_cast<int>(left) : points;
    t.set = p.member_set[low];
    t.bias = p.bias + static_cast<int64_t>(low) * bias_count;
    return t;
  }

  __device__ float coordinate(const FieldTile& t, int i, int c) const {
    const int64_t point = p.point[t.first + i];
    const float anchor = c < 3 && t.segment < p.anchors ? p.anchor[3 * t.segment + c] : 0.0f;
    const float local = p.y[point * coords + c] - anchor;
    return c == 0 ? local * p.mirror[t.segment] : local;
  }
  __device__ float tangent(const FieldTile& t, int i, int direction, int c) const {
    const int64_t point = p.point[t.first + i];
    const float seed = p.seed[(point * coords + c) * 3 + direction];
    return c == 0 ? seed * p.mirror[t.segment] : seed;
  }

  __device__ void store(const FieldTile& t, int i, const float* out, int, const float* slope, int) const {
    p.value[t.first + i] = out[0];
    if (slope) {
      for (int d = 0; d < 3; ++d) p.slope[(t.first + i) * 3 + d] = slope[d];
    }
  }
};

}  // namespace facetalk::cuda
