// A sampled scalar field of which only the bricks near a surface are stored.
//
// The lattice is cut into bricks of 8 x 8 x 8 samples. A brick is either stored, z fastest, or known to be
// outside or inside everywhere; so memory grows with the surface (R^2) but for the table (R^3 / 512 entries).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace facetalk {

constexpr int kBrickShift = 3;
constexpr int kBrickSide = 1 << kBrickShift;
constexpr int kBrickMask = kBrickSide - 1;
constexpr int64_t kBrickSamples = int64_t{kBrickSide} * kBrickSide * kBrickSide;
constexpr int32_t kBrickOutside = -1;
constexpr int32_t kBrickInside = -2;

struct BrickVolume {
  int64_t shape[3] = {0, 0, 0};   // samples
  int64_t bricks[3] = {0, 0, 0};  // along each axis; those at the far border may reach beyond the lattice
  std::vector<int32_t> table;     // (bricks) number of a stored brick, kBrickOutside or kBrickInside
  std::vector<float> samples;     // (stored, 8, 8, 8)

  BrickVolume() = default;
  BrickVolume(int64_t nx, int64_t ny, int64_t nz) : shape{nx, ny, nz} {
    for (int a = 0; a < 3; ++a) bricks[a] = (shape[a] + kBrickMask) >> kBrickShift;
    table.assign(static_cast<size_t>(bricks[0] * bricks[1] * bricks[2]), kBrickOutside);
  }

  int64_t stored() const { return static_cast<int64_t>(samples.size()) / kBrickSamples; }
  int64_t brick(int64_t i, int64_t j, int64_t k) const { return (i * bricks[1] + j) * bricks[2] + k; }

  // Where sample (i, j, k) lies inside its brick.
  static int64_t within(int64_t i, int64_t j, int64_t k) {
    return ((i & kBrickMask) << (2 * kBrickShift)) | ((j & kBrickMask) << kBrickShift) | (k & kBrickMask);
  }
};

}  // namespace facetalk
