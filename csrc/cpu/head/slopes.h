// How fast a bound head's field can change, from samples: facetalk/nphm/surface/slopes.py in C++.
#pragma once

#include <array>
#include <vector>

#include "cpu/surface/field_band.h"

namespace facetalk::head {

// Slopes of the canonical field in a box, and points near its surface.
struct Slopes {
  cpu::SlopeBounds bounds;
  std::vector<float> levels;  // what bounds.slope looks at
  std::vector<float> near;    // (n, 3)
};

// bounds: low xyz, high xyz.
Slopes estimate_slopes(const cpu::FieldRunner& runner, const std::array<float, 6>& bounds);

// The same with how much a frame's deformation stretches, by posed place.
class Stretched {
 public:
  // Of `slopes`, which has to outlive it. Bands have to know stretches everywhere in its box; else a place that
  // was not looked at is as the steepest around it.
  Stretched(const Slopes& slopes, const cpu::FieldRunner& runner, const cpu::FieldFrames& frame,
            bool everywhere);
  // What it looks at lives as long as this object does.
  cpu::SlopeBounds bounds() const;
  float greatest() const { return bounds_.stretch; }
  // What bands cost goes by: the mean over places, each the steepest around it.
  double usual() const;

 private:
  cpu::SlopeBounds bounds_;
  std::vector<float> levels_;  // what bounds_.stretches looks at
};

}  // namespace facetalk::head
