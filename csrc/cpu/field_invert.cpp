// Inverting a deformation: x with x + offset(x) = target, for every point of a mesh and every frame of a
// sequence.
//
// Broyden's "good" method per point (C. G. Broyden, Math. Comp. 19, 1965), which needs one evaluation a step.
// The inverse Jacobian travels with the point from frame to frame; it is computed exactly at the start, and
// again where the iteration does not come closer.
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/field.h"
#include "cpu/field_scratch.h"
#include "cpu/threads.h"

namespace facetalk::cpu {
namespace {

constexpr int kPoints = 256;  // points that walk through the frames together
constexpr float kLongestStep =
    0.1f;                    // head units, 25 mm: farther than any expression moves a point in a frame
constexpr int kRefresh = 6;  // steps after which an exact Jacobian is due

struct Walker {
  float target[3];
  float x[3];        // current iterate
  float g[3];        // x + offset(x) - target
  float inverse[9];  // of I + d offset / dx, row-major
  float best[3];
  float best_norm;
};

float norm(const float* v) { return std::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]); }

void multiply(const float* m, const float* v, float* out) {
  for (int r = 0; r < 3; ++r) out[r] = m[3 * r] * v[0] + m[3 * r + 1] * v[1] + m[3 * r + 2] * v[2];
}

// Inverse of I + jacobian (rows: outputs); the identity where that is singular.
void invert(const float* jacobian, float* out) {
  float m[9];
  for (int i = 0; i < 9; ++i) m[i] = jacobian[i] + (i % 4 == 0 ? 1.0f : 0.0f);
  float cofactor[9];
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) {
      const int r1 = (r + 1) % 3, r2 = (r + 2) % 3, c1 = (c + 1) % 3, c2 = (c + 2) % 3;
      cofactor[3 * r + c] = m[3 * r1 + c1] * m[3 * r2 + c2] - m[3 * r1 + c2] * m[3 * r2 + c1];
    }
  }
  const float determinant = m[0] * cofactor[0] + m[1] * cofactor[1] + m[2] * cofactor[2];
  const bool usable = std::fabs(determinant) > 1e-6f;
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) {
      out[3 * r + c] = usable ? cofactor[3 * c + r] / determinant : (r == c ? 1.0f : 0.0f);
    }
  }
}

class Group {
 public:
  Group(const FieldRunner& runner, const FieldFrames& frames, const InverseOptions& options, float* scratch)
      : runner_(runner), frames_(frames), options_(options), scratch_(scratch) {}

  void start(const float* targets, int n) {
    n_ = n;
    for (int i = 0; i < n; ++i) {
      std::memcpy(walkers_[i].target, targets + 3 * i, sizeof(float) * 3);
      std::memcpy(walkers_[i].x, targets + 3 * i, sizeof(float) * 3);
    }
  }

  void frame(int64_t index, float* positions, float* residuals) {
    bias_ = frames_.biases + index * runner_.model->deformation.bias_count;
    int active[kPoints];
    for (int i = 0; i < n_; ++i) active[i] = i;
    evaluate(active, n_, index == 0);
    for (int i = 0; i < n_; ++i) {
      walkers_[i].best_norm = norm(walkers_[i].g);
      std::memcpy(walkers_[i].best, walkers_[i].x, sizeof(float) * 3);
    }
    for (int step = 1; step <= options_.iterations; ++step) {
      int count = 0;
      for (int i = 0; i < n_; ++i) {
        if (!(walkers_[i].best_norm <= options_.tolerance)) active[count++] = i;
      }
      if (count == 0) break;
      if (step % kRefresh == 0) {
        for (int a = 0; a < count; ++a)
          std::memcpy(walkers_[active[a]].x, walkers_[active[a]].best, sizeof(float) * 3);
        evaluate(active, count, true);
      }
      advance(active, count);
    }
    for (int i = 0; i < n_; ++i) {
      Walker& w = walkers_[i];
      std::memcpy(positions + 3 * i, w.best, sizeof(float) * 3);
      residuals[i] = w.best_norm;
      // A point that found no root starts over at the next frame, where its own history would only mislead
      // it.
      const bool lost = !(w.best_norm <= 100.0f * options_.tolerance);
      std::memcpy(w.x, lost ? w.target : w.best, sizeof(float) * 3);
      if (lost) {
        for (int m = 0; m < 9; ++m) w.inverse[m] = m % 4 == 0 ? 1.0f : 0.0f;
      }
    }
  }

