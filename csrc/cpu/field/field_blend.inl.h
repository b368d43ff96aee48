// Blending weights of a block of points, and their derivatives. Included by field_<level>.cpp only.
//
// A member takes part at a point when its unnormalised weight is at least exp(-cut) of the nearest anchor's;
// the weights of the others are set to zero and the rest normalised without them. The rule looks at one point
// only, so a point's result never depends on its neighbours in a block.
#pragma once

#include "core/blending.h"
#include "core/field.h"
#include "cpu/field/field_kernels.h"
#include "cpu/field/field_simd.inl.h"

namespace {

using facetalk::FieldBlending;
using facetalk::FieldModel;
using facetalk::kBackgroundExponent;
using facetalk::kDenominator;
using facetalk::kDistanceBias;
using facetalk::kMonoBackground;
using facetalk::kMonoDenominator;
using facetalk::kScaleRank;
using facetalk::kVariance;
using facetalk::cpu::kFieldBlock;

constexpr int kBlockVectors = kFieldBlock / kLanes;
constexpr float kLog2E = 1.44269504088896340736f;

// Blending of a block; all arrays are scratch memory, rows have kFieldBlock entries.
struct Blend {
  float* weight;    // (K + 1, kFieldBlock) normalised; meaningful where `active` says so
  float* active;    // (K + 1, kBlockVectors) 1 where some lane of the vector has a weight above zero, else 0
  float* distance;  // (K + 1, kLanes) of one vector: squared distances to the anchors
  float* unshrink;  // (kFieldBlock) NPHM: factor that takes the 1e-6 out of the denominator
  float* sigma;     // (kFieldBlock) MonoNPHM's scale
  float* scale_from;  // (kFieldBlock) MonoNPHM: the anchor whose distance is the scale, or -1
};

FT_INLINE Vec square_root(Vec v) {
#if defined(__AVX512F__)
  return reinterpret_cast<Vec>(_mm512_sqrt_ps(v));
#elif defined(__AVX2__)
  return reinterpret_cast<Vec>(_mm256_sqrt_ps(v));
#elif defined(__SSE2__)
  return reinterpret_cast<Vec>(_mm_sqrt_ps(v));
#else
  for (int i = 0; i < kLanes; ++i) v[i] = __builtin_sqrtf(v[i]);
  return v;
#endif
}

// Squared distances of kLanes points to anchor k.
FT_INLINE Vec squared_distance(const FieldModel& model, int k, const float* y) {
  const float* a = model.anchor + 3 * k;
  const Vec dx = load(y) - splat(a[0]);
  const Vec dy = load(y + kFieldBlock) - splat(a[1]);
  const Vec dz = load(y + 2 * kFieldBlock) - splat(a[2]);
  return dx * dx + dy * dy + dz * dz;
}

// NPHM weights of vector v of the block; y points at its first lane.
void blend_nphm(const FieldModel& model, const float* y, int v, const Blend& blend) {
  const int anchors = model.anchors;
  Vec nearest = splat(3e38f);
  for (int k = 0; k < anchors; ++k) {
    const Vec delta = square_root(squared_distance(model, k, y)) + splat(kDistanceBias);
    const Vec exponent = delta * delta;
    store(blend.distance + k * kLanes, exponent);
    nearest = min(nearest, exponent);
  }
  const Vec limit = nearest + splat(model.cut * kVariance);
  store(blend.distance + anchors * kLanes, splat(kBackgroundExponent));
  Vec sum{};
  for (int k = 0; k <= anchors; ++k) {
    const Vec exponent = load(blend.distance + k * kLanes);
    const IVec kept = exponent <= limit;
    float* active = blend.active + k * kBlockVectors + v;
    *active = 0.0f;
    if (!any(kept)) continue;
    const Vec full = exp2_accurate(exponent * splat(-kLog2E / kVariance));
    const Vec weight = value(bits(full) & kept);
    sum += weight;
    store(blend.weight + k * kFieldBlock + v * kLanes, weight);
    *active = 1.0f;
  }
  const Vec denominator = sum + splat(kDenominator);
  const Vec inverse = splat(1.0f) / denominator;
  store(blend.unshrink + v * kLanes, denominator / sum);
  for (int k = 0; k <= anchors; ++k) {
    if (blend.active[k * kBlockVectors + v] == 0.0f) continue;
    float* weight = blend.weight + k * kFieldBlock + v * kLanes;
    store(weight, load(weight) * inverse);
  }
}

// MonoNPHM weights of vector v: the nearest anchors by insertion, lower index first among equals.
void blend_mononphm(const FieldModel& model, const float* y, int v, const Blend& blend,
                    float* nearest_distance, int* nearest_index) {
  const int anchors = model.anchors;
  const int count = model.neighbours < anchors ? model.neighbours : anchors;
  for (int k = 0; k < anchors; ++k) store(blend.distance + k * kLanes, squared_distance(model, k, y));
  for (int k = 0; k <= anchors; ++k) {
    store(blend.weight + k * kFieldBlock + v * kLanes, Vec{});
    blend.active[k * kBlockVectors + v] = 0.0f;
  }
  alignas(64) float sigma[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) {
    int have = 0;
    for (int k = 0; k < anchors; ++k) {
      const float d = blend.distance[k * kLanes + lane];
      if (have == count && !(d < nearest_distance[(count - 1) * kLanes + lane])) continue;
      int at = have < count ? have++ : count - 1;
      for (; at > 0 && d < nearest_distance[(at - 1) * kLanes + lane]; --at) {
        nearest_distance[at * kLanes + lane] = nearest_distance[(at - 1) * kLanes + lane];
        nearest_index[at * kLanes + lane] = nearest_index[(at - 1) * kLanes + lane];
      }
      nearest_distance[at * kLanes + lane] = d;
      nearest_index[at * kLanes + lane] = k;
    }
    const int rank = count < kScaleRank ? count - 1 : kScaleRank - 1;
    float scale = __builtin_sqrtf(nearest_distance[rank * kLanes + lane]);
    int from = nearest_index[rank * kLanes + lane];
    if (count < kScaleRank && scale < kMonoBackground) {
      scale = kMonoBackground;
      from = -1;
    }
    sigma[lane] = scale / model.blend_std;
    blend.sigma[v * kLanes + lane] = sigma[lane];
    blend.scale_from[v * kLanes + lane] = static_cast<float>(from);
  }
  const Vec s = load(sigma);
  const Vec factor = splat(-0.5f * kLog2E) / (s * s);
  const Vec limit = load(nearest_distance) + splat(2.0f * model.cut) * s * s;
  store(nearest_distance + count * kLanes, splat(kMonoBackground * kMonoBackground));
  for (int lane = 0; lane < kLanes; ++lane) nearest_index[count * kLanes + lane] = anchors;
  Vec sum = splat(kMonoDenominator);
  for (int j = 0; j <= count; ++j) {
    const Vec d = load(nearest_distance + j * kLanes);
    const IVec kept = d <= limit;
    const Vec weight = value(bits(exp2_accurate(d * factor)) & kept);
    sum += weight;
    store(nearest_distance + j * kLanes, weight);
  }
  const Vec inverse = splat(1.0f) / sum;
  for (int j = 0; j <= count; ++j) {
    const Vec weight = load(nearest_distance + j * kLanes) * inverse;
    for (int lane = 0; lane < kLanes; ++lane) {
      if (!(weight[lane] > 0.0f)) continue;
      const int k = nearest_index[j * kLanes + lane];
      blend.weight[k * kFieldBlock + v * kLanes + lane] = weight[lane];
      blend.active[k * kBlockVectors + v] = 1.0f;
    }
  }
}

// Gradient by position (3) of member k's unnormalised weight, over the denominator, at point i of the block.
void weight_gradient(const FieldModel& model, const Blend& blend, const float* y, int k, int i, float* out) {
  const float weight = blend.weight[k * kFieldBlock + i];
  float r[3] = {0.0f, 0.0f, 0.0f};
  float d = kMonoBackground;
  if (k < model.anchors) {
    for (int c = 0; c < 3; ++c) r[c] = y[c * kFieldBlock + i] - model.anchor[3 * k + c];
    d = __builtin_sqrtf(r[0] * r[0] + r[1] * r[1] + r[2] * r[2]);
  }
  if (model.blending == FieldBlending::kNphm) {
    const float factor =
        k < model.anchors && d > 0.0f ? -2.0f * (d + kDistanceBias) / kVariance * weight / d : 0.0f;
    for (int c = 0; c < 3; ++c) out[c] = factor * r[c];
    return;
  }
  const float s = blend.sigma[i];
  const float rho = weight * d / (s * s);
  for (int c = 0; c < 3; ++c) out[c] = k < model.anchors && d > 0.0f ? -rho * r[c] / d : 0.0f;
  const int from = static_cast<int>(blend.scale_from[i]);
  if (from < 0) return;
  float q[3];
  for (int c = 0; c < 3; ++c) q[c] = y[c * kFieldBlock + i] - model.anchor[3 * from + c];
  const float length = __builtin_sqrtf(q[0] * q[0] + q[1] * q[1] + q[2] * q[2]);
  if (length > 0.0f) {
    for (int c = 0; c < 3; ++c) out[c] += rho * d / s * q[c] / (length * model.blend_std);
  }
}

}  // namespace
