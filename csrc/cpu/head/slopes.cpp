#include "cpu/head/slopes.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

namespace facetalk::head {
namespace {

// facetalk/nphm/surface/slopes.py says why.
constexpr double kMargin = 1.1, kStretchMargin = 1.25, kSpacing = 0.03, kLeast = 0.5;
constexpr int kReaches[] = {1, 2, 4, 8};
constexpr double kCell = 0.06;
constexpr int kFarCells = 2;
// Half as many around the steepest as there: here every frame asks, there every call.
constexpr size_t kPlaces = 2048, kSteepest = 128, kAround = 8;
constexpr float kAroundReaches[] = {0.02f, 0.01f, 0.005f};
constexpr double kSteeper = 1.1;
constexpr int64_t kUsualLevel = 1;  // facetalk/nphm/surface/plan.py

struct Shape {
  int n[3];
  int64_t at(int i, int j, int k) const { return (static_cast<int64_t>(i) * n[1] + j) * n[2] + k; }
  int64_t size() const { return static_cast<int64_t>(n[0]) * n[1] * n[2]; }
};

// How steep samples of some channels are over every cell: along each axis by its steepest of four edges.
std::vector<double> over_cells(const float* value, int channels, const Shape& samples, const Shape& cells,
                               const double (&step)[3]) {
  std::vector<double> out(static_cast<size_t>(cells.size()));
  for (int i = 0; i < cells.n[0]; ++i) {
    for (int j = 0; j < cells.n[1]; ++j) {
      for (int k = 0; k < cells.n[2]; ++k) {
        double total = 0.0;
        for (int axis = 0; axis < 3; ++axis) {
          double most = 0.0;
          for (int edge = 0; edge < 4; ++edge) {
            int low[3] = {i, j, k};
            low[(axis + 1) % 3] += edge & 1;
            low[(axis + 2) % 3] += edge >> 1;
            int high[3] = {low[0], low[1], low[2]};
            ++high[axis];
            const float* from = value + channels * samples.at(low[0], low[1], low[2]);
            const float* to = value + channels * samples.at(high[0], high[1], high[2]);
            double square = 0.0;
            for (int c = 0; c < channels; ++c) {
              const double rise = (static_cast<double>(to[c]) - from[c]) / step[axis];
              square += rise * rise;
            }
            most = std::max(most, square);
          }
          total += most;
        }
        out[static_cast<size_t>(cells.at(i, j, k))] = std::sqrt(total);
      }
    }
  }
  return out;
}

// Bounds of slopes over cells.
std::vector<double> cell_slopes(const std::vector<float>& value, const Shape& samples, const Shape& cells,
                                const double (&step)[3]) {
  std::vector<double> out = over_cells(value.data(), 1, samples, cells, step);
  for (double& slope : out) slope = std::max(kMargin * slope, kLeast);
  return out;
}

// The greatest within `reach` cells along every axis.
std::vector<double> dilated(std::vector<double> values, const Shape& cells, int reach) {
  const int64_t strides[3] = {static_cast<int64_t>(cells.n[1]) * cells.n[2], cells.n[2], 1};
  std::vector<double> line;
  for (int axis = 0; axis < 3; ++axis) {
    const int count = cells.n[axis];
    const int64_t stride = strides[axis];
    for (int64_t first = 0; first < cells.size(); ++first) {
      if (first / stride % count != 0) continue;
      line.clear();
      for (int i = 0; i < count; ++i) line.push_back(values[static_cast<size_t>(first + i * stride)]);
      for (int i = 0; i < count; ++i) {
        const int low = std::max(0, i - reach), high = std::min(count, i + reach + 1);
        values[static_cast<size_t>(first + i * stride)] =
            *std::max_element(line.begin() + low, line.begin() + high);
      }
    }
  }
  return values;
}

// The largest singular value of a 3x3 matrix, by power iteration on its square; from below, by a hair.
double spectral_norm(const double (&a)[3][3]) {
  double v[3] = {1.0, 0.7, 0.4}, norm = 0.0;
  for (int turn = 0; turn < 40; ++turn) {
    double w[3] = {}, next[3] = {};
    for (int r = 0; r < 3; ++r) w[r] = a[r][0] * v[0] + a[r][1] * v[1] + a[r][2] * v[2];
    for (int c = 0; c < 3; ++c) next[c] = a[0][c] * w[0] + a[1][c] * w[1] + a[2][c] * w[2];
    const double length = std::sqrt(next[0] * next[0] + next[1] * next[1] + next[2] * next[2]);
    if (length < 1e-30) return 0.0;
    norm = std::sqrt(length);
    for (int c = 0; c < 3; ++c) v[c] = next[c] / length;
  }
  return norm;
}

// By how much a frame's deformation stretches at points (n, 3).
std::vector<double> stretches(const cpu::FieldRunner& runner, const cpu::FieldFrames& frame,
                              const std::vector<float>& points) {
  const auto n = static_cast<int64_t>(points.size() / 3);
  const auto rows = static_cast<size_t>(runner.model->deformation.outputs);
  std::vector<float> jacobian(static_cast<size_t>(n) * rows * 3);
  cpu::FieldOutputs outputs;
  outputs.jacobian = jacobian.data();
  cpu::field_query(runner, frame, points.data(), n, 3, outputs);
  std::vector<double> norms;
  for (int64_t i = 0; i < n; ++i) {
    double whole[3][3];
    for (size_t r = 0; r < 3; ++r) {
      for (size_t c = 0; c < 3; ++c)
        whole[r][c] = jacobian[(static_cast<size_t>(i) * rows + r) * 3 + c] + (r == c ? 1.0 : 0.0);
    }
    norms.push_back(spectral_norm(whole));
  }
  return norms;
}

// The points of a lattice from `low`.
std::vector<float> lattice_points(const Shape& samples, const double (&low)[3], const double (&step)[3]) {
  std::vector<float> points;
  points.reserve(static_cast<size_t>(3 * samples.size()));
  for (int i = 0; i < samples.n[0]; ++i) {
    for (int j = 0; j < samples.n[1]; ++j) {
      for (int k = 0; k < samples.n[2]; ++k) {
        const int at[3] = {i, j, k};
        for (int a = 0; a < 3; ++a) points.push_back(static_cast<float>(low[a] + at[a] * step[a]));
      }
    }
  }
  return points;
}

// The lattice in the box that `slope` is of on which offsets are looked at; that of `bounds` is made to be of the
// smaller cells.
struct FarLattice {
  Shape nodes, coarse;
  double low[3], step[3];
};

FarLattice far_lattice(const LocalBounds& slope, LocalBounds& bounds) {
  FarLattice out{};
  for (int a = 0; a < 3; ++a) {
    const double length = static_cast<double>(slope.shape[a]) / slope.inverse_spacing[a];
    out.coarse.n[a] =
        std::clamp(static_cast<int>(std::ceil(std::min(length / (kFarCells * kCell), 1e6))), 1, 40);
    out.nodes.n[a] = out.coarse.n[a] + 1;
    out.low[a] = slope.origin[a];
    out.step[a] = std::max(kFarCells * kCell, length / out.coarse.n[a]);
    bounds.origin[a] = slope.origin[a];
    bounds.inverse_spacing[a] = static_cast<float>(kFarCells / out.step[a]);
    bounds.shape[a] = kFarCells * out.coarse.n[a];
  }
  return out;
}

// Stretches in the cells of `bounds`, from offsets at the nodes of the coarser lattice.
std::vector<double> far_stretches(const cpu::FieldRunner& runner, const cpu::FieldFrames& frame,
                                  const FarLattice& lattice, const LocalBounds& bounds) {
  const auto& [nodes, coarse, low, step] = lattice;
  const std::vector<float> points = lattice_points(nodes, low, step);
  const auto made = static_cast<size_t>(runner.model->deformation.outputs);
  std::vector<float> offsets(static_cast<size_t>(nodes.size()) * made), moved;
  cpu::FieldOutputs outputs;
  outputs.offsets = offsets.data();
  cpu::field_query(runner, frame, points.data(), nodes.size(), 3, outputs);
  for (size_t i = 0; i < offsets.size(); i += made)
    moved.insert(moved.end(), {offsets[i], offsets[i + 1], offsets[i + 2]});
  const std::vector<double> steepest = over_cells(moved.data(), 3, nodes, coarse, step);
  std::vector<double> out;
  for (int i = 0; i < bounds.shape[0]; ++i) {
    for (int j = 0; j < bounds.shape[1]; ++j) {
      for (int k = 0; k < bounds.shape[2]; ++k) {
        const int64_t from = coarse.at(i / kFarCells, j / kFarCells, k / kFarCells);
        out.push_back(1.0 + kStretchMargin * steepest[static_cast<size_t>(from)]);
      }
    }
  }
  return out;
}

// The greatest of what is known of a cell and of the values that fall into it or, by its reach, around it. Where
// nothing is known, minus infinity, it is what is known from further away.
void by_place(std::vector<double> known, const std::vector<float>& points, const std::vector<double>& values,
              LocalBounds& bounds, std::vector<float>& levels) {
  const Shape cells{{bounds.shape[0], bounds.shape[1], bounds.shape[2]}};
  for (size_t i = 0; i < values.size(); ++i) {
    int at[3];
    for (size_t a = 0; a < 3; ++a) {
      const float cell = (points[3 * i + a] - bounds.origin[a]) * bounds.inverse_spacing[a];
      at[a] = std::clamp(static_cast<int>(std::floor(cell)), 0, cells.n[a] - 1);
    }
    double& most = known[static_cast<size_t>(cells.at(at[0], at[1], at[2]))];
    most = std::max(most, values[i]);
  }
  for (const int reach : kReaches) {
    const std::vector<double> level = dilated(known, cells, reach);
    levels.insert(levels.end(), level.begin(), level.end());
    bounds.reach[bounds.levels++] = static_cast<float>(reach * kCell);
  }
  const auto greatest = static_cast<float>(*std::max_element(known.begin(), known.end()));
  const auto size = static_cast<size_t>(cells.size());
  for (size_t i = levels.size(); i-- > 0;) {
    if (std::isinf(levels[i])) levels[i] = i + size < levels.size() ? levels[i + size] : greatest;
  }
}

}  // namespace

Slopes estimate_slopes(const cpu::FieldRunner& runner, const std::array<float, 6>& bounds) {
  Shape samples, cells;
  double step[3];
  for (size_t a = 0; a < 3; ++a) {
    const double length = static_cast<double>(bounds[3 + a]) - bounds[a];
    // A box far larger than a head is not sampled more finely than this.
    samples.n[a] = std::clamp(static_cast<int>(std::ceil(std::min(length / kSpacing, 1e6))), 2, 160) + 1;
    cells.n[a] = samples.n[a] - 1;
    step[a] = length / cells.n[a];
  }
  const double low[3] = {bounds[0], bounds[1], bounds[2]};
  std::vector<float> points = lattice_points(samples, low, step);
  std::vector<float> sdf(static_cast<size_t>(samples.size())), raw(sdf.size());
  cpu::FieldOutputs outputs;
  outputs.sdf = sdf.data();
  outputs.raw_sdf = raw.data();
  cpu::field_query(runner, {}, points.data(), samples.size(), 3, outputs);

  Slopes out;
  const std::vector<double> slopes[2] = {cell_slopes(sdf, samples, cells, step),
                                         cell_slopes(raw, samples, cells, step)};
  double totals[2] = {0.0, 0.0};
  for (int kind = 0; kind < 2; ++kind) {
    for (const double slope : slopes[kind]) totals[kind] += slope;
  }
  const std::vector<double>& flatter = slopes[totals[1] < totals[0] ? 1 : 0];
  out.bounds.raw = totals[1] < totals[0];
  out.bounds.everywhere = static_cast<float>(*std::max_element(flatter.begin(), flatter.end()));
  const double least = std::min({step[0], step[1], step[2]});
  for (const int reach : kReaches) {
    const std::vector<double> level = dilated(flatter, cells, reach);
    out.levels.insert(out.levels.end(), level.begin(), level.end());
    out.bounds.slope.reach[out.bounds.slope.levels++] = static_cast<float>(reach * least);
  }
  for (size_t a = 0; a < 3; ++a) {
    out.bounds.slope.origin[a] = bounds[a];
    out.bounds.slope.inverse_spacing[a] = static_cast<float>(1.0 / step[a]);
    out.bounds.slope.shape[a] = cells.n[a];
  }
  for (size_t i = 0; i < raw.size(); ++i) {
    if (std::abs(raw[i]) < 1.5 * kSpacing)
      out.near.insert(out.near.end(), points.begin() + static_cast<std::ptrdiff_t>(3 * i),
                      points.begin() + static_cast<std::ptrdiff_t>(3 * i + 3));
  }
  if (out.near.empty()) out.near = std::move(points);
  return out;
}

Stretched::Stretched(const Slopes& slopes, const cpu::FieldRunner& runner, const cpu::FieldFrames& frame,
                     bool everywhere)
    : bounds_(slopes.bounds) {
  bounds_.slope.values = slopes.levels.data();
  if (frame.biases == nullptr) return;
  std::vector<float> points;
  const size_t count = slopes.near.size() / 3, every = std::max<size_t>(1, count / kPlaces);
  for (size_t i = 0; i < count; i += every)
    points.insert(points.end(), slopes.near.begin() + static_cast<std::ptrdiff_t>(3 * i),
                  slopes.near.begin() + static_cast<std::ptrdiff_t>(3 * i + 3));
  std::vector<double> known = stretches(runner, frame, points);
  std::minstd_rand random;
  for (const float reach : kAroundReaches) {
    std::vector<size_t> order(known.size());
    std::iota(order.begin(), order.end(), size_t{0});
    const size_t steepest = std::min(kSteepest, order.size());
    std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(steepest), order.end(),
                      [&](size_t a, size_t b) { return known[a] != known[b] ? known[a] > known[b] : a < b; });
    std::vector<float> around;
    std::uniform_real_distribution<float> step(-2.0f * reach, 2.0f * reach);
    for (size_t i = 0; i < steepest * kAround; ++i) {
      for (size_t a = 0; a < 3; ++a) around.push_back(points[3 * order[i / kAround] + a] + step(random));
    }
    const std::vector<double> more = stretches(runner, frame, around);
    const double before = *std::max_element(known.begin(), known.end());
    points.insert(points.end(), around.begin(), around.end());
    known.insert(known.end(), more.begin(), more.end());
    if (*std::max_element(more.begin(), more.end()) - 1.0 <= kSteeper * (before - 1.0)) break;
  }
  for (double& norm : known) norm = 1.0 + kStretchMargin * std::max(norm - 1.0, 0.0);
  LocalBounds& local = bounds_.stretches;
  const FarLattice lattice = far_lattice(bounds_.slope, local);
  by_place(everywhere ? far_stretches(runner, frame, lattice, local)
                      : std::vector<double>(static_cast<size_t>(local.cells()), -HUGE_VAL),
           points, known, local, levels_);
  bounds_.stretch = *std::max_element(levels_.begin(), levels_.end());
}

cpu::SlopeBounds Stretched::bounds() const {
  cpu::SlopeBounds out = bounds_;
  out.stretches.values = levels_.data();
  return out;
}

double Stretched::usual() const {
  if (levels_.empty()) return bounds_.stretch;
  const int64_t cells = bounds_.stretches.cells();
  const auto first = levels_.begin() + static_cast<std::ptrdiff_t>(kUsualLevel * cells);
  return std::accumulate(first, first + static_cast<std::ptrdiff_t>(cells), 0.0) / static_cast<double>(cells);
}

}  // namespace facetalk::head
