// Inverting a deformation: x with x + offset(x) = target, for every point of a mesh and every frame of a
// sequence.
//
// Broyden's "good" method per point (C. G. Broyden, Math. Comp. 19, 1965), which needs one evaluation a step.
// The inverse Jacobian travels with the point from frame to frame; it is computed exactly when a point first
// has to move, and again where the iteration does not come closer.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include "cpu/field/field.h"
#include "cpu/field/field_scratch.h"
#include "cpu/parallel.h"
#include "cpu/threads.h"

namespace facetalk::cpu {
namespace {

// Points that walk through the frames together. Those that have not arrived yet are evaluated side by side,
// so the larger a group, the fuller the vectors of its last steps.
constexpr int kPoints = kFieldBlock;
constexpr float kLongestStep =
    0.1f;  // head units, 25 mm: farther than any expression moves a point in a frame
constexpr float kShortestStep =
    1.0f / 32.0f;               // fraction of a full step below which the direction is given up
constexpr int kRefresh = 8;     // steps after which an exact Jacobian is due
constexpr float kLost = 1e-4f;  // head units; a point left farther away than this has found no root

struct Walker {
  float target[3];
  float x[3];          // the best point so far: a step that does not come closer is not taken
  float g[3];          // x + offset(x) - target
  float distance;      // |g|
  float inverse[9];    // of I + d offset / dx, row-major
  float direction[3];  // full step from x
  float fraction;      // of the full step that is tried next
  bool known;          // the inverse was exact at some point of the way
  bool exact;          // the inverse is exact at x
  bool stuck;          // not even a short step along the exact direction comes closer
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

  void start(const float* targets, const float* starts, int n) {
    n_ = n;
    for (int i = 0; i < n; ++i) {
      std::memcpy(walkers_[i].target, targets + 3 * i, sizeof(float) * 3);
      std::memcpy(walkers_[i].x, starts + 3 * i, sizeof(float) * 3);
      walkers_[i].known = false;
      for (int m = 0; m < 9; ++m) walkers_[i].inverse[m] = m % 4 == 0 ? 1.0f : 0.0f;
    }
  }

  // All points at frame `index`; positions and residuals are those of the first frame, frames lie `stride`
  // points apart.
  void frame(int64_t index, float* positions, float* residuals, int64_t stride) {
    bias_ = frames_.biases + index * runner_.model->deformation.bias_count;
    for (int i = 0; i < n_; ++i) {
      for (int c = 0; c < 3; ++c) points_[3 * i + c] = walkers_[i].x[c];
    }
    evaluate(n_, false);
    for (int i = 0; i < n_; ++i) {
      Walker& w = walkers_[i];
      residual(w, i, w.g);
      w.distance = norm(w.g);
      w.exact = w.stuck = false;
      aim(w, 1.0f);
    }
    for (int step = 1; step <= options_.iterations; ++step) {
      int count = 0, stale = 0;
      for (int i = 0; i < n_; ++i) {
        Walker& w = walkers_[i];
        if (w.distance <= options_.tolerance || w.stuck) continue;
        const bool due = step % kRefresh == 0 || w.fraction < kShortestStep || !w.known;
        if (due && !w.exact) {
          refresh_[stale++] = i;
        } else if (w.fraction < kShortestStep) {
          w.stuck = true;
          continue;
        }
        active_[count++] = i;
      }
      if (count == 0) break;
      sharpen(refresh_, stale);
      advance(active_, count);
    }
    for (int i = 0; i < n_; ++i) {
      Walker& w = walkers_[i];
      std::memcpy(positions + 3 * (index * stride + i), w.x, sizeof(float) * 3);
      residuals[index * stride + i] = w.distance;
      // A point that found no root starts over at the next frame, where its own history would only mislead
      // it.
      if (w.distance <= std::max(options_.tolerance, kLost)) continue;
      std::memcpy(w.x, w.target, sizeof(float) * 3);
      for (int m = 0; m < 9; ++m) w.inverse[m] = m % 4 == 0 ? 1.0f : 0.0f;
      w.known = false;
    }
  }

 private:
  int outputs() const { return runner_.model->deformation.outputs; }

  // Offsets (and with `exact` Jacobians) at points_.
  void evaluate(int count, bool exact) {
    FieldBlock block;
    block.model = runner_.model;
    block.frame_bias = bias_;
    block.smoothing = frames_.smoothing;
    block.points = points_;
    block.n = count;
    block.offsets = offsets_;
    block.jacobian = exact ? jacobian_ : nullptr;
    runner_.kernels->evaluate(block, scratch_);
  }

