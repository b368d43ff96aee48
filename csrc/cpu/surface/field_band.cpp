#include "cpu/surface/field_band.h"

#include <algorithm>
#include <vector>

#include "cpu/surface/band_cells.h"

namespace facetalk::cpu {
namespace {

using band::Cell;
using band::halves;
using band::Known;
using band::level;
using band::place;
using band::Waiting;

constexpr int kTries = 3;
constexpr float kMargin = 1.05f;  // over the slope that broke a bound
// Where a sign was wrong, but no slope between neighbours says by how much.
constexpr float kBrokenMargin = 1.25f;

class Band {
 public:
  Band(const FieldRunner& runner, const Lattice& lattice, int spacing)
      : runner_(runner), lattice_(lattice), spacing_(spacing) {}

  BrickVolume run(const FieldFrames& frame, const SlopeBounds& given, BandReport& report);

 private:
  // Nodes of the lattice of every eighth sample; the last along an axis is the border.
  struct Nodes {
    std::vector<uint8_t> known;
    std::vector<FieldBricks::Evaluated> found;
    int64_t shape[3];
  };
  // A cell that was left out, and how much greater bounds may be before it would not be.
  struct Excluded {
    float ratio;
    Cell cell;
    int32_t spacing;
  };

  BrickVolume attempt(const FieldFrames& frame, const SlopeBounds& bounds, BandReport& report);
  void refine(FieldBricks& bricks, const Waiting& waiting);
  void refine_fine(FieldBricks& bricks, std::vector<Cell> cells, const Waiting& waiting);
  // Looks again at the cells that bounds greater by a factor would not have left out.
  void reopen(FieldBricks& bricks, float factor);
  void evaluate_nodes(FieldBricks& bricks, const std::vector<Cell>& cells, int spacing);
  int64_t node(const Cell& cell, int corner, int spacing) const;
  void learn(Known& known, const Cell& cell, int corner, int spacing, float radius) const;
  bool keeps_out(const Known& known, const Cell& cell, int spacing);
  void leave_out(FieldBricks& bricks, const Cell& cell, int spacing, const Known& known);

