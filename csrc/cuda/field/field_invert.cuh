// Inverting a deformation, a thread for each walker (a target in a frame): x with x + offset(x) = target.
//
// Broyden's "good" method (C. G. Broyden, Math. Comp. 19, 1965) from an exact Jacobian, as in
// cpu/field/field_invert.cpp: a step is taken if it comes closer, else halved; the inverse learns from either, and
// is computed exactly again where the iteration stalls. All frames walk at the same time, each from the same
// start. The field is evaluated between these kernels, at the points that they propose.
#pragma once

#include "cuda/field/field.h"
#include "cuda/platform/portable.h"

namespace facetalk::cuda {

constexpr int kInvertThreads = 128;
constexpr float kLongestStep = 0.1f;  // head units, 25 mm: farther than an expression moves a point
constexpr float kShortestStep =
    1.0f / 32.0f;                 // fraction of a full step below which the direction is given up
constexpr int kRefreshSteps = 8;  // steps after which an exact Jacobian is due

struct Walker {
  float x[3];          // the best point so far
  float g[3];          // x + offset(x) - target
  float distance;      // |g|
  float inverse[9];    // of I + d offset / dx, row-major
  float direction[3];  // full step from x
  float fraction;      // of the full step that is tried next
  float exact;         // not 0: the inverse is exact at x
  float stuck;         // not 0: not even a short step along the exact direction comes closer
};
static_assert(sizeof(Walker) == kFieldWalkerFloats * sizeof(float));

__device__ __forceinline__ float norm3(const float* v) {
  return sqrtf(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
}

// Sets the next step, no longer than kLongestStep.
__device__ inline void aim(Walker& w, float fraction) {
  for (int r = 0; r < 3; ++r) {
    const float* row = w.inverse + 3 * r;
    w.direction[r] = row[0] * w.g[0] + row[1] * w.g[1] + row[2] * w.g[2];
  }
  const float length = norm3(w.direction);
  const float factor = length > kLongestStep ? -kLongestStep / length : -1.0f;
  for (int c = 0; c < 3; ++c) w.direction[c] *= factor;
  w.fraction = fraction;
}

// The inverse of I + jacobian (rows: outputs); the identity where that is singular.
__device__ inline void sharpen(Walker& w, const float* jacobian) {
  float m[9], cofactor[9];
  for (int i = 0; i < 9; ++i) m[i] = jacobian[i] + (i % 4 == 0 ? 1.0f : 0.0f);
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) {
      const int r1 = (r + 1) % 3, r2 = (r + 2) % 3, c1 = (c + 1) % 3, c2 = (c + 2) % 3;
      cofactor[3 * r + c] = m[3 * r1 + c1] * m[3 * r2 + c2] - m[3 * r1 + c2] * m[3 * r2 + c1];
    }
  }
  const float determinant = m[0] * cofactor[0] + m[1] * cofactor[1] + m[2] * cofactor[2];
  const bool usable = fabsf(determinant) > 1e-6f;
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c)
      w.inverse[3 * r + c] = usable ? cofactor[3 * c + r] / determinant : (r == c ? 1.0f : 0.0f);
  }
  w.exact = 1.0f;
  aim(w, 1.0f);
}

// Walkers (count) at their starts, of which offsets (count, outputs) and Jacobians (count, outputs, 3) are
// known.
__global__ void __launch_bounds__(kInvertThreads)
    field_invert_start_kernel(FieldWalk walk, const float* starts) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kInvertThreads + threadIdx.x;
  if (i >= walk.count) return;
  Walker w{};
  for (int c = 0; c < 3; ++c) {
    w.x[c] = starts[3 * (i % walk.targets) + c];
    w.g[c] = w.x[c] + walk.offsets[i * walk.outputs + c] - walk.target[3 * (i % walk.targets) + c];
  }
  w.distance = norm3(w.g);
  sharpen(w, walk.jacobian + i * walk.outputs * 3);
  reinterpret_cast<Walker*>(walk.state)[i] = w;
}

