// The canonical signed distance of one identity, sampled once on a sparse, adaptive lattice.
//
// Bricks of 4 x 4 x 4 cells keep the 7 x 7 x 7 samples that tricubic (Lagrange) interpolation reads, so a
// lookup touches one brick. A brick whose error was too large is replaced by eight of half the spacing. A
// coarser lattice holds how far away the surface is at least, with the sign.
#pragma once

#include <cstdint>

#include "core/host_device.h"

namespace facetalk {

constexpr int kCacheCells = 4;                // of a brick, along each axis
constexpr int kCacheNodes = kCacheCells + 3;  // samples of a brick, along each axis
constexpr int kCacheChildren = 8;             // finer bricks of a refined one
constexpr int kCacheBrick = kCacheNodes * kCacheNodes * kCacheNodes;

// Arrays are where they are read, in the CPU's memory or a GPU's; whoever fills this in has checked entries.
struct CanonicalCache {
  float origin[3] = {0, 0, 0};  // corner of the first brick
  float spacing = 1.0f;         // between samples of the coarsest bricks
  int shape[3] = {0, 0, 0};
  // Per brick, and below for the eight of a refined one: >= 0 brick of `data`; -1 nothing here; otherwise
  // refined, its eight at children[kCacheChildren * (-2 - entry)].
  const int32_t* table = nullptr;
  const int32_t* children = nullptr;
  const float* data = nullptr;   // (bricks, 7, 7, 7)
  const float* error = nullptr;  // (bricks) bound of the interpolated value's error, head units

  float far_origin[3] = {0, 0, 0};
  float far_spacing = 1.0f;
  int far_shape[3] = {0, 0, 0};
  const float* far = nullptr;  // signed; |far| is a lower bound of the distance over the whole cell

  // The brick of `data` that holds y, or -1 where nothing is cached, and y's place in it, in cells.
  FACETALK_HOST_DEVICE int32_t find(const float* y, float* u) const {
    int64_t at = 0;
    for (int a = 0; a < 3; ++a) {
      u[a] = (y[a] - origin[a]) / spacing;
      if (!(u[a] >= 0.0f && u[a] < static_cast<float>(shape[a] * kCacheCells))) return -1;
      const int brick = static_cast<int>(u[a]) / kCacheCells;
      u[a] -= static_cast<float>(brick * kCacheCells);
      at = at * shape[a] + brick;
    }
    int32_t entry = table[at];
    while (entry < -1) {
      int child = 0;
      for (int a = 0; a < 3; ++a) {
        const bool upper = u[a] >= 0.5f * kCacheCells;
        child = 2 * child + (upper ? 1 : 0);
        u[a] = 2.0f * u[a] - (upper ? static_cast<float>(kCacheCells) : 0.0f);
      }
      entry = children[kCacheChildren * (-2 - static_cast<int64_t>(entry)) + child];
    }
    return entry;
  }

  // The cell of a brick, along an axis, for a place that `find` gave.
  FACETALK_HOST_DEVICE static int cell_at(float u) {
    const int cell = static_cast<int>(u);
    // Rounding can put the last point of a brick beside it.
    return cell >= kCacheCells ? kCacheCells - 1 : cell < 0 ? 0 : cell;
  }

  // The first of the 4 x 4 x 4 samples that are read for a cell.
  FACETALK_HOST_DEVICE const float* samples(int32_t brick, const int* cell) const {
    return data + static_cast<int64_t>(brick) * kCacheBrick +
           (cell[0] * kCacheNodes + cell[1]) * kCacheNodes + cell[2];
  }

  // Signed lower bound of the distance to the surface, 0 where unknown.
  FACETALK_HOST_DEVICE float distance(const float* y) const {
    int64_t at = 0;
    for (int a = 0; a < 3; ++a) {
      const float u = (y[a] - far_origin[a]) / far_spacing;
      if (!(u >= 0.0f && u < static_cast<float>(far_shape[a]))) return 0.0f;
      at = at * far_shape[a] + static_cast<int64_t>(u);
    }
    return far[at];
  }
};

}  // namespace facetalk
