// A frame found from the canonical cache: the surface of the identity is known, so only the deformation has
// to be learned anew, and that is smooth nearly everywhere.
//
// The deformation is evaluated on a coarse lattice and interpolated (tricubic). What the interpolation errs
// by is probed in the middle of every cell; where it is more than the tolerance a lattice of half the spacing
// takes over, and where that is not enough the network itself. So every sample near the surface gets a guess
// of its signed distance and a bound on its error. With `exact`, both networks are then evaluated where the
// sign is in doubt and at the corners of every cell that the surface cuts; otherwise the guess is the value
// wherever it is good enough.
#pragma once

#include "cpu/surface/field_bricks.h"

namespace facetalk::cpu {

struct GuideOptions {
  bool exact = false;      // values from both networks; the cache only guides
  float tolerance = 0.0f;  // of the interpolated offset, head units; 0: the network's offsets everywhere
  float cache_tolerance = 0.0f;  // of the cached value, head units
  int spacing = 8;               // samples between nodes of the coarse lattice, a power of two, at least 4
};

struct GuideReport {
  int64_t deformed = 0;     // points that went through the deformation network, nodes and probes included
  int64_t evaluated = 0;    // points that went through the ensemble
  int64_t uncertified = 0;  // cells around samples whose sign was taken for certain and turned out wrong
  int64_t bricks = 0;       // looked at sample by sample
  int64_t direct = 0;       // of these, where no lattice was good enough
};

// The deformation's outputs must be the three offsets.
BrickVolume field_guided(const FieldRunner& runner, const FieldFrames& frame, const Lattice& lattice,
                         const SlopeBounds& bounds, const CanonicalCache& cache, const GuideOptions& options,
                         GuideReport& report);

}  // namespace facetalk::cpu
