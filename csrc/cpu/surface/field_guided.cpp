#include "cpu/surface/field_guided.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>

#include "core/guided_search.h"
#include "core/offset_probes.h"
#include "cpu/parallel.h"
#include "cpu/surface/offset_lattice.h"

namespace facetalk::cpu {
namespace {

struct Brick {
  int64_t at[3];
  int level = -1;      // lattice that is good enough; -1: none
  float error = 0.0f;  // of its offsets
  int64_t base = 0;    // first sample, once stored
};

class Guide {
 public:
  Guide(const FieldRunner& runner, const FieldFrames& frame, const Lattice& lattice,
        const SlopeBounds& bounds, const CanonicalCache& cache, const GuideOptions& options)
      : lattice_(lattice),
        bounds_(bounds),
        cache_(cache),
        options_(options),
        scratch_(runner, false),
        bricks_(runner, frame, lattice, bounds, options.exact ? nullptr : &cache, options.cache_tolerance) {
    for (int spacing = options.spacing;
         spacing >= GuidedSearch::kFinestSpacing && spacing >= options.spacing / GuidedSearch::kLeastShare;
         spacing /= 2) {
      levels_.push_back(std::make_unique<OffsetLattice>(runner, frame, lattice, spacing, scratch_));
    }
    float square = 0.0f;
    for (int a = 0; a < 3; ++a) {
      const std::vector<float>& axis = lattice.axis[a];
      edge_[a] = (axis.back() - axis.front()) / static_cast<float>(axis.size() - 1);
      square += edge_[a] * edge_[a];
    }
    half_diagonal_ = 0.5f * kBrickSide * std::sqrt(square);
    diagonal_ = std::sqrt(square);
  }

  BrickVolume run(GuideReport& report) {
    std::vector<Brick> near = find_near();
    refine(near);
    for (Brick& brick : near) {
      brick.base = bricks_.store(bricks_.volume.brick(brick.at[0], brick.at[1], brick.at[2])) * kBrickSamples;
    }
    guess(near);
    do {
      bricks_.evaluate();
    } while (bricks_.queue_contradictions());
    report.deformed = bricks_.deformed();
    for (const auto& level : levels_) report.deformed += level->evaluated();
    report.evaluated = bricks_.evaluated();
    report.uncertified = 8 * bricks_.broken();
    report.bricks = static_cast<int64_t>(near.size());
    for (const Brick& brick : near) report.direct += brick.level < 0;
    return std::move(bricks_.volume);
  }

 private:
  void centre(const int64_t at[3], float* out) const {
    for (int a = 0; a < 3; ++a) {
      out[a] = lattice_.axis[a].front() + edge_[a] * (static_cast<float>(at[a] * kBrickSide) + 3.5f);
    }
  }

  // Bricks whose middle is taken to `within` of the surface or less; the others get their sign.
  bool is_near(const float* y, float within, int64_t brick) {
    const float distance = cache_.distance(y);
    if (!(std::fabs(distance) > within)) return true;
    bricks_.volume.table[static_cast<size_t>(brick)] = distance < 0.0f ? kBrickInside : kBrickOutside;
    return false;
  }

  // Bricks that the surface may cross, whose offsets can be interpolated on the coarsest lattice.
  std::vector<Brick> find_near() {
    OffsetLattice& coarse = *levels_[0];
    coarse.need_every(GuidedSearch::kFirstStride);
    coarse.evaluate();
    const BrickVolume& volume = bricks_.volume;
    std::vector<Brick> found;
    for (float longest = GuidedSearch::kLongestMargin * coarse.longest();;) {
      found.clear();
      Brick brick;
      for (brick.at[0] = 0; brick.at[0] < volume.bricks[0]; ++brick.at[0]) {
        for (brick.at[1] = 0; brick.at[1] < volume.bricks[1]; ++brick.at[1]) {
          for (brick.at[2] = 0; brick.at[2] < volume.bricks[2]; ++brick.at[2]) {
            float x[3];
            centre(brick.at, x);
            if (!is_near(x, half_diagonal_ + longest, volume.brick(brick.at[0], brick.at[1], brick.at[2])))
              continue;
            found.push_back(brick);
            coarse.need(brick.at[0], brick.at[1], brick.at[2]);
          }
        }
      }
      coarse.evaluate();
      if (coarse.longest() <= longest) break;
      longest = GuidedSearch::kLongestMargin * coarse.longest();
    }
    return found;
  }

  // Keeps the bricks that the surface may cross as far as interpolated offsets tell, and finds for each the
  // coarsest lattice that is good enough.
  void refine(std::vector<Brick>& near) {
    for (size_t l = 0; l < levels_.size(); ++l) {
      OffsetLattice& level = *levels_[l];
      for (const Brick& brick : near) {
        if (l == 0 || brick.level < 0) level.need(brick.at[0], brick.at[1], brick.at[2]);
      }
      level.evaluate();
      if (l == 0) {
        std::vector<uint8_t> keep(near.size());
        parallel_for(static_cast<int64_t>(near.size()), 16, [&](int64_t begin, int64_t end) {
          for (int64_t b = begin; b < end; ++b)
            keep[static_cast<size_t>(b)] = crosses(near[static_cast<size_t>(b)]);
        });
        size_t kept = 0;
        for (size_t b = 0; b < near.size(); ++b) {
          if (keep[b]) near[kept++] = near[b];
        }
        near.resize(kept);
      }
      for (const Brick& brick : near) {
        if (brick.level < 0) level.probe(brick.at[0], brick.at[1], brick.at[2]);
      }
      level.evaluate_probes();
      for (Brick& brick : near) {
        if (brick.level >= 0) continue;
        brick.error = kProbeMargin * level.error(brick.at[0], brick.at[1], brick.at[2]);
        if (options_.tolerance > 0.0f && brick.error <= options_.tolerance) brick.level = static_cast<int>(l);
      }
      if (finest() == l) break;
    }
  }

