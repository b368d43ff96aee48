// The canonical signed distance of one identity, sampled once on a sparse, adaptive lattice.
//
// Bricks of 4 x 4 x 4 cells keep the 7 x 7 x 7 samples that tricubic (Lagrange) interpolation reads, so a
// lookup touches one brick. A brick whose error was too large is replaced by eight of half the spacing. A
// coarser lattice holds how far away the surface is at least, with the sign.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace facetalk::cpu {

constexpr int kCacheCells = 4;                // of a brick, along each axis
constexpr int kCacheNodes = kCacheCells + 3;  // samples of a brick, along each axis
constexpr int kCacheBrick = kCacheNodes * kCacheNodes * kCacheNodes;

struct CanonicalCache {
  float origin[3] = {0, 0, 0};  // corner of the first brick
  float spacing = 0.0f;         // between samples of the coarsest bricks
  int64_t shape[3] = {0, 0, 0};
  // Per brick, and below for the eight of a refined one: >= 0 brick of `data`; -1 nothing here; otherwise
  // refined, its eight at children[8 * (-2 - entry)].
  std::vector<int32_t> table;
  std::vector<int32_t> children;
  std::vector<float> data;   // (bricks, 7, 7, 7) and a few floats of padding
  std::vector<float> error;  // (bricks) bound of the interpolated value's error, head units

  float far_origin[3] = {0, 0, 0};
  float far_spacing = 1.0f;
  int64_t far_shape[3] = {0, 0, 0};
  std::vector<float> far;  // signed; |far| is a lower bound of the distance over the whole cell

  // Interpolated value and the bound of its error; false where nothing is cached.
  bool value(const float* y, float* out, float* error_bound) const;

  // Signed lower bound of the distance to the surface, 0 where unknown.
  float distance(const float* y) const {
    int64_t at = 0;
    for (int a = 0; a < 3; ++a) {
      const float u = (y[a] - far_origin[a]) / far_spacing;
      if (!(u >= 0.0f && u < static_cast<float>(far_shape[a]))) return 0.0f;
      at = at * far_shape[a] + static_cast<int64_t>(u);
    }
    return far[static_cast<size_t>(at)];
  }
};

}  // namespace facetalk::cpu