// due: 0 for a walker that has arrived or is stuck, 1 for one that steps, 3 for one that needs an exact
// Jacobian first.
__global__ void __launch_bounds__(kInvertThreads)
    field_invert_plan_kernel(FieldWalk walk, int step, float tolerance, uint8_t* due) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kInvertThreads + threadIdx.x;
  if (i >= walk.count) return;
  Walker& w = reinterpret_cast<Walker*>(walk.state)[i];
  if (w.distance <= tolerance || w.stuck != 0.0f) {
    due[i] = 0;
    return;
  }
  const bool stalled = w.fraction < kShortestStep;
  if ((stalled || step % kRefreshSteps == 0) && w.exact == 0.0f) {
    due[i] = 3;
  } else if (stalled) {
    w.stuck = 1.0f;
    due[i] = 0;
  } else {
    due[i] = 1;
  }
}

// Where the listed walkers want the field: at their best points, or one step ahead. Places without a walker
// (-1) repeat the first walker's.
__global__ void __launch_bounds__(kInvertThreads)
    field_invert_points_kernel(FieldWalk walk, bool ahead, float* points) {
  const int64_t a = static_cast<int64_t>(blockIdx.x) * kInvertThreads + threadIdx.x;
  if (a >= walk.listed) return;
  const int64_t i = walk.list[a] < 0 ? 0 : walk.list[a];
  const Walker& w = reinterpret_cast<const Walker*>(walk.state)[i];
  for (int c = 0; c < 3; ++c) points[3 * a + c] = w.x[c] + (ahead ? w.fraction * w.direction[c] : 0.0f);
}

__global__ void __launch_bounds__(kInvertThreads) field_invert_sharpen_kernel(FieldWalk walk) {
  const int64_t a = static_cast<int64_t>(blockIdx.x) * kInvertThreads + threadIdx.x;
  if (a >= walk.listed || walk.list[a] < 0) return;
  sharpen(reinterpret_cast<Walker*>(walk.state)[walk.list[a]], walk.jacobian + a * walk.outputs * 3);
}

// One step of the listed walkers to `points`: taken if it comes closer, else halved; the inverse learns from
// both.
__global__ void __launch_bounds__(kInvertThreads)
    field_invert_advance_kernel(FieldWalk walk, const float* points) {
  const int64_t a = static_cast<int64_t>(blockIdx.x) * kInvertThreads + threadIdx.x;
  if (a >= walk.listed || walk.list[a] < 0) return;
  Walker w = reinterpret_cast<const Walker*>(walk.state)[walk.list[a]];
  const float* target = walk.target + 3 * (walk.list[a] % walk.targets);
  float g[3], step[3], change[3], moved[3];
  for (int c = 0; c < 3; ++c) {
    g[c] = points[3 * a + c] + walk.offsets[a * walk.outputs + c] - target[c];
    step[c] = points[3 * a + c] - w.x[c];
    change[c] = g[c] - w.g[c];
  }
  const float distance = norm3(g);
  const bool closer = distance < w.distance;
  if (closer || w.exact == 0.0f) {
    for (int r = 0; r < 3; ++r) {
      const float* row = w.inverse + 3 * r;
      moved[r] = row[0] * change[0] + row[1] * change[1] + row[2] * change[2];
    }
    const float denominator = step[0] * moved[0] + step[1] * moved[1] + step[2] * moved[2];
    if (fabsf(denominator) > 1e-16f) {  // far below rounding there is nothing to learn from a step
      float row[3];
      for (int c = 0; c < 3; ++c)
        row[c] = step[0] * w.inverse[c] + step[1] * w.inverse[3 + c] + step[2] * w.inverse[6 + c];
      for (int r = 0; r < 3; ++r) {
        const float factor = (step[r] - moved[r]) / denominator;
        for (int c = 0; c < 3; ++c) w.inverse[3 * r + c] += factor * row[c];
      }
    }
  }
  if (closer) {
    for (int c = 0; c < 3; ++c) {
      w.x[c] = points[3 * a + c];
      w.g[c] = g[c];
    }
    w.distance = distance;
    w.exact = 0.0f;
  }
  aim(w, closer ? 1.0f : 0.5f * w.fraction);
  reinterpret_cast<Walker*>(walk.state)[walk.list[a]] = w;
}

}  // namespace facetalk::cuda
