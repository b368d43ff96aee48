// Which members of the identity ensemble matter at a point, and how much: the rules of the CPU backend
// (cpu/field/field_blend.inl.h), a thread for each point.
//
// A point's members are not listed but described by a few numbers, from which every kernel decides the same
// way whether a member takes part; weights are computed where they are used.
#pragma once

#include "core/blending.h"
#include "cuda/field/field.h"
#include "cuda/platform/portable.h"

namespace facetalk::cuda {

constexpr float kLog2E = 1.44269504088896340736f;

// 2^x for x <= 0. Nothing goes below 2^-125, as on the CPU.
__device__ __forceinline__ float exp2_bounded(float x) { return exp2f(fmaxf(x, -125.0f)); }

// Products are not contracted into the sum, so that every kernel finds the same distance, and ties stay ties.
__device__ __forceinline__ float squared_distance(const FieldRoute& route, int k, const float* x) {
  const float* a = route.anchor + 3 * k;
  const float dx = x[0] - a[0], dy = x[1] - a[1], dz = x[2] - a[2];
  return __fadd_rn(__fadd_rn(__fmul_rn(dx, dx), __fmul_rn(dy, dy)), __fmul_rn(dz, dz));
}

// What stands for the distance of member k in the cull rule and, times `factor`, in the exponent of its
// weight.
__device__ __forceinline__ float exponent_of(const FieldRoute& route, int k, const float* x) {
  if (route.blending == FieldBlending::kMonoNphm) {
    return k < route.anchors ? squared_distance(route, k, x) : kMonoBackground * kMonoBackground;
  }
  if (k == route.anchors) return kBackgroundExponent;
  const float delta = __fadd_rn(__fsqrt_rn(squared_distance(route, k, x)), kDistanceBias);
  return __fmul_rn(delta, delta);
}

struct PointBlend {
  float limit;  // largest exponent of a member that takes part
  float last;   // MonoNPHM: squared distance of the farthest neighbour, and its number: of equals the lower
  int last_index;  // numbers are nearer
  float factor;    // of the exponent: weight = 2^(factor * exponent)
  float sigma;     // MonoNPHM
  int scale_from;  // MonoNPHM
};

__device__ __forceinline__ bool takes_part(const FieldRoute& route, const PointBlend& blend, int k,
                                           float exponent) {
  if (!(exponent <= blend.limit)) return false;
  if (route.blending == FieldBlending::kNphm || k == route.anchors) return true;
  return exponent < blend.last || (exponent == blend.last && k <= blend.last_index);
}

__device__ inline PointBlend blend_nphm(const FieldRoute& route, const float* x) {
  float nearest = 3e38f;
  for (int k = 0; k < route.anchors; ++k) nearest = fminf(nearest, exponent_of(route, k, x));
  PointBlend blend{};
  blend.limit = nearest + route.cut * kVariance;
  blend.factor = -kLog2E / kVariance;
  blend.scale_from = -1;
  return blend;
}

// Finds the nearest anchors one after the other: no list, so any number of neighbours needs no memory.
__device__ inline PointBlend blend_mononphm(const FieldRoute& route, const float* x) {
  const int count = route.neighbours < route.anchors ? route.neighbours : route.anchors;
  const int rank = count < kScaleRank ? count - 1 : kScaleRank - 1;
  PointBlend blend{};
  float before = -1.0f, nearest = 0.0f, scale = 0.0f;
  int before_index = -1;
  for (int j = 0; j < count; ++j) {
    float best = 3.4e38f;
    int best_index = route.anchors;
    for (int k = 0; k < route.anchors; ++k) {
      const float d = squared_distance(route, k, x);
      const bool behind = d > before || (d == before && k > before_index);
      if (behind && d < best) {
        best = d;
        best_index = k;
      }
    }
    if (best_index == route.anchors) best_index = -1;  // the point is not finite: no distance is below
    before = best;
    before_index = best_index;
    if (j == 0) nearest = best;
    if (j == rank) {
      scale = __fsqrt_rn(best);
      blend.scale_from = best_index;
    }
  }
  if (count < kScaleRank && scale < kMonoBackground) {
    scale = kMonoBackground;
    blend.scale_from = -1;
  }
  blend.last = before;
  blend.last_index = before_index;
  blend.sigma = scale / route.blend_std;
  const float square = blend.sigma * blend.sigma;
  blend.factor = -0.5f * kLog2E / square;
  blend.limit = nearest + 2.0f * route.cut * square;
  return blend;
}

// One block of points: for each member the points that it matters to, as bits, and how many; for each point
// what turns its members' exponents into weights.
__global__ void __launch_bounds__(kFieldRouteBlock) field_route_kernel(FieldRoute route) {
  constexpr int kWarps = kFieldRouteBlock / 32;
  FACETALK_SHARED(int32_t, counts, [kWarps]);
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kFieldRouteBlock + threadIdx.x;
  const bool real = i < route.n;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t blocks = gridDim.x;
  const float* from = route.y + (real ? i : route.n - 1) * route.coords;
  const float x[3] = {from[0], from[1], from[2]};
  const PointBlend blend =
      route.blending == FieldBlending::kNphm ? blend_nphm(route, x) : blend_mononphm(route, x);
  float sum = 0.0f;
  for (int k = 0; k <= route.anchors; ++k) {
    const float exponent = exponent_of(route, k, x);
    const bool kept = takes_part(route, blend, k, exponent);
    if (kept) sum += exp2_bounded(exponent * blend.factor);
    const unsigned bits = __ballot_sync(kAllLanes, real && kept);
    const int64_t row = static_cast<int64_t>(k) * blocks + blockIdx.x;
    if (lane == 0) {
      route.mask[row * kWarps + warp] = bits;
      counts[warp] = __popc(bits);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      int total = 0;
      for (int w = 0; w < kWarps; ++w) total += counts[w];
      route.block_start[row] = total;
    }
    __syncthreads();
  }
  if (!real) return;
  const bool nphm = route.blending == FieldBlending::kNphm;
  const float denominator = sum + (nphm ? kDenominator : kMonoDenominator);
  route.inverse[i] = 1.0f / denominator;
  route.unshrink[i] = nphm ? denominator / sum : 1.0f;
  route.sigma[i] = blend.sigma;
  route.scale_from[i] = blend.scale_from;
}

// A block for each member: counts of its blocks become what stands before them.
__global__ void __launch_bounds__(kFieldRouteBlock) field_offsets_kernel(FieldRoute route, int64_t blocks) {
  FACETALK_SHARED(int32_t, sums, [kFieldRouteBlock]);
  int32_t* row = route.block_start + static_cast<int64_t>(blockIdx.x) * blocks;
  int32_t before = 0;
  for (int64_t base = 0; base < blocks; base += kFieldRouteBlock) {
    const int64_t at = base + threadIdx.x;
    const int32_t count = at < blocks ? row[at] : 0;
    int32_t sum = count;
    sums[threadIdx.x] = sum;
    __syncthreads();
    for (int step = 1; step < kFieldRouteBlock; step *= 2) {
      const int32_t left = static_cast<int>(threadIdx.x) >= step ? sums[threadIdx.x - step] : 0;
      __syncthreads();
      sum += left;
      sums[threadIdx.x] = sum;
      __syncthreads();
    }
    if (at < blocks) row[at] = before + sum - count;
    before += sums[kFieldRouteBlock - 1];
    __syncthreads();
  }
  if (threadIdx.x == 0) route.member_total[blockIdx.x] = before;
}

// One thread: members are few.
__global__ void field_starts_kernel(FieldRoute route, int tile_points) {
  int32_t pair = 0, tile = 0;
  for (int k = 0; k <= route.anchors; ++k) {
    route.start[k] = pair;
    route.tile_start[k] = tile;
    pair += route.member_total[k];
    tile += (route.member_total[k] + tile_points - 1) / tile_points;
  }
  route.start[route.anchors + 1] = pair;
  route.tile_start[route.anchors + 1] = tile;
}

// The pair of member k and this thread's point, or -1. Points of a member come in ascending order.
__device__ __forceinline__ int64_t pair_of(const FieldRoute& route, int k, int64_t block, int64_t blocks) {
  constexpr int kWarps = kFieldRouteBlock / 32;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t row = static_cast<int64_t>(k) * blocks + block;
  const uint32_t bits = route.mask[row * kWarps + warp];
  if (!(bits >> lane & 1u)) return -1;
  int before = __popc(bits & ((1u << lane) - 1u));
  for (int w = 0; w < warp; ++w) before += __popc(route.mask[row * kWarps + w]);
  return static_cast<int64_t>(route.start[k]) + route.block_start[row] + before;
}

__global__ void __launch_bounds__(kFieldRouteBlock) field_fill_kernel(FieldRoute route) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kFieldRouteBlock + threadIdx.x;
  for (int k = 0; k <= route.anchors; ++k) {
    const int64_t pair = pair_of(route, k, blockIdx.x, gridDim.x);
    if (pair >= 0) route.point[pair] = static_cast<int32_t>(i);
  }
}