 private:
  // g (and with `exact` the inverse Jacobian) of the named walkers at their x.
  void evaluate(const int* active, int count, bool exact) {
    const int outputs = runner_.model->deformation.outputs;
    for (int a = 0; a < count; ++a) std::memcpy(points_ + 3 * a, walkers_[active[a]].x, sizeof(float) * 3);
    FieldBlock block;
    block.model = runner_.model;
    block.frame_bias = bias_;
    block.smoothing = frames_.smoothing;
    block.points = points_;
    block.n = count;
    block.offsets = offsets_;
    block.jacobian = exact ? jacobian_ : nullptr;
    runner_.kernels->evaluate(block, scratch_);
    for (int a = 0; a < count; ++a) {
      Walker& w = walkers_[active[a]];
      for (int c = 0; c < 3; ++c) w.g[c] = w.x[c] + offsets_[a * outputs + c] - w.target[c];
      if (exact) invert(jacobian_ + static_cast<int64_t>(a) * outputs * 3, w.inverse);
    }
  }

  void advance(const int* active, int count) {
    float step[kPoints][3], before[kPoints][3];
    for (int a = 0; a < count; ++a) {
      Walker& w = walkers_[active[a]];
      multiply(w.inverse, w.g, step[a]);
      const float length = norm(step[a]);
      const float factor = length > kLongestStep ? -kLongestStep / length : -1.0f;
      for (int c = 0; c < 3; ++c) {
        step[a][c] *= factor;
        before[a][c] = w.g[c];
        w.x[c] += step[a][c];
      }
    }
    evaluate(active, count, false);
    for (int a = 0; a < count; ++a) {
      Walker& w = walkers_[active[a]];
      const float now = norm(w.g);
      if (now < w.best_norm) {
        w.best_norm = now;
        std::memcpy(w.best, w.x, sizeof(float) * 3);
      }
      float change[3], moved[3], row[3];
      for (int c = 0; c < 3; ++c) change[c] = w.g[c] - before[a][c];
      multiply(w.inverse, change, moved);
      float denominator = step[a][0] * moved[0] + step[a][1] * moved[1] + step[a][2] * moved[2];
      // Far below rounding there is nothing to learn from a step.
      if (std::fabs(denominator) < 1e-16f) continue;
      for (int c = 0; c < 3; ++c) {
        row[c] = step[a][0] * w.inverse[c] + step[a][1] * w.inverse[3 + c] + step[a][2] * w.inverse[6 + c];
      }
      for (int r = 0; r < 3; ++r) {
        const float factor = (step[a][r] - moved[r]) / denominator;
        for (int c = 0; c < 3; ++c) w.inverse[3 * r + c] += factor * row[c];
      }
    }
  }

  const FieldRunner& runner_;
  const FieldFrames& frames_;
  const InverseOptions& options_;
  float* scratch_;
  const float* bias_ = nullptr;
  int n_ = 0;
  Walker walkers_[kPoints];
  float points_[3 * kPoints];
  float offsets_[kMaxFieldCoords * kPoints];
  float jacobian_[3 * kMaxFieldCoords * kPoints];
};

}  // namespace

void field_invert(const FieldRunner& runner, const FieldFrames& frames, const float* targets, int64_t n,
                  const InverseOptions& options, float* positions, float* residuals) {
  const int threads = cpu::threads();
  const int64_t groups = (n + kPoints - 1) / kPoints;
  FieldScratch scratch(runner, threads, true);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t start = g * kPoints;
    const int count = static_cast<int>(std::min<int64_t>(kPoints, n - start));
    Group group(runner, frames, options, scratch.of(omp_get_thread_num()));
    group.start(targets + 3 * start, count);
    for (int64_t t = 0; t < frames.count; ++t) {
      group.frame(t, positions + 3 * (t * n + start), residuals + t * n + start);
    }
  }
}

}  // namespace facetalk::cpu
