// The canonical field of a bound head on a sparse lattice: facetalk/nphm/surface/bake.py in C++.
#pragma once

#include <array>
#include <memory>

#include "cpu/surface/field_band.h"

namespace facetalk::head {

struct Baked {
  cpu::StoredCache cache;
  double width = 0.0;         // distance from the surface up to which values are cached, head units
  double tolerance_mm = 0.0;  // error asked for

  bool fits(double other_width, double other_tolerance_mm) const {
    return width >= other_width && tolerance_mm <= other_tolerance_mm;
  }
};

// box: low xyz, high xyz; its slopes are `bounds`. Null where the box is too large for a table.
std::unique_ptr<Baked> bake(const cpu::FieldRunner& runner, const cpu::SlopeBounds& bounds,
                            const std::array<float, 6>& box, double width, double tolerance_mm);

}  // namespace facetalk::head