  // g of walker w at the a-th of points_.
  void residual(const Walker& w, int a, float* g) const {
    for (int c = 0; c < 3; ++c) g[c] = points_[3 * a + c] + offsets_[a * outputs() + c] - w.target[c];
  }

  // Sets the next step, no longer than kLongestStep.
  void aim(Walker& w, float fraction) const {
    multiply(w.inverse, w.g, w.direction);
    const float length = norm(w.direction);
    const float factor = length > kLongestStep ? -kLongestStep / length : -1.0f;
    for (float& d : w.direction) d *= factor;
    w.fraction = fraction;
  }

  // Gives the named walkers the exact inverse at their x.
  void sharpen(const int* named, int count) {
    if (count == 0) return;
    for (int a = 0; a < count; ++a) std::memcpy(points_ + 3 * a, walkers_[named[a]].x, sizeof(float) * 3);
    evaluate(count, true);
    for (int a = 0; a < count; ++a) {
      Walker& w = walkers_[named[a]];
      invert(jacobian_ + static_cast<int64_t>(a) * outputs() * 3, w.inverse);
      w.exact = w.known = true;
      aim(w, 1.0f);
    }
  }

  // One step of the named walkers: taken if it comes closer, else halved; either way the inverse learns from
  // it.
  void advance(const int* named, int count) {
    for (int a = 0; a < count; ++a) {
      const Walker& w = walkers_[named[a]];
      for (int c = 0; c < 3; ++c) points_[3 * a + c] = w.x[c] + w.fraction * w.direction[c];
    }
    evaluate(count, false);
    for (int a = 0; a < count; ++a) {
      Walker& w = walkers_[named[a]];
      float g[3], step[3], change[3], moved[3];
      residual(w, a, g);
      for (int c = 0; c < 3; ++c) {
        step[c] = points_[3 * a + c] - w.x[c];
        change[c] = g[c] - w.g[c];
      }
      const float distance = norm(g);
      const bool closer = distance < w.distance;
      if (closer || !w.exact) {
        multiply(w.inverse, change, moved);
        const float denominator = step[0] * moved[0] + step[1] * moved[1] + step[2] * moved[2];
        // Far below rounding there is nothing to learn from a step.
        if (std::fabs(denominator) > 1e-16f) {
          float row[3];
          for (int c = 0; c < 3; ++c) {
            row[c] = step[0] * w.inverse[c] + step[1] * w.inverse[3 + c] + step[2] * w.inverse[6 + c];
          }
          for (int r = 0; r < 3; ++r) {
            const float factor = (step[r] - moved[r]) / denominator;
            for (int c = 0; c < 3; ++c) w.inverse[3 * r + c] += factor * row[c];
          }
        }
      }
      if (closer) {
        std::memcpy(w.x, points_ + 3 * a, sizeof(float) * 3);
        std::memcpy(w.g, g, sizeof(float) * 3);
        w.distance = distance;
        w.exact = false;
      }
      aim(w, closer ? 1.0f : 0.5f * w.fraction);
    }
  }

  const FieldRunner& runner_;
  const FieldFrames& frames_;
  const InverseOptions& options_;
  float* scratch_;
  const float* bias_ = nullptr;
  int n_ = 0;
  int active_[kPoints], refresh_[kPoints];
  Walker walkers_[kPoints];
  float points_[3 * kPoints];
  float offsets_[kMaxFieldCoords * kPoints];
  float jacobian_[3 * kMaxFieldCoords * kPoints];
};

}  // namespace

void field_invert(const FieldRunner& runner, const FieldFrames& frames, const float* targets,
                  const float* starts, int64_t n, const InverseOptions& options, float* positions,
                  float* residuals) {
  const int64_t share = (n / (4 * cpu::threads()) + 63) / 64 * 64;
  const int64_t size = std::clamp<int64_t>(share, 64, kPoints);
  ScratchPool scratch(runner, true);
  parallel_for(n, size, [&](int64_t begin, int64_t end) {
    const ScratchPool::Lease lease(scratch);
    // Too large for the stack of a thread that somebody else may have made.
    const auto group = std::make_unique<Group>(runner, frames, options, lease.get());
    group->start(targets + 3 * begin, (starts ? starts : targets) + 3 * begin, static_cast<int>(end - begin));
    for (int64_t t = 0; t < frames.count; ++t) group->frame(t, positions + 3 * begin, residuals + begin, n);
  });
}

}  // namespace facetalk::cpu