// Gradient by position of member k's unnormalised weight, over the denominator; `weight` is normalised.
__device__ inline void weight_gradient(const FieldRoute& route, int k, const float* x, float weight,
                                       float sigma, int scale_from, float* out) {
  float r[3] = {0.0f, 0.0f, 0.0f}, d = kMonoBackground;
  if (k < route.anchors) {
    for (int c = 0; c < 3; ++c) r[c] = x[c] - route.anchor[3 * k + c];
    d = sqrtf(r[0] * r[0] + r[1] * r[1] + r[2] * r[2]);
  }
  const bool moves = k < route.anchors && d > 0.0f;
  if (route.blending == FieldBlending::kNphm) {
    const float factor = moves ? __fdividef(-2.0f / kVariance * (d + kDistanceBias) * weight, d) : 0.0f;
    for (int c = 0; c < 3; ++c) out[c] = factor * r[c];
    return;
  }
  const float rho = __fdividef(weight * d, sigma * sigma);
  for (int c = 0; c < 3; ++c) out[c] = moves ? __fdividef(-rho * r[c], d) : 0.0f;
  if (scale_from < 0) return;
  float q[3];
  for (int c = 0; c < 3; ++c) q[c] = x[c] - route.anchor[3 * scale_from + c];
  const float length = sqrtf(q[0] * q[0] + q[1] * q[1] + q[2] * q[2]);
  if (length > 0.0f) {
    for (int c = 0; c < 3; ++c) out[c] += __fdividef(rho * d * q[c], sigma * length * route.blend_std);
  }
}