  const FieldRunner runner_;
  const Lattice& lattice_;
  const int spacing_;
  Nodes nodes_;
  std::vector<float> slack_;  // per brick that is not stored: the surface is farther
  std::vector<Excluded> excluded_;
  float factor_ = 1.0f;  // on the bounds that radii came from
};

int64_t Band::node(const Cell& cell, int corner, int spacing) const {
  int64_t index = 0;
  for (int a = 0; a < 3; ++a) {
    const int64_t at = (cell.start[a] + (corner >> (2 - a) & 1) * spacing) / kBrickSide;
    index = index * nodes_.shape[a] + std::min(at, nodes_.shape[a] - 1);
  }
  return index;
}

void Band::learn(Known& known, const Cell& cell, int corner, int spacing, float radius) const {
  place(lattice_, cell.start[0] + (corner >> 2) * spacing, cell.start[1] + (corner >> 1 & 1) * spacing,
        cell.start[2] + (corner & 1) * spacing, known.at[known.count]);
  known.radius[known.count++] = radius / factor_;
}

bool Band::keeps_out(const Known& known, const Cell& cell, int spacing) {
  float low[3], high[3];
  place(lattice_, cell.start[0], cell.start[1], cell.start[2], low);
  place(lattice_, cell.start[0] + spacing, cell.start[1] + spacing, cell.start[2] + spacing, high);
  const float left = known.slack(low, high);
  if (!(left > 0.0f)) return false;
  // With bounds greater by a factor, every radius would be smaller by no more than it.
  const float most = *std::max_element(known.radius, known.radius + known.count);
  excluded_.push_back({factor_ * most / std::max(most - left, 1e-20f), cell, spacing});
  return true;
}

// Every sample belongs to the cell that starts nearest before it, so half-open boxes cover the lattice.
void Band::leave_out(FieldBricks& bricks, const Cell& cell, int spacing, const Known& known) {
  BrickVolume& volume = bricks.volume;
  float low[3], high[3];
  if (spacing >= kBrickSide) {
    int64_t end[3];
    for (int a = 0; a < 3; ++a)
      end[a] = std::min<int64_t>((cell.start[a] + spacing) / kBrickSide, volume.bricks[a]);
    for (int32_t i = cell.start[0] / kBrickSide; i < end[0]; ++i) {
      for (int32_t j = cell.start[1] / kBrickSide; j < end[1]; ++j) {
        for (int32_t k = cell.start[2] / kBrickSide; k < end[2]; ++k) {
          const int64_t brick = volume.brick(i, j, k);
          if (volume.table[static_cast<size_t>(brick)] >= 0) continue;  // a neighbour's corners are in it
          volume.table[static_cast<size_t>(brick)] = known.inside ? kBrickInside : kBrickOutside;
          place(lattice_, i * kBrickSide, j * kBrickSide, k * kBrickSide, low);
          place(lattice_, (i + 1) * kBrickSide, (j + 1) * kBrickSide, (k + 1) * kBrickSide, high);
          slack_[static_cast<size_t>(brick)] = known.slack(low, high);
        }
      }
    }
    return;
  }
  const int64_t base = bricks.store(volume.brick(cell.start[0] >> kBrickShift, cell.start[1] >> kBrickShift,
                                                 cell.start[2] >> kBrickShift)) *
                       kBrickSamples;
  for (int32_t i = cell.start[0]; i < cell.start[0] + spacing; ++i) {
    for (int32_t j = cell.start[1]; j < cell.start[1] + spacing; ++j) {
      for (int32_t k = cell.start[2]; k < cell.start[2] + spacing; ++k) {
        place(lattice_, i, j, k, low);
        bricks.fill(base + BrickVolume::within(i, j, k), known.inside ? -1.0f : 1.0f, known.slack(low, low));
      }
    }
  }
}

void Band::evaluate_nodes(FieldBricks& bricks, const std::vector<Cell>& cells, int spacing) {
  std::vector<int64_t> named;
  for (const Cell& cell : cells) {
    for (int c = 0; c < 8; ++c) {
      const int64_t at = node(cell, c, spacing);
      if (nodes_.known[static_cast<size_t>(at)]) continue;
      nodes_.known[static_cast<size_t>(at)] = 1;
      named.push_back(at);
    }
  }
  std::vector<float> points(3 * named.size());
  for (size_t n = 0; n < named.size(); ++n) {
    int64_t rest = named[n];
    for (int a = 2; a >= 0; --a) {
      const int64_t at = rest % nodes_.shape[a] * kBrickSide;
      rest /= nodes_.shape[a];
      const std::vector<float>& axis = lattice_.axis[a];
      points[3 * n + static_cast<size_t>(a)] = axis[std::min(static_cast<size_t>(at), axis.size() - 1)];
    }
  }
  std::vector<FieldBricks::Evaluated> found(named.size());
  bricks.evaluate_points(points.data(), static_cast<int64_t>(named.size()), found.data());
  for (size_t n = 0; n < named.size(); ++n) {
    const auto at = static_cast<size_t>(named[n]);
    nodes_.found[at] = found[n];
  }
}

// Cells down to those of 8 samples; the rest of the way is refine_fine's.
void Band::refine(FieldBricks& bricks, const Waiting& waiting) {
  std::vector<Cell> cells;
  for (int spacing = spacing_;; spacing /= 2) {
    const std::vector<Cell>& more = waiting[level(spacing)];
    cells.insert(cells.end(), more.begin(), more.end());
    evaluate_nodes(bricks, cells, spacing);
    std::vector<Cell> kept;
    for (const Cell& cell : cells) {
      Known known;
      int inside = 0;
      for (int c = 0; c < 8; ++c) {
        const auto at = static_cast<size_t>(node(cell, c, spacing));
        learn(known, cell, c, spacing, nodes_.found[at].radius);
        inside += nodes_.found[at].value < 0.0f;
      }
      known.inside = inside == 8;
      if (inside % 8 != 0 || !keeps_out(known, cell, spacing)) {
        kept.push_back(cell);
      } else {
        leave_out(bricks, cell, spacing, known);
      }
    }
    cells = spacing == kBrickSide ? std::move(kept) : halves(lattice_, kept, spacing);
    if (spacing == kBrickSide) break;
  }
  refine_fine(bricks, std::move(cells), waiting);
}

void Band::refine_fine(FieldBricks& bricks, std::vector<Cell> cells, const Waiting& waiting) {
  const BrickVolume& volume = bricks.volume;
  for (const Cell& cell : cells) {
    // Nodes are samples of the bricks too.
    for (int c = 0; c < 8; ++c) {
      const auto at = static_cast<size_t>(node(cell, c, kBrickSide));
      int32_t p[3];
      for (int a = 0; a < 3; ++a) {
        p[a] = std::min(cell.start[a] + (c >> (2 - a) & 1) * kBrickSide,
                        static_cast<int32_t>(volume.shape[a]) - 1);
      }
      const int64_t stored =
          bricks.store(volume.brick(p[0] >> kBrickShift, p[1] >> kBrickShift, p[2] >> kBrickShift));
      bricks.learn(stored * kBrickSamples + BrickVolume::within(p[0], p[1], p[2]), nodes_.found[at]);
    }
  }
  auto sample = [&](const Cell& cell, int corner, int spacing) {
    int32_t p[3];
    for (int a = 0; a < 3; ++a) {
      p[a] = std::min(cell.start[a] + (corner >> (2 - a) & 1) * spacing,
                      static_cast<int32_t>(volume.shape[a]) - 1);
    }
    const int64_t stored =
        bricks.store(volume.brick(p[0] >> kBrickShift, p[1] >> kBrickShift, p[2] >> kBrickShift));
    return stored * kBrickSamples + BrickVolume::within(p[0], p[1], p[2]);
  };
  for (int spacing = kBrickSide; spacing > 1; spacing /= 2) {
    const int half = spacing / 2;
    std::vector<Cell> kept;
    for (const Cell& cell : cells) {
      for (int child = 0; child < 8; ++child) {
        Cell part = cell;
        bool there = true;
        for (int a = 0; a < 3; ++a) {
          part.start[a] += (child >> (2 - a) & 1) * half;
          there = there && part.start[a] < static_cast<int32_t>(volume.shape[a]);
        }
        if (!there) continue;
        // The corner that it shares with its parent may keep the surface out already.
        const int64_t own = sample(cell, child, spacing);
        Known known;
        learn(known, cell, child, spacing, bricks.radius(own));
        known.inside = bricks.inside(own);
        if (keeps_out(known, part, half)) {
          leave_out(bricks, part, half, known);
          continue;
        }
        kept.push_back(part);
      }
    }
    const std::vector<Cell>& more = waiting[level(half)];
    kept.insert(kept.end(), more.begin(), more.end());
    for (const Cell& cell : kept) {
      for (int c = 0; c < 8; ++c) bricks.queue(sample(cell, c, half));
    }
    bricks.evaluate();
    cells.clear();
    if (half == 1) break;
    for (const Cell& cell : kept) {
      Known known;
      int inside = 0;
      for (int c = 0; c < 8; ++c) {
        const int64_t at = sample(cell, c, half);
        learn(known, cell, c, half, bricks.radius(at));
        inside += bricks.inside(at);
      }
      known.inside = inside == 8;
      if (inside % 8 != 0 || !keeps_out(known, cell, half)) {
        cells.push_back(cell);
      } else {
        leave_out(bricks, cell, half, known);
      }
    }
  }
}

void Band::reopen(FieldBricks& bricks, float factor) {
  factor_ = factor;
  Waiting waiting;
  std::vector<Excluded> left;
  for (const Excluded& cell : excluded_) {
    if (cell.ratio < factor) {
      waiting[level(cell.spacing)].push_back(cell.cell);
    } else {
      left.push_back(cell);
    }
  }
  excluded_ = std::move(left);
  refine(bricks, waiting);
}

// The frame by one try of the bounds.
BrickVolume Band::attempt(const FieldFrames& frame, const SlopeBounds& bounds, BandReport& report) {
  FieldBricks bricks(runner_, frame, lattice_, bounds, nullptr, 0.0f, &slack_);
  excluded_.clear();
  factor_ = 1.0f;
  const BrickVolume& volume = bricks.volume;
  size_t count = 1;
  for (int a = 0; a < 3; ++a) {
    nodes_.shape[a] = volume.bricks[a] + 1;
    count *= static_cast<size_t>(nodes_.shape[a]);
  }
  nodes_.known.assign(count, 0);
  nodes_.found.resize(count);
  slack_.assign(volume.table.size(), 0.0f);
  Waiting waiting;
  for (int32_t i = 0; i < volume.shape[0]; i += spacing_) {
    for (int32_t j = 0; j < volume.shape[1]; j += spacing_) {
      for (int32_t k = 0; k < volume.shape[2]; k += spacing_) waiting[level(spacing_)].push_back({{i, j, k}});
    }
  }
  refine(bricks, waiting);
  for (int t = 1;; ++t) {
    while (bricks.queue_contradictions()) bricks.evaluate();
    report.steepest = bricks.steepest() / factor_;
    // Where no sign was wrong, what was evaluated stays, and so does most of what was left out.
    if (t == kTries || !(report.steepest > 1.0f) || bricks.broken() > 0) break;
    reopen(bricks, kMargin * factor_ * report.steepest);
  }
  report.deformed += bricks.deformed();
  report.evaluated += bricks.evaluated();
  report.broken = bricks.broken();
  return std::move(bricks.volume);
}

BrickVolume Band::run(const FieldFrames& frame, const SlopeBounds& given, BandReport& report) {
  SlopeBounds bounds = given;
  report = {};
  BrickVolume volume = attempt(frame, bounds, report);
  for (int t = 1; t < kTries && (report.steepest > 1.0f || report.broken > 0); ++t) {
    bounds.scale *= factor_ * std::max(kMargin * report.steepest, kBrokenMargin);
    volume = attempt(frame, bounds, report);
  }
  report.uncertified = 8 * report.broken;
  if (report.steepest > 1.0f) {
    for (const Excluded& cell : excluded_) {
      if (cell.ratio < report.steepest * factor_)
        report.uncertified += static_cast<int64_t>(cell.spacing) * cell.spacing * cell.spacing;
    }
  }
  return volume;
}

}  // namespace

BrickVolume field_band(const FieldRunner& runner, const FieldFrames& frame, const Lattice& lattice,
                       const SlopeBounds& bounds, int spacing, BandReport& report) {
  return Band(runner, lattice, spacing).run(frame, bounds, report);
}

}  // namespace facetalk::cpu
