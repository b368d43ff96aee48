#include "cpu/head/distance.h"

#include <algorithm>
#include <cmath>

namespace facetalk::head {
namespace {

constexpr double kCoarseBand = 0.15;  // head units, as COARSE_BAND in facetalk/ops/field/cpu.py

struct Grid {
  int64_t n[3];
  int64_t size() const { return n[0] * n[1] * n[2]; }
  int64_t stride(int axis) const { return axis == 0 ? n[1] * n[2] : axis == 1 ? n[2] : 1; }
};

// For every line of a grid along an axis.
template <typename Body>
void for_lines(const Grid& grid, int axis, Body&& body) {
  const int64_t stride = grid.stride(axis), count = grid.n[axis];
  for (int64_t at = 0; at < grid.size(); ++at) {
    if (at / stride % count == 0) body(at, stride, count);
  }
}

// Squared distance, in cells, to the nearest entry of 0: the lower envelope of parabolas, axis by axis
// (Felzenszwalb and Huttenlocher, "Distance Transforms of Sampled Functions", Theory of Computing 2012).
void transform(std::vector<float>& squares, const Grid& grid) {
  std::vector<double> line, edge;
  std::vector<int64_t> parabola;
  for (int axis = 0; axis < 3; ++axis) {
    for_lines(grid, axis, [&](int64_t first, int64_t stride, int64_t count) {
      line.resize(static_cast<size_t>(count));
      parabola.clear();
      edge.clear();
      for (int64_t q = 0; q < count; ++q) {
        const double own = squares[static_cast<size_t>(first + q * stride)];
        line[static_cast<size_t>(q)] = own;
        if (!std::isfinite(own)) continue;
        double cut = -INFINITY;
        while (!parabola.empty()) {
          const auto p = parabola.back();
          cut =
              (own + static_cast<double>(q * q) - line[static_cast<size_t>(p)] - static_cast<double>(p * p)) /
              static_cast<double>(2 * (q - p));
          if (cut > edge.back()) break;
          parabola.pop_back();
          edge.pop_back();
        }
        edge.push_back(parabola.empty() ? -INFINITY : cut);
        parabola.push_back(q);
      }
      if (parabola.empty()) return;
      size_t of = 0;
      for (int64_t q = 0; q < count; ++q) {
        while (of + 1 < parabola.size() && edge[of + 1] < static_cast<double>(q)) ++of;
        const auto d = static_cast<double>(q - parabola[of]);
        squares[static_cast<size_t>(first + q * stride)] =
            static_cast<float>(d * d + line[static_cast<size_t>(parabola[of])]);
      }
    });
  }
}

bool is_inside(const BrickVolume& volume, int64_t i, int64_t j, int64_t k) {
  const int32_t entry =
      volume.table[static_cast<size_t>(volume.brick(i >> kBrickShift, j >> kBrickShift, k >> kBrickShift))];
  if (entry < 0) return entry == kBrickInside;
  return volume.samples[static_cast<size_t>(entry * kBrickSamples + BrickVolume::within(i, j, k))] < 0.0f;
}

}  // namespace

std::vector<float> least_distances(const cpu::FieldRunner& runner, const cpu::SlopeBounds& bounds,
                                   const double (&origin)[3], double spacing, const int (&cells)[3]) {
  cpu::Lattice lattice;
  for (int a = 0; a < 3; ++a) {
    for (int i = 0; i <= cells[a]; ++i)
      lattice.axis[a].push_back(static_cast<float>(origin[a] + spacing * i));
  }
  const int coarse =
      1 << std::clamp(static_cast<int>(std::lround(std::log2(std::max(kCoarseBand / spacing, 1.0)))), 3, 10);
  cpu::BandReport report;
  const BrickVolume volume = cpu::field_band(runner, {}, lattice, bounds, coarse, report);
  const Grid grid{{cells[0], cells[1], cells[2]}};
  std::vector<uint8_t> corners(static_cast<size_t>(grid.size()));
  std::vector<float> squares(corners.size(), INFINITY);
  bool any = false;
  size_t at = 0;
  for (int64_t i = 0; i < grid.n[0]; ++i) {
    for (int64_t j = 0; j < grid.n[1]; ++j) {
      for (int64_t k = 0; k < grid.n[2]; ++k, ++at) {
        for (int c = 0; c < 8; ++c)
          corners[at] += is_inside(volume, i + (c & 1), j + (c >> 1 & 1), k + (c >> 2)) ? 1 : 0;
        if (corners[at] == 0 || corners[at] == 8) continue;
        any = true;
        // From box to box: the distance between centres, to a surface grown by one cell.
        for (int64_t x = std::max<int64_t>(i - 1, 0); x <= std::min(i + 1, grid.n[0] - 1); ++x) {
          for (int64_t y = std::max<int64_t>(j - 1, 0); y <= std::min(j + 1, grid.n[1] - 1); ++y) {
            for (int64_t z = std::max<int64_t>(k - 1, 0); z <= std::min(k + 1, grid.n[2] - 1); ++z)
              squares[static_cast<size_t>((x * grid.n[1] + y) * grid.n[2] + z)] = 0.0f;
          }
        }
      }
    }
  }
  const double far =
      std::sqrt(static_cast<double>(grid.n[0] * grid.n[0] + grid.n[1] * grid.n[1] + grid.n[2] * grid.n[2]));
  if (any) transform(squares, grid);
  std::vector<float> out;
  out.reserve(squares.size() / 8);
  for (int64_t i = 0; i < grid.n[0]; i += 2) {
    for (int64_t j = 0; j < grid.n[1]; j += 2) {
      for (int64_t k = 0; k < grid.n[2]; k += 2) {
        double least = far * far;
        for (int c = 0; c < 8; ++c) {
          const int64_t one = ((i + (c & 1)) * grid.n[1] + j + (c >> 1 & 1)) * grid.n[2] + k + (c >> 2);
          least = std::min(least, static_cast<double>(squares[static_cast<size_t>(one)]));
        }
        const double distance = spacing * std::sqrt(least);
        const bool inside = corners[static_cast<size_t>((i * grid.n[1] + j) * grid.n[2] + k)] > 0;
        out.push_back(static_cast<float>(inside ? -distance : distance));
      }
    }
  }
  return out;
}

}  // namespace facetalk::head
