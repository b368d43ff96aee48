// What the kernels need of the marching-cubes table; plain data, fit for SIMD files and CUDA.
#pragma once

#include <cstdint>

namespace facetalk {

constexpr int kCentre = 12;  // pseudo edge: the cell's own vertex

struct CellVariant {
  uint16_t first;     // index of its first triangle's first corner in MarchingCubesTable::corners
  uint8_t triangles;  // at most 12
  uint8_t centres;    // 1 when it uses kCentre, else 0; kCentre is the third corner of its fan's triangles
};

}  // namespace facetalk