  // Whether the brick's middle, moved by its interpolated offset, is near enough to the surface.
  bool crosses(const Brick& brick) {
    float x[3];
    centre(brick.at, x);
    const float stretch = bounds_.stretches.within(x, half_diagonal_, bounds_.stretch);
    float offsets[3 * kBrickSamples];
    levels_[0]->interpolate(brick.at[0], brick.at[1], brick.at[2], offsets);
    for (int c = 0; c < 3; ++c) {
      float sum = 0.0f;  // of the eight samples around the middle
      for (int s = 0; s < 8; ++s) {
        sum += offsets[c * kBrickSamples + BrickVolume::within(3 + (s >> 2), 3 + (s >> 1 & 1), 3 + (s & 1))];
      }
      x[c] += sum / 8.0f;
    }
    // Interpolation errs; a cell's diagonal is far more than it can where it matters.
    const float within = (half_diagonal_ + diagonal_) * stretch;
    return is_near(x, within, bricks_.volume.brick(brick.at[0], brick.at[1], brick.at[2]));
  }

  // Guesses every sample of the bricks; queues those whose sign is in doubt.
  void guess(const std::vector<Brick>& near) {
    constexpr int64_t kGrain = 8;
    const auto n = static_cast<int64_t>(near.size());
    std::vector<std::vector<int64_t>> doubtful(static_cast<size_t>((n + kGrain - 1) / kGrain));
    parallel_for(n, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b)
        guess(near[static_cast<size_t>(b)], doubtful[static_cast<size_t>(begin / kGrain)]);
    });
    for (const std::vector<int64_t>& part : doubtful) {
      for (const int64_t sample : part) bricks_.queue(sample);
    }
  }

  void guess(const Brick& brick, std::vector<int64_t>& doubtful) {
    const bool smooth = brick.level >= 0 && !options_.exact;
    const size_t level = brick.level >= 0 ? static_cast<size_t>(brick.level) : finest();
    float offsets[3 * kBrickSamples];
    levels_[level]->interpolate(brick.at[0], brick.at[1], brick.at[2], offsets);
    const float moved = brick.error;
    float middle[3];
    centre(brick.at, middle);
    // A corner of a cell that the surface cuts is no farther from it.
    const float wide = 1.01f * diagonal_ * bounds_.stretches.within(middle, half_diagonal_, bounds_.stretch);
    float axis[3][kBrickSide];
    for (int a = 0; a < 3; ++a) {
      for (int s = 0; s < kBrickSide; ++s) {
        const auto at = static_cast<size_t>(brick.at[a] * kBrickSide + s);
        axis[a][s] = lattice_.axis[a][std::min(at, lattice_.axis[a].size() - 1)];
      }
    }
    for (int s = 0; s < kBrickSamples; ++s) {
      const float y[3] = {axis[0][s >> (2 * kBrickShift)] + offsets[s],
                          axis[1][s >> kBrickShift & kBrickMask] + offsets[kBrickSamples + s],
                          axis[2][s & kBrickMask] + offsets[2 * kBrickSamples + s]};
      const int64_t sample = brick.base + s;
      const float distance = cache_.distance(y);
      float value = 0.0f;
      float error = 0.0f;
      if (std::fabs(distance) > wide + moved || !cache_value(cache_, y, &value, &error)) {
        // Only the sign, which is enough unless this turns out to be a corner of a cell that the surface
        // cuts.
        const float sure = std::fabs(distance) - moved;
        bricks_.fill(sample, distance, std::max(sure, 0.0f));
        if (!(sure > 0.0f)) doubtful.push_back(sample);
        continue;
      }
      if (smooth && error <= options_.cache_tolerance) {
        bricks_.accept(sample, value);
        continue;
      }
      const float sure =
          (std::fabs(value) - error) / (bounds_.scale * bounds_.slope.at(y, bounds_.everywhere)) - moved;
      bricks_.fill(sample, value, std::max(sure, 0.0f));
      if (!(sure > 0.0f)) doubtful.push_back(sample);
    }
  }

  // Without a tolerance no lattice is good enough, and the coarsest guides as well as any.
  size_t finest() const { return options_.tolerance > 0.0f ? levels_.size() - 1 : 0; }

  const Lattice& lattice_;
  const SlopeBounds bounds_;
  const CanonicalCache& cache_;
  const GuideOptions options_;
  ScratchPool scratch_;
  FieldBricks bricks_;
  std::vector<std::unique_ptr<OffsetLattice>> levels_;  // spacing halves from one to the next
  float edge_[3];
  float half_diagonal_ = 0.0f;
  float diagonal_ = 0.0f;  // of a cell
};

}  // namespace

BrickVolume field_guided(const FieldRunner& runner, const FieldFrames& frame, const Lattice& lattice,
                         const SlopeBounds& bounds, const CanonicalCache& cache, const GuideOptions& options,
                         GuideReport& report) {
  return Guide(runner, frame, lattice, bounds, cache, options).run(report);
}

}  // namespace facetalk::cpu