// A point's contributions, in the order of members.
template <bool kGradient>
__global__ void __launch_bounds__(kFieldRouteBlock)
    field_combine_kernel(FieldRoute route, FieldCombine combine) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kFieldRouteBlock + threadIdx.x;
  if (i >= route.n) return;
  const float* from = route.y + i * route.coords;
  const float x[3] = {from[0], from[1], from[2]};
  const float inverse = route.inverse[i], sigma = route.sigma[i];
  const float factor =
      route.blending == FieldBlending::kNphm ? -kLog2E / kVariance : -0.5f * kLog2E / (sigma * sigma);
  float sum = 0.0f, slope[3] = {}, pull[3] = {}, weight_pull[3] = {};
  for (int k = 0; k <= route.anchors; ++k) {
    const int64_t pair = pair_of(route, k, blockIdx.x, gridDim.x);
    if (pair < 0) continue;
    const float weight = exp2_bounded(exponent_of(route, k, x) * factor) * inverse;
    const float value = combine.value[pair];
    sum = fmaf(weight, value, sum);
    if constexpr (kGradient) {
      float g[3];
      weight_gradient(route, k, x, weight, sigma, route.scale_from[i], g);
      for (int c = 0; c < 3; ++c) {
        slope[c] = fmaf(weight, combine.slope[3 * pair + c], slope[c]);
        pull[c] = fmaf(value, g[c], pull[c]);
        weight_pull[c] += g[c];
      }
    }
  }
  if (combine.sdf) combine.sdf[i] = sum;
  if (combine.raw_sdf) combine.raw_sdf[i] = sum * route.unshrink[i];
  if constexpr (kGradient) {
    for (int d = 0; d < 3; ++d) {
      float total = slope[d];
      for (int c = 0; c < 3; ++c) {
        const float seed = combine.seed[(i * route.coords + c) * 3 + d];
        total = fmaf(pull[c] - sum * weight_pull[c], seed, total);
      }
      combine.gradient[3 * i + d] = total;
    }
  }
}

}  // namespace facetalk::cuda
