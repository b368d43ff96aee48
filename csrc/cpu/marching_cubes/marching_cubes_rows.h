// The inner loops of marching cubes, one row of samples or cells along z at a time, on signs packed 64 to a
// word. Compiled once per SIMD level from marching_cubes_rows.inl.h.
#pragma once

#include <cstdint>

#include "core/marching_cubes_cell.h"

namespace facetalk::cpu {

// Views of what the rows share. Plain pointers: the .inl.h must not instantiate anything of the standard
// library.
struct McGrid {
  const float* samples;  // (nx, ny, nz), or of bricks (stored, 8, 8, 8)
  // Null when dense. Number of a stored brick, or what lies in one that is not; see core/brick_volume.h. The
  // eight corners of a cell that the surface cuts are always stored.
  const int32_t* table;
  int64_t bricks_y, bricks_z;
  const uint64_t*
      signs;  // (nx * ny, words): bit set where a sample is below the level; bits from nz on are 0
  int64_t nx, ny, nz;
  int64_t words;  // per row
  float level;
  // Table, see core/marching_cubes_table.h
  const uint8_t* ambiguous;
  const uint16_t* first_variant;
  const uint8_t (*face_corners)[4];
  const CellVariant* variants;
  const uint8_t* corners;
};

// How much row (i, j) makes; after the scan: where its output starts. Edges count where they start, along z,
// y, x.
struct McRow {
  int64_t z, y, x, centres;
  int64_t triangles;
};

struct McRowKernels {
  // Packs n samples into words; returns false when one of them is NaN or infinite.
  bool (*pack)(const float* samples, int64_t n, float level, uint64_t* words);
  McRow (*count)(const McGrid& grid, int64_t i, int64_t j);
  // bases: rows (i, j), (i, j + 1), (i + 1, j), (i + 1, j + 1). Writes the faces of cell row (i, j), and the
  // vertices inside cells as the mean of the loop around them, from vertices (and normals, if any) already
  // written.
  void (*emit_faces)(const McGrid& grid, int64_t i, int64_t j, const McRow* const bases[4], int32_t* faces,
                     float* vertices, float* normals);
};

namespace baseline {
extern const McRowKernels kMcRows;
}
namespace avx2 {
extern const McRowKernels kMcRows;
}
namespace avx512 {
extern const McRowKernels kMcRows;
}

}  // namespace facetalk::cpu
