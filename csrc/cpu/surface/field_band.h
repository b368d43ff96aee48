// The samples of a frame near its surface, found by refinement of a coarse lattice.
//
// A value and a bound on the field's slope say how far away the surface is at least. A cell is left out when
// what is known at its corners keeps the surface out of it. Bounds are estimates, so they are checked against
// every pair of evaluated neighbours. When one is steeper, cells that a greater bound would not have left out are
// looked at again; where a sign was wrong, the whole frame is. What still depends on a broken one is counted.
#pragma once

#include "cpu/surface/field_bricks.h"

namespace facetalk::cpu {

struct BandReport {
  int64_t deformed = 0;     // points that went through the deformation network
  int64_t evaluated = 0;    // points that went through the ensemble
  int64_t broken = 0;       // samples whose sign was taken for certain and turned out wrong
  int64_t uncertified = 0;  // cells around those, and cells left out by a bound that neighbours contradict
  float steepest = 0.0f;    // slope between neighbours, in units of the bound
};

// `spacing`: samples between those of the coarse lattice, a power of two, at least 8.
BrickVolume field_band(const FieldRunner& runner, const FieldFrames& frame, const Lattice& lattice,
                       const SlopeBounds& bounds, int spacing, BandReport& report);

}  // namespace facetalk::cpu
