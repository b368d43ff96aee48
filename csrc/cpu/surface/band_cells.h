// Cells of a lattice, and how far a surface is at least from a box near which it was measured: what field_band.cpp
// searches with, inline, since it asks for millions of them.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/field/field.h"

namespace facetalk::cpu::band {

// A cube of the lattice by the sample that it starts with; its spacing is told beside it.
struct Cell {
  int32_t start[3];
};

// Cells by the logarithm of their spacing.
using Waiting = std::array<std::vector<Cell>, 32>;

inline size_t level(int spacing) {
  size_t power = 0;
  while (spacing >> power > 1) ++power;
  return power;
}

// Where a sample is; beyond the border, where the border is.
inline void place(const Lattice& lattice, int32_t i, int32_t j, int32_t k, float* out) {
  const int32_t at[3] = {i, j, k};
  for (int a = 0; a < 3; ++a) {
    const std::vector<float>& axis = lattice.axis[a];
    out[a] = axis[std::min(static_cast<size_t>(at[a]), axis.size() - 1)];
  }
}

// Cells cut in half along every axis, as far as they begin on the lattice.
inline std::vector<Cell> halves(const Lattice& lattice, const std::vector<Cell>& cells, int spacing) {
  std::vector<Cell> finer;
  finer.reserve(8 * cells.size());
  for (const Cell& cell : cells) {
    for (int child = 0; child < 8; ++child) {
      Cell part = cell;
      bool there = true;
      for (int a = 0; a < 3; ++a) {
        part.start[a] += (child >> (2 - a) & 1) * (spacing / 2);
        there = there && part.start[a] < static_cast<int32_t>(lattice.axis[a].size());
      }
      if (there) finer.push_back(part);
    }
  }
  return finer;
}

// What is known at corners: where, and how far the surface is at least.
struct Known {
  int count = 0;
  float at[8][3];
  float radius[8];
  bool inside = false;

  // How far the surface is at least from every point of a box.
  float slack(const float low[3], const float high[3]) const {
    float best = -3e38f;
    float sums[8] = {};  // of the distances from the box's corners
    float total = 0.0f;
    for (int c = 0; c < count; ++c) {
      float farthest = 0.0f;
      for (int p = 0; p < 8; ++p) {
        float square = 0.0f;
        for (int a = 0; a < 3; ++a) {
          const float d = (p >> (2 - a) & 1 ? high[a] : low[a]) - at[c][a];
          square += d * d;
        }
        const float distance = std::sqrt(square);
        sums[p] += distance;
        farthest = std::max(farthest, distance);
      }
      best = std::max(best, radius[c] - farthest);
      total += radius[c];
    }
    // Means of the corners' bounds hold too, and the sum of distances is greatest at a corner of the box.
    return std::max(best, (total - *std::max_element(sums, sums + 8)) / static_cast<float>(count));
  }
};

}  // namespace facetalk::cpu::band
