// The pose of a head that speaks, from the sound of its voice: facetalk/pose/generator.py, which says why, in C++.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/pose/prosody.h"

namespace facetalk::pose {

constexpr int kPoseSize = 6;  // pitch, yaw, roll in radians; x, y, z in millimetres
using Pose = std::array<double, kPoseSize>;

// Critically damped second-order follower, with `Count` values: moves as a mass does, without overshoot.
template <int Count>
class Spring {
 public:
  using Values = std::array<double, Count>;
  Spring(double hertz, const Values& state);

  // The place after 10 ms with a constant target (the exact solution).
  const Values& step(const Values& target);
  const Values& place() const { return place_; }
  const Values& speed() const { return speed_; }

 private:
  double a_, b_, c_, d_;
  Values place_, speed_{};
};

// What the ear makes of measurements: activity, melody, and peaks that stand out.
class Heard {
 public:
  struct Event {
    bool begins;        // a phrase does
    double prominence;  // of a peak that has just passed, 0 where none has
  };
  Event step(const Measurement& measured);
  double activity() const { return activity_; }
  double loud() const { return loud_; }
  double melody() const { return melody_.place()[0]; }

 private:
  double accent(double level, double voiced);

  double top_ = -45.0, mean_ = -60.0, activity_ = 0.0, loud_ = 0.0, silence_ = 10.0;
  Spring<1> melody_{3.0, {0.0}}, envelope_{6.0, {-80.0}};
  double centre_ = 0.0, deviation_ = 0.0, held_ = 0.0;
  int64_t voiced_ = 0;
  bool rising_ = false;
};

// Pose of a clip whose sound of 16 kHz arrives bit by bit. Frame i comes once the sound up to `look_ahead_s` after its
// middle was pushed, or 0.25 s where that is less, and does not depend on how the sound is cut. Memory is constant.
class HeadMotion {
 public:
  HeadMotion(double fps, uint64_t seed, double look_ahead_s, double amount);

  // Appends the poses (m, kPoseSize) of the frames that the samples complete.
  void push(const float* samples, int64_t count, std::vector<float>& out);

  // Appends the poses of the frames up to number `frames` that were still waiting; silence follows.
  void finish(int64_t frames, std::vector<float>& out);

 private:
  struct Stroke {
    int64_t start, count;
    double down, aside;
  };
  template <std::size_t Count>
  std::array<double, Count> draw(uint32_t kind, int64_t hop) const;
  void advance(const float* samples, int64_t count);
  Pose step(const Measurement& measured);
  void accent(double prominence);
  void stroke(double& down, double& aside);
  void give(int64_t count, std::vector<float>& out);

  double fps_, amount_, ahead_;
  uint64_t seed_;
  Prosody prosody_;
  Heard heard_;
  std::vector<Measurement> rows_;
  double habit_;
  Pose target_;
  Spring<kPoseSize> posture_, slow_, body_;
  Spring<1> gate_{1.2, {0.0}};
  Pose drift_{};
  std::vector<Stroke> strokes_;
  int64_t hops_ = 0, last_ = -1000, next_;
  std::vector<Pose> track_;  // degrees and millimetres of the measurements from number first_ on
  int64_t first_ = 0, done_ = 0;
};

}  // namespace facetalk::pose
