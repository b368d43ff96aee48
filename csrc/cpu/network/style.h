// Sliders of the sampled talk: facetalk/style.py in C++, which says what each is for.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace facetalk::network {

// Each changes nothing at the value it has here.
struct Sliders {
  double intensity = 1.0, smile = 0.0, brow_activity = 1.0, blink_rate = 1.0, gaze_steadiness = 0.0;
  double jaw = 1.0, lips = 1.0;

  bool operator==(const Sliders&) const = default;
};

// Leaves out blinks of the model, or puts more between them.
class Blinks {
 public:
  // lids: columns of the frames, at least one.
  Blinks(double rate, double fps, uint64_t seed, std::vector<size_t> lids);

  // Changes the lids of the next frame, which `follow` of their closure follows the gaze.
  void step(float* frame, double follow);

 private:
  bool is_shown() const { return shown_ < shape_.size(); }  // one that was put in is under way
  std::array<double, 6> draw() const;
  void more();
  void begin();

  double rate_, fps_;
  uint64_t seed_;
  std::vector<size_t> lids_;
  int64_t frame_ = 0, pending_ = 0;
  bool under_way_ = false, kept_ = false;  // a blink of the model's
  double depth_ = 0.9, deepest_ = 0.0;     // of its last one, of the one under way
  double since_ = 1e9, wait_ = 0.0;        // seconds from the last one's end, to the next that is put in
  std::vector<float> shape_;               // of the one that is put in, a frame each,
  size_t shown_ = 0;                       // the first of which were shown
};

// How far jaw and lips go: closed lips stay closed, a lower lip at the teeth stays there.
class Articulation {
 public:
  Articulation(double jaw, double lips, const std::vector<std::string>& names);

  void apply(float* frame) const;

 private:
  // Millimetres between the lips that there are to be closed, at least a little.
  float gap(const float* frame) const;

  float jaw_, lips_;  // factors less 1
  std::vector<size_t> jaws_, lip_columns_, close_, rolled_;
  std::vector<std::pair<size_t, float>> slopes_;  // of the gap, all but what closes it
};

// Applies sliders to the curves of a clip, in any pieces.
class StyleFilter {
 public:
  // Throws Unsupported where a slider is moved that has no curve of these names to work on.
  StyleFilter(const Sliders& sliders, const std::vector<std::string>& names, double fps, uint64_t seed);

  // The next (frames, names) curves, in place.
  void apply(float* curves, int64_t frames);

 private:
  using Columns = std::vector<std::pair<size_t, float>>;

  size_t width_;
  std::vector<size_t> lids_, down_;
  std::optional<Articulation> articulation_;
  std::optional<Blinks> blinks_;
  float steadiness_;
  Columns factors_, added_;
};

}  // namespace facetalk::network
