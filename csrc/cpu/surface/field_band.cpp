#include "cpu/surface/field_band.h"

#include <algorithm>
#include <cmath>

namespace facetalk::cpu {
namespace {

constexpr int kTries = 3;
constexpr float kMargin = 1.05f;  // over the slope that broke a bound
constexpr float kBrokenMargin =
    1.25f;  // where a sign was wrong, but no slope between neighbours says by how much

}  // namespace

int64_t FieldBand::node(const Cell& cell, int corner, int spacing) const {
  int64_t index = 0;
  for (int a = 0; a < 3; ++a) {
    const int64_t at = (cell.start[a] + (corner >> (2 - a) & 1) * spacing) / kBrickSide;
    index = index * nodes_.shape[a] + std::min(at, nodes_.shape[a] - 1);
  }
  return index;
}

std::vector<FieldBand::Cell> FieldBand::children(const std::vector<Cell>& cells, int spacing) const {
  std::vector<Cell> finer;
  finer.reserve(8 * cells.size());
  for (const Cell& cell : cells) {
    for (int child = 0; child < 8; ++child) {
      Cell part = cell;
      bool there = true;
      for (int a = 0; a < 3; ++a) {
        part.start[a] += (child >> (2 - a) & 1) * (spacing / 2);
        there = there && part.start[a] < static_cast<int32_t>(lattice_.axis[a].size());
      }
      if (there) finer.push_back(part);
    }
  }
  return finer;
}

void FieldBand::place(int32_t i, int32_t j, int32_t k, float* out) const {
  const int32_t at[3] = {i, j, k};
  for (int a = 0; a < 3; ++a) {
    const std::vector<float>& axis = lattice_.axis[a];
    out[a] = axis[std::min(static_cast<size_t>(at[a]), axis.size() - 1)];
  }
}

float FieldBand::slack(const Known& known, const float low[3], const float high[3]) {
  float best = -3e38f;
  float sums[8] = {};  // of the distances from the box's corners
  float total = 0.0f;
  for (int c = 0; c < known.count; ++c) {
    float farthest = 0.0f;
    for (int p = 0; p < 8; ++p) {
      float square = 0.0f;
      for (int a = 0; a < 3; ++a) {
        const float d = (p >> (2 - a) & 1 ? high[a] : low[a]) - known.at[c][a];
        square += d * d;
      }
      const float distance = std::sqrt(square);
      sums[p] += distance;
      farthest = std::max(farthest, distance);
    }
    best = std::max(best, known.radius[c] - farthest);
    total += known.radius[c];
  }
  // Means of the corners' bounds hold too, and the sum of distances is greatest at a corner of the box.
  return std::max(best, (total - *std::max_element(sums, sums + 8)) / static_cast<float>(known.count));
}

void FieldBand::learn(Known& known, const Cell& cell, int corner, int spacing, float radius) const {
  place(cell.start[0] + (corner >> 2) * spacing, cell.start[1] + (corner >> 1 & 1) * spacing,
        cell.start[2] + (corner & 1) * spacing, known.at[known.count]);
  known.radius[known.count++] = radius;
}

bool FieldBand::keeps_out(const Known& known, const Cell& cell, int spacing) {
  float low[3], high[3];
  place(cell.start[0], cell.start[1], cell.start[2], low);
  place(cell.start[0] + spacing, cell.start[1] + spacing, cell.start[2] + spacing, high);
  const float left = slack(known, low, high);
  if (!(left > 0.0f)) return false;
  // With bounds greater by a factor, every radius would be smaller by it.
  const float most = *std::max_element(known.radius, known.radius + known.count);
  excluded_.push_back(
      {most / std::max(most - left, 1e-20f), static_cast<int64_t>(spacing) * spacing * spacing});
  return true;
}

// Every sample belongs to the cell that starts nearest before it, so half-open boxes cover the lattice.
void FieldBand::leave_out(FieldBricks& bricks, const Cell& cell, int spacing, const Known& known) {
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
          volume.table[static_cast<size_t>(brick)] = known.inside ? kBrickInside : kBrickOutside;
          place(i * kBrickSide, j * kBrickSide, k * kBrickSide, low);
          place((i + 1) * kBrickSide, (j + 1) * kBrickSide, (k + 1) * kBrickSide, high);
          slack_[static_cast<size_t>(brick)] = slack(known, low, high);
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
        place(i, j, k, low);
        bricks.fill(base + BrickVolume::within(i, j, k), known.inside ? -1.0f : 1.0f, slack(known, low, low));
      }
    }
  }
}

