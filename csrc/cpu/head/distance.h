// How far the canonical surface is at least, over a box.
#pragma once

#include <vector>

#include "cpu/surface/field_band.h"

namespace facetalk::head {

// Signed lower bounds of the distance over cells of twice the spacing, half of `cells` along each axis, z
// fastest; `cells` are multiples of 4.
std::vector<float> least_distances(const cpu::FieldRunner& runner, const cpu::SlopeBounds& bounds,
                                   const double (&origin)[3], double spacing, const int (&cells)[3]);

}  // namespace facetalk::head
