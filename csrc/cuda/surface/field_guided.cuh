// Guided frames: which bricks, nodes and samples are wanted, and what is made of the networks' answers. See
// field_guided.h for each kernel; decisions and formulas are those of cpu/surface/field_guided.cpp, in the same
// order.
#pragma once

#include "core/offset_probes.h"
#include "cuda/platform/portable.h"
#include "cuda/surface/brick_place.cuh"
#include "cuda/surface/canonical_cache.cuh"
#include "cuda/surface/field_guided.h"
#include "cuda/surface/offset_nodes.cuh"

namespace facetalk::cuda {

__device__ __forceinline__ void brick_centre(const FieldGuide& guide, const int* at, float* out) {
  for (int a = 0; a < 3; ++a)
    out[a] = guide.front[a] + guide.edge[a] * (static_cast<float>(at[a] * kBrickSide) + 3.5f);
}

// kBrickWanted where the surface may be within that distance of canonical point y, else the sign.
__device__ __forceinline__ int32_t sign_beyond(const FieldGuide& guide, const float* y, float within) {
  const float distance = guide.cache.distance(y);
  if (!(fabsf(distance) > within)) return kBrickWanted;
  return distance < 0.0f ? kBrickInside : kBrickOutside;
}

__global__ void __launch_bounds__(kGuidedThreads)
    guided_near_kernel(FieldGuide guide, const float* longest, int32_t* table) {
  const int64_t index = guided_thread();
  if (index >= guide.bricks.count) return;
  const BrickPlace place = place_of(guide.bricks, index);
  float x[3];
  brick_centre(guide, place.at, x);
  table[index] = sign_beyond(guide, x, guide.half_diagonal + longest[place.frame]);
}

// Several threads may find the same node wanted; all write the same.
__global__ void __launch_bounds__(kGuidedThreads)
    guided_need_kernel(FieldGuide guide, FieldNodes nodes, const int64_t* list, int64_t listed,
                       uint8_t* wanted) {
  constexpr int kMost = kMostWindow * kMostWindow * kMostWindow;
  const int64_t thread = guided_thread();
  if (thread >= listed * kMost) return;
  const BrickPlace place = place_of(guide.bricks, list[thread / kMost]);
  const NodeWindow w = window_of(nodes, place.at);
  const int e = static_cast<int>(thread % kMost);
  const int i = e / (kMostWindow * kMostWindow), j = e / kMostWindow % kMostWindow, k = e % kMostWindow;
  if (i >= w.count || j >= w.count || k >= w.count) return;
  uint8_t& here = wanted[node_at(nodes, place.frame, w.first[0] + i, w.first[1] + j, w.first[2] + k)];
  if (here == 0) here = 1;
}

__global__ void __launch_bounds__(kGuidedThreads)
    guided_probes_kernel(FieldGuide guide, FieldNodes nodes, const int64_t* list, int64_t listed,
                         uint8_t* wanted) {
  const int64_t entry = guided_thread();
  if (entry >= listed) return;
  uint8_t& here = wanted[probed_cell(nodes, place_of(guide.bricks, list[entry]))];
  if (here == 0) here = 1;
}

// A block for each listed brick, as for all kernels that interpolate.
__global__ void __launch_bounds__(kGuidedThreads)
    guided_cross_kernel(FieldGuide guide, FieldNodes nodes, const int64_t* list, int32_t* table) {
  FACETALK_SHARED(BrickOffsets, shared, [1]);
  const int64_t index = list[blockIdx.x];
  const BrickPlace place = place_of(guide.bricks, index);
  interpolate_brick(nodes, place, shared[0]);
  if (threadIdx.x != 0) return;
  float x[3];
  brick_centre(guide, place.at, x);
  const float stretch = guide.stretches.within(x, guide.half_diagonal, guide.stretch);
  for (int c = 0; c < 3; ++c) {
    float sum = 0.0f;  // of the eight samples around the middle
    for (int s = 0; s < 8; ++s) sum += offset_of(shared[0], c, 3 + (s >> 2), 3 + (s >> 1 & 1), 3 + (s & 1));
    x[c] += sum / 8.0f;
  }
  // Interpolation errs; a cell's diagonal is far more than it can where it matters.
  table[index] = sign_beyond(guide, x, (guide.half_diagonal + guide.diagonal) * stretch);
}

__global__ void __launch_bounds__(kGuidedThreads)
    guided_levels_kernel(FieldGuide guide, FieldNodes nodes, int number, float tolerance, const int64_t* list,
                         int64_t listed, int32_t* level, float* error) {
  const int64_t entry = guided_thread();
  if (entry >= listed || level[entry] >= 0) return;
  const float found = kProbeMargin * probed_error(nodes, place_of(guide.bricks, list[entry]));
  error[entry] = found;
  if (tolerance > 0.0f && found <= tolerance) level[entry] = number;
}

__global__ void __launch_bounds__(kGuidedThreads)
    guided_guess_kernel(FieldGuide guide, FieldNodes nodes, int number, bool rest, bool exact,
                        float cache_tolerance, const int64_t* list, const int32_t* level, const float* error,
                        float* samples, uint8_t* state) {
  FACETALK_SHARED(BrickOffsets, shared, [1]);
  const int64_t entry = blockIdx.x;
  if (level[entry] != number && !(rest && level[entry] < 0)) return;
  const BrickPlace place = place_of(guide.bricks, list[entry]);
  interpolate_brick(nodes, place, shared[0]);
  const bool smooth = level[entry] >= 0 && !exact;
  const float moved = error[entry];
  float middle[3];
  brick_centre(guide, place.at, middle);
  // A corner of a cell that the surface cuts is no farther from it.
  const float wide =
      1.01f * guide.diagonal * guide.stretches.within(middle, guide.half_diagonal, guide.stretch);
  for (int s = static_cast<int>(threadIdx.x); s < kBrickSamples; s += kGuidedThreads) {
    const int within[3] = {s >> (2 * kBrickShift), s >> kBrickShift & kBrickMask, s & kBrickMask};
    float y[3];
    bool there = true;
    for (int a = 0; a < 3; ++a) {
      const int at = place.at[a] * kBrickSide + within[a];
      there = there && at < guide.bricks.shape[a];
      y[a] = guide.bricks.axis[a][at < guide.bricks.shape[a] ? at : guide.bricks.shape[a] - 1] +
             offset_of(shared[0], a, within[0], within[1], within[2]);
    }
    const float distance = guide.cache.distance(y);
    float guess = distance, bound = 0.0f;
    float sure;  // the surface is farther
    uint8_t made = kSampleFilled;
    if (fabsf(distance) > wide + moved || !cache_value(guide.cache, y, &guess, &bound)) {
      // Only the sign, which is enough unless this turns out to be a corner of a cell that the surface cuts.
      guess = distance;
      sure = fabsf(distance) - moved;
    } else if (smooth && bound <= cache_tolerance) {
      made = kSampleEvaluated;
      sure = 0.0f;
    } else {
      sure = (fabsf(guess) - bound) / guide.slope.within(y, 0.0f, guide.everywhere) - moved;
    }
    if (made == kSampleFilled) made = sure > 0.0f ? kSampleSure : kSampleQueued;
    if (!there) made = kSampleEvaluated;  // beyond the lattice: nobody asks
    const int64_t to = entry * kBrickSamples + s;
    samples[to] = guess;
    state[to] = made;
  }
}

__global__ void __launch_bounds__(kGuidedThreads)
    guided_sample_points_kernel(FieldGuide guide, const int64_t* where, const int64_t* list, int64_t listed,
                                float* points) {
  const int64_t entry = guided_thread();
  if (entry >= listed) return;
  const int64_t sample = list[entry] < 0 ? 0 : list[entry];
  const BrickPlace place = place_of(guide.bricks, where[sample / kBrickSamples]);
  const int s = static_cast<int>(sample % kBrickSamples);
  for (int a = 0; a < 3; ++a) {
    const int at = place.at[a] * kBrickSide + (s >> ((2 - a) * kBrickShift) & kBrickMask);
    points[3 * entry + a] = guide.bricks.axis[a][at < guide.bricks.shape[a] ? at : guide.bricks.shape[a] - 1];
  }
}

__global__ void __launch_bounds__(kGuidedThreads)
    guided_cached_kernel(FieldGuide guide, const float* y, const int64_t* list, int64_t listed,
                         float cache_tolerance, float* values, uint8_t* left) {
  const int64_t entry = guided_thread();
  if (entry >= listed) return;
  float value = 0.0f, bound = 0.0f;
  bool ask = false;
  if (!cache_value(guide.cache, y + 3 * entry, &value, &bound) || !(bound <= cache_tolerance)) {
    value = guide.cache.distance(y + 3 * entry);
    // Too near for a bound: this could be a corner of a cell that the surface cuts.
    ask = !(fabsf(value) > 1.01f * guide.diagonal * guide.stretch);
  }
  values[entry] = value;
  left[entry] = ask && list[entry] >= 0 ? 1 : 0;
}

__global__ void __launch_bounds__(kGuidedThreads)
    guided_store_kernel(const int64_t* list, int64_t listed, const float* values, float* samples,
                        uint8_t* state) {
  const int64_t entry = guided_thread();
  if (entry >= listed || list[entry] < 0) return;
  const int64_t to = list[entry];
  const bool wrong = (state[to] & kSampleSure) != 0 && (samples[to] < 0.0f) != (values[entry] < 0.0f);
  samples[to] = values[entry];
  state[to] = static_cast<uint8_t>(kSampleEvaluated | (wrong ? kSampleBroken : 0));
}

// A block for each stored brick. Cells around a sample reach into neighbours, of which only the sign is read.
// A neighbour that is not stored gets its own samples once field_contradictions has asked for it.
__global__ void __launch_bounds__(kGuidedThreads)
    guided_contradictions_kernel(FieldGuide guide, const int64_t* where, const int32_t* table,
                                 const float* samples, uint8_t* state) {
  constexpr int kSide = kBrickSide + 2;
  constexpr uint8_t kInside = 1, kNowhere = 2;
  FACETALK_SHARED(uint8_t, flags, [kSide][kSide][kSide]);
  const FieldBricks& b = guide.bricks;
  const BrickPlace place = place_of(b, where[blockIdx.x]);
  const int64_t base = static_cast<int64_t>(blockIdx.x) * kBrickSamples;
  for (int e = static_cast<int>(threadIdx.x); e < kSide * kSide * kSide; e += kGuidedThreads) {
    const int local[3] = {e / (kSide * kSide), e / kSide % kSide, e % kSide};
    int64_t brick = place.frame;
    int within = 0;
    bool there = true;
    for (int a = 0; a < 3; ++a) {
      const int at = place.at[a] * kBrickSide + local[a] - 1;
      there = there && at >= 0 && at < b.shape[a];
      brick = brick * b.bricks[a] + (at >> kBrickShift);
      within = within << kBrickShift | (at & kBrickMask);
    }
    uint8_t flag = kNowhere;
    if (there) {
      const int32_t entry = table[brick];
      const bool inside = entry >= 0 ? samples[entry * kBrickSamples + within] < 0.0f : entry == kBrickInside;
      flag = inside ? kInside : 0;
    }
    flags[local[0]][local[1]][local[2]] = flag;
  }
  __syncthreads();
  for (int s = static_cast<int>(threadIdx.x); s < kBrickSamples; s += kGuidedThreads) {
    const uint8_t before = state[base + s];
    if ((before & kSampleState) != kSampleFilled) continue;
    const int at[3] = {s >> (2 * kBrickShift), s >> kBrickShift & kBrickMask, s & kBrickMask};
    bool wrong = false;
    for (int cell = 0; cell < 8 && !wrong; ++cell) {
      uint8_t any = 0, all = kInside;
      for (int c = 0; c < 8; ++c) {
        const uint8_t flag = flags[at[0] + (cell >> 2) + (c >> 2)][at[1] + (cell >> 1 & 1) + (c >> 1 & 1)]
                                  [at[2] + (cell & 1) + (c & 1)];
        any |= flag;
        all &= flag;
      }
      wrong = (any & kNowhere) == 0 && any != all;
    }
    if (wrong) state[base + s] = static_cast<uint8_t>(before | kSampleQueued);
  }
}

}  // namespace facetalk::cuda
