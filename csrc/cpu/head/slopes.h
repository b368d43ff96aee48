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

// The bounds with that on the deformation's stretch in a frame.
cpu::SlopeBounds with_stretch(const Slopes& slopes, const cpu::FieldRunner& runner,
                              const cpu::FieldFrames& frame);

}  // namespace facetalk::head