void FieldBand::evaluate_nodes(FieldBricks& bricks, const std::vector<Cell>& cells, int spacing) {
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

// Cells of `spacing` >= 8 samples down to 8; the rest of the way is refine_fine's.
void FieldBand::refine_coarse(FieldBricks& bricks, std::vector<Cell> cells, int spacing) {
  for (;; spacing /= 2) {
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
    cells = spacing == kBrickSide ? std::move(kept) : children(kept, spacing);
    if (spacing == kBrickSide) break;
  }
  refine_fine(bricks, std::move(cells));
}

void FieldBand::refine_fine(FieldBricks& bricks, std::vector<Cell> cells) {
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
      bricks.accept(stored * kBrickSamples + BrickVolume::within(p[0], p[1], p[2]), nodes_.found[at]);
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
        for (int c = 0; c < 8; ++c) bricks.queue(sample(part, c, half));
        kept.push_back(part);
      }
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

// What the frame before still says after `motion`: signs where slack remains, samples to evaluate where none
// does. Returns the cells of eight samples that must be looked at from their corners.
std::vector<FieldBand::Cell> FieldBand::roll(FieldBricks& bricks, const Motion& motion) {
  const BrickVolume& before = bricks_->volume;
  std::vector<Cell> open;
  std::vector<int64_t> uncertain;
  const float half_brick = 0.5f * kBrickSide * bricks.cell_diagonal();
  for (int64_t b = 0; b < static_cast<int64_t>(before.table.size()); ++b) {
    const int32_t entry = before.table[static_cast<size_t>(b)];
    if (entry < 0) {
      bricks.volume.table[static_cast<size_t>(b)] = entry;
      Cell cell;
      int64_t rest = b;
      for (int a = 2; a >= 0; --a) {
        cell.start[a] = static_cast<int32_t>(rest % before.bricks[a] * kBrickSide);
        rest /= before.bricks[a];
      }
      // Local bounds hold up to a reach that a brick may be wider than.
      float middle[3];
      place(cell.start[0] + kBrickSide / 2, cell.start[1] + kBrickSide / 2, cell.start[2] + kBrickSide / 2,
            middle);
      slack_[static_cast<size_t>(b)] -= motion.local.within(middle, half_brick, motion.everywhere);
      if (!(slack_[static_cast<size_t>(b)] > 0.0f)) open.push_back(cell);
      continue;
    }
    float radius[kBrickSamples];
    float least = 3e38f;
    int inside = 0;
    for (int64_t p = 0; p < kBrickSamples; ++p) {
      const int64_t from = entry * kBrickSamples + p;
      float x[3];
      bricks_->position(from, x);
      radius[p] = bricks_->radius(from) - motion.local.at(x, motion.everywhere);
      least = std::min(least, radius[p]);
      inside += bricks_->inside(from);
    }
    bricks.volume.table[static_cast<size_t>(b)] = 2 * inside > kBrickSamples ? kBrickInside : kBrickOutside;
    if (inside % kBrickSamples == 0 && least > 0.0f) {
      slack_[static_cast<size_t>(b)] = least;
      continue;
    }
    const int64_t base = bricks.store(b) * kBrickSamples;
    for (int64_t p = 0; p < kBrickSamples; ++p) {
      const bool was_inside = bricks_->inside(entry * kBrickSamples + p);
      bricks.fill(base + p, was_inside ? -1.0f : 1.0f, std::max(radius[p], 0.0f));
      if (!(radius[p] > 0.0f)) uncertain.push_back(base + p);
    }
  }
  for (const int64_t sample : uncertain) bricks.queue(sample);
  bricks.evaluate();
  return open;
}

void FieldBand::attempt(const FieldFrames& frame, const SlopeBounds& bounds, const Motion* motion,
                        BandReport& report) {
  auto bricks = std::make_unique<FieldBricks>(runner_, frame, lattice_, bounds, nullptr, 0.0f, &slack_);
  excluded_.clear();
  const BrickVolume& volume = bricks->volume;
  size_t count = 1;
  for (int a = 0; a < 3; ++a) {
    nodes_.shape[a] = volume.bricks[a] + 1;
    count *= static_cast<size_t>(nodes_.shape[a]);
  }
  nodes_.known.assign(count, 0);
  nodes_.found.resize(count);
  if (bricks_ && motion != nullptr) {
    std::vector<Cell> open = roll(*bricks, *motion);
    refine_coarse(*bricks, std::move(open), kBrickSide);
  } else {
    slack_.assign(volume.table.size(), 0.0f);
    std::vector<Cell> cells;
    for (int32_t i = 0; i < volume.shape[0]; i += spacing_) {
      for (int32_t j = 0; j < volume.shape[1]; j += spacing_) {
        for (int32_t k = 0; k < volume.shape[2]; k += spacing_) cells.push_back({{i, j, k}});
      }
    }
    refine_coarse(*bricks, std::move(cells), spacing_);
  }
  while (bricks->queue_contradictions()) bricks->evaluate();
  report.deformed += bricks->deformed();
  report.evaluated += bricks->evaluated();
  report.broken = bricks->broken();
  report.steepest = bricks->steepest();
  bricks_ = std::move(bricks);
}

BrickVolume FieldBand::frame(const FieldFrames& frame, const SlopeBounds& given, const Motion* motion,
                             BandReport& report) {
  SlopeBounds bounds = given;
  report = {};
  attempt(frame, bounds, motion, report);
  for (int t = 1; t < kTries && (report.steepest > 1.0f || report.broken > 0); ++t) {
    bounds.scale *= std::max(kMargin * report.steepest, kBrokenMargin);
    attempt(frame, bounds, nullptr, report);
  }
  report.uncertified = 8 * report.broken;
  if (report.steepest > 1.0f) {
    for (const Excluded& cells : excluded_) {
      if (cells.ratio < report.steepest) report.uncertified += cells.cells;
    }
  }
  // The frame after starts from this one, so the caller gets a copy.
  return bricks_->volume;
}

}  // namespace facetalk::cpu
