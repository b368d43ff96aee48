// The blendshape rig of the built-in head: facetalk/nphm/head/{rig,person}.py and FaceTalk.decode in C++.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "cpu/network/layers.h"

namespace facetalk::head {

// FaceTalk's facial smoothing (Aneja et al., CVPR 2024, section 3.4): facetalk/mesh/smoothing.py.
class FacialSmoothing {
 public:
  // Throws FileError where the weight would not vary.
  FacialSmoothing(const double (&centre)[3], const double (&sigma)[3], const float (&bounds)[6]);
  float weight(const float* point) const;

 private:
  double centre_[3], sigma_[3], lowest_, highest_;
};

struct HeadFiles;
struct Shape;

// A mesh that is posed by weights: vertices = neutral + sum_j weight_j basis_j, in metres, and eyes that turn.
class Rig {
 public:
  // Reads a head folder. `names`: the curves' names, in order; `code`: identity code, empty for the head's
  // own. Throws FileError, and ArgumentError for a code of another length.
  Rig(const std::string& folder, const std::vector<std::string>& names, const FacialSmoothing& smoothing,
      const std::vector<float>& code);

  int64_t vertices() const { return static_cast<int64_t>(neutral_.size() / 3); }
  const std::vector<int32_t>& faces() const { return faces_; }
  size_t curves() const { return curves_; }
  size_t tongue() const { return tongue_; }  // weights of a tongue, none of a head without one
  // `tongue`: its weights, or null for one that rides on the jaw.
  void pose(const float* weights, const float* tongue, float* positions) const;

 private:
  // Displacements (E, V, 3), and behind them those of a tongue.
  void wear(const HeadFiles& head, const Shape& shape, const FacialSmoothing& smoothing,
            std::vector<float>& basis) const;
  void add_tongue(const HeadFiles& head, const Shape& shape, const FacialSmoothing& smoothing,
                  std::vector<float>& basis);
  void ask(const HeadFiles& head, const Shape& shape, const FacialSmoothing& smoothing,
           std::vector<float>& basis) const;

  // Neighbouring coordinates that one curve moves, or one weight of the tongue, which count on from the curves. Curves
  // are of parts of a face: two thirds of all displacements
  // are 0, and what a frame costs is the reading of the others.
  struct Run {
    size_t curve, first, size, at;  // `size` coordinates from `first` on, the displacements from `at` on
  };
  void keep(const std::vector<float>& basis);

  // An eyeball, and by which rotation vector a curve at weight 1 turns it.
  struct Turn {
    size_t curve;
    double rate[3];
  };
  struct Eye {
    double centre[3];
    std::vector<Turn> turns;
    std::vector<size_t> vertices;
  };
  void find_eyes(const HeadFiles& head, const Shape& shape);
  void turn_eyes(const float* weights, float* positions) const;

  std::vector<float> neutral_;  // (V, 3)
  std::vector<Run> runs_;       // in the order of pieces of `neutral_`, then of curves
  std::vector<float> moves_;    // of all runs, one after the other
  std::array<Eye, 2> eyes_;     // left, right
  std::vector<int32_t> faces_;  // (F, 3)
  size_t curves_ = 0, tongue_ = 0;
};

}  // namespace facetalk::head
