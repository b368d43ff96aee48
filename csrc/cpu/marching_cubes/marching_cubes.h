// Isosurface of a sampled scalar field on the CPU. See core/marching_cubes_table.h for the rule that cuts a
// cell.
#pragma once

#include "core/brick_volume.h"
#include "core/tensor_view.h"

namespace facetalk::cpu {

struct GridFrame {
  double origin[3] = {0, 0, 0};  // position of sample (0, 0, 0)
  double step[3] = {1, 1, 1};    // distance between samples, positive
};

struct SurfaceMesh {
  Array vertices;  // (V, 3) float32
  Array faces;     // (F, 3) int32, counter-clockwise seen from the side above the level
  Array normals;   // (V, 3) float32, towards growing values; memory is null when not asked for
};

// volume: (nx, ny, nz) float32, contiguous, each size at least 2. Throws ArgumentError for non-finite samples
// (says how many and where the first is), for surfaces with more vertices or faces than int32 can number, and
// for a frame whose positions float32 cannot hold.
// The result is the same for every number of threads.
SurfaceMesh marching_cubes(const TensorView& volume, float level, const GridFrame& frame, bool with_normals);

// The same surface, to the last bit, from the bricks around it, without normals. The corners of every cell
// that it cuts must be stored.
SurfaceMesh marching_cubes(const BrickVolume& volume, float level, const GridFrame& frame);

}  // namespace facetalk::cpu
