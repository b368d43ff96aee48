// The samples of one frame near its surface, brick by brick: what is stored, what is evaluated, and the rule
// that keeps a short cut from becoming a hole.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "core/brick_volume.h"
#include "core/local_bounds.h"
#include "cpu/field/field.h"
#include "cpu/field/field_scratch.h"
#include "cpu/surface/canonical_cache.h"

namespace facetalk::cpu {

// How fast a field can change, so that a value says how far away the surface is at least.
struct SlopeBounds {
  bool raw = true;          // of the values without NPHM's far-away shrinkage
  float everywhere = 1.0f;  // slope of the canonical field
  LocalBounds slope;        // the same by canonical place
  float stretch = 1.0f;     // of the deformation: |y(a) - y(b)| <= stretch |a - b|
  LocalBounds stretches;    // the same by posed place
  float scale = 1.0f;       // on the slopes

  float at(const float* x, const float* y) const {
    return scale * slope.at(y, everywhere) * stretches.at(x, stretch);
  }
  // How far from posed point x, which the deformation takes to y, the surface is at least.
  float radius(float value, const float* x, const float* y) const {
    return stretches.radius(x, slope.radius(y, std::fabs(value) / scale, everywhere), stretch);
  }
};

class FieldBricks {
 public:
  // With `cache`, values come from the network's deformation and the cached canonical field; points that the
  // cache does not cover to its tolerance, and everything without one, from both networks. `slack`: per brick
  // that is not stored, how far the surface is at least.
  FieldBricks(const FieldRunner& runner, const FieldFrames& frame, const Lattice& lattice,
              const SlopeBounds& bounds, const CanonicalCache* cache, float cache_tolerance,
              const std::vector<float>* slack = nullptr);

  BrickVolume volume;

  struct Evaluated {
    float value;         // signed distance
    float measure;       // what the slope is of
    float radius;        // the surface is at least that far away
    float slope;         // bound that the radius came from
    float canonical[3];  // where the deformation takes the point
  };

  // A sample is numbered 512 * stored brick + place in it.

  // Number of the stored brick, made and filled with the sign of its table entry if need be.
  int64_t store(int64_t brick);

  void queue(int32_t i, int32_t j, int32_t k);
  void queue(int64_t sample) {
    uint8_t& state = state_[static_cast<size_t>(sample)];
    if (state != kFilled) return;
    state = kQueued;
    queue_.push_back(sample);
  }
  // Evaluates what is queued.
  void evaluate();

  // Queues the corners that are not evaluated of every cell whose corners differ in sign; false when there
  // are none. Looks around bricks that changed since it looked last.
  bool queue_contradictions();

  float radius(int64_t sample) const { return radius_[static_cast<size_t>(sample)]; }
  bool inside(int64_t sample) const { return volume.samples[static_cast<size_t>(sample)] < 0.0f; }
  // Sets a sample without evaluating it, unless it is evaluated. `radius`: the surface is farther.
  void fill(int64_t sample, float value, float radius) {
    const auto at = static_cast<size_t>(sample);
    if (state_[at] != kFilled) return;
    volume.samples[at] = value;
    radius_[at] = radius;
  }
  // Takes what was found in another way as evaluated.
  void accept(int64_t sample, float value) {
    state_[static_cast<size_t>(sample)] = kEvaluated;
    volume.samples[static_cast<size_t>(sample)] = value;
  }
  void accept(int64_t sample, const Evaluated& found) {
    const auto at = static_cast<size_t>(sample);
    accept(sample, found.value);
    radius_[at] = found.radius;
    slope_[at] = found.slope;
    measure_[at] = found.measure;
  }

  // The same where the sample may have been filled before: a sign that a bound had ruled out is counted, and
  // cells around it are looked at again.
  void learn(int64_t sample, const Evaluated& found);

  // In parallel; points: (n, 3).
  void evaluate_points(const float* points, int64_t n, Evaluated* out);

  int64_t deformed() const { return deformed_; }    // points that went through the deformation network
  int64_t evaluated() const { return evaluated_; }  // through the ensemble
  // Samples whose sign was taken for certain and turned out wrong.
  int64_t broken() const { return broken_; }
  // Largest slope between evaluated neighbours of the lattice, as a fraction of the bound; above 1 the bound
  // does not hold.
  float steepest() const;
  float cell_diagonal() const;

  void position(int64_t sample, float* out) const;

 private:
  struct Index {
    int32_t i, j, k;
  };
  void contradictions(int64_t brick, std::vector<Index>& found) const;

  enum : uint8_t { kFilled = 0, kQueued = 1, kEvaluated = 2 };

  const FieldRunner runner_;
  const FieldFrames frame_;
  const Lattice& lattice_;
  const SlopeBounds bounds_;
  const CanonicalCache* cache_;
  const float cache_tolerance_;
  const std::vector<float>* slack_;
  ScratchPool scratch_;
  std::vector<int64_t> where_;          // brick of a stored one
  std::vector<uint8_t> state_;          // per stored sample
  std::vector<float> radius_;           // per stored sample: the surface is farther
  std::vector<float> slope_, measure_;  // per stored sample, where evaluated; a slope of 0: not by evaluate()
  std::vector<int64_t> queue_;          // samples
  std::vector<int64_t> changed_;        // stored bricks
  int64_t deformed_ = 0;
  int64_t evaluated_ = 0;
  int64_t broken_ = 0;
};

}  // namespace facetalk::cpu
