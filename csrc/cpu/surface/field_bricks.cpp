#include "cpu/surface/field_bricks.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "cpu/parallel.h"
#include "cpu/threads.h"

namespace facetalk::cpu {

FieldBricks::FieldBricks(const FieldRunner& runner, const FieldFrames& frame, const Lattice& lattice,
                         const SlopeBounds& bounds, const CanonicalCache* cache, float cache_tolerance,
                         const std::vector<float>* slack)
    : volume(static_cast<int64_t>(lattice.axis[0].size()), static_cast<int64_t>(lattice.axis[1].size()),
             static_cast<int64_t>(lattice.axis[2].size())),
      runner_(runner),
      frame_(frame),
      lattice_(lattice),
      bounds_(bounds),
      cache_(cache),
      cache_tolerance_(cache_tolerance),
      slack_(slack),
      scratch_(runner, false) {}

int64_t FieldBricks::store(int64_t brick) {
  int32_t& entry = volume.table[static_cast<size_t>(brick)];
  if (entry >= 0) return entry;
  const float sign = entry == kBrickInside ? -1.0f : 1.0f;
  const auto stored = static_cast<int32_t>(where_.size());
  entry = stored;
  where_.push_back(brick);
  const size_t size = where_.size() * kBrickSamples;
  volume.samples.resize(size, sign);
  state_.resize(size, kFilled);
  radius_.resize(size, slack_ ? (*slack_)[static_cast<size_t>(brick)] : 0.0f);
  slope_.resize(size, 0.0f);
  measure_.resize(size, 0.0f);
  changed_.push_back(stored);
  return stored;
}

void FieldBricks::queue(int32_t i, int32_t j, int32_t k) {
  const int64_t brick = volume.brick(i >> kBrickShift, j >> kBrickShift, k >> kBrickShift);
  queue(store(brick) * kBrickSamples + BrickVolume::within(i, j, k));
}

void FieldBricks::position(int64_t sample, float* out) const {
  int64_t brick = where_[static_cast<size_t>(sample / kBrickSamples)];
  const auto within = static_cast<int>(sample % kBrickSamples);
  for (int a = 2; a >= 0; --a) {
    const int64_t at =
        brick % volume.bricks[a] * kBrickSide + (within >> ((2 - a) * kBrickShift) & kBrickMask);
    brick /= volume.bricks[a];
    // Bricks at the far border reach beyond the lattice.
    out[a] = lattice_.axis[a][static_cast<size_t>(std::min(at, volume.shape[a] - 1))];
  }
}

void FieldBricks::evaluate_points(const float* points, int64_t n, Evaluated* out) {
  const int64_t grain = std::clamp<int64_t>(n / (4 * threads()) / 64 * 64, 64, kFieldBlock);
  std::atomic<int64_t> by_network{0};
  const float diagonal = cell_diagonal();
  parallel_for(n, grain, [&](int64_t begin, int64_t end) {
    const ScratchPool::Lease scratch(scratch_);
    float sdf[kFieldBlock];
    float raw[kFieldBlock];
    float offsets[kMaxFieldCoords * kFieldBlock];
    float rest[3 * kFieldBlock];
    int rest_at[kFieldBlock];
    const int made = runner_.model->deformation.outputs;
    const auto count = static_cast<int>(end - begin);
    FieldBlock block;
    block.model = runner_.model;
    block.frame_bias = frame_.biases;
    block.smoothing = frame_.smoothing;
    block.points = points + 3 * begin;
    block.n = count;
    block.offsets = frame_.biases ? offsets : nullptr;
    block.sdf = cache_ ? nullptr : sdf;
    block.raw_sdf = cache_ ? nullptr : raw;
    if (!cache_ || frame_.biases) runner_.kernels->evaluate(block, scratch.get());
    int left = 0;
    for (int i = 0; i < count; ++i) {
      float* y = out[begin + i].canonical;
      for (int c = 0; c < 3; ++c)
        y[c] = points[3 * (begin + i) + c] + (frame_.biases ? offsets[i * made + c] : 0.0f);
      if (!cache_) continue;
      float error;
      const bool cached = cache_value(*cache_, y, sdf + i, &error);
      if (cached && error <= cache_tolerance_) {
        raw[i] = sdf[i];
        continue;
      }
      raw[i] = sdf[i] = cache_->distance(y);
      // Too near for a bound: this could be a corner of a cell that the surface cuts.
      const float stretch = bounds_.stretches.within(points + 3 * (begin + i), diagonal, bounds_.stretch);
      if (std::fabs(sdf[i]) > 1.01f * diagonal * stretch) continue;
      std::copy(y, y + 3, rest + 3 * left);
      rest_at[left++] = i;
    }
    if (left > 0) {
      float rest_sdf[kFieldBlock];
      float rest_raw[kFieldBlock];
      block.frame_bias = nullptr;  // they are deformed already
      block.smoothing = nullptr;
      block.points = rest;
      block.n = left;
      block.offsets = nullptr;
      block.sdf = rest_sdf;
      block.raw_sdf = rest_raw;
      runner_.kernels->evaluate(block, scratch.get());
      for (int i = 0; i < left; ++i) {
        sdf[rest_at[i]] = rest_sdf[i];
        raw[rest_at[i]] = rest_raw[i];
      }
      by_network += left;
    }
    for (int i = 0; i < count; ++i) {
      Evaluated& e = out[begin + i];
      e.value = sdf[i];
      const float* x = points + 3 * (begin + i);
      e.slope = bounds_.at(x, e.canonical);
      e.measure = bounds_.raw ? raw[i] : sdf[i];
      e.radius = bounds_.radius(e.measure, x, e.canonical);
      if (cache_) {
        const float distance = std::fabs(cache_->distance(e.canonical));
        e.radius = std::max(e.radius, bounds_.stretches.radius(x, distance, bounds_.stretch));
      }
    }
  });
  deformed_ += frame_.biases ? n : 0;
  evaluated_ += cache_ ? by_network.load() : n;
}

void FieldBricks::evaluate() {
  constexpr size_t kAtOnce = size_t{1} << 16;  // bounds the memory of a wave
  std::vector<float> points;
  std::vector<Evaluated> found;
  for (size_t begin = 0; begin < queue_.size(); begin += kAtOnce) {
    const size_t n = std::min(kAtOnce, queue_.size() - begin);
    points.resize(3 * n);
    found.resize(n);
    for (size_t q = 0; q < n; ++q) position(queue_[begin + q], points.data() + 3 * q);
    evaluate_points(points.data(), static_cast<int64_t>(n), found.data());
    for (size_t q = 0; q < n; ++q) learn(queue_[begin + q], found[q]);
  }
  queue_.clear();
}

void FieldBricks::learn(int64_t sample, const Evaluated& found) {
  const auto at = static_cast<size_t>(sample);
  broken_ += radius_[at] > 0.0f && (volume.samples[at] < 0.0f) != (found.value < 0.0f);
  accept(sample, found);
  const int64_t stored = sample / kBrickSamples;
  if (changed_.empty() || changed_.back() != stored) changed_.push_back(stored);
}

bool FieldBricks::queue_contradictions() {
  // A cell belongs to the brick of its lowest corner, so bricks before a changed one are looked at too.
  std::vector<int64_t> look;
  for (const int64_t stored : changed_) {
    int64_t at[3];
    int64_t rest = where_[static_cast<size_t>(stored)];
    for (int a = 2; a >= 0; --a) {
      at[a] = rest % volume.bricks[a];
      rest /= volume.bricks[a];
    }
    for (int d = 0; d < 8; ++d) {
      const int64_t i = at[0] - (d >> 2 & 1), j = at[1] - (d >> 1 & 1), k = at[2] - (d & 1);
      if (i >= 0 && j >= 0 && k >= 0) look.push_back(volume.brick(i, j, k));
    }
  }
  changed_.clear();
  std::sort(look.begin(), look.end());
  look.erase(std::unique(look.begin(), look.end()), look.end());
  constexpr int64_t kGrain = 16;
  const auto n = static_cast<int64_t>(look.size());
  std::vector<std::vector<Index>> found(static_cast<size_t>((n + kGrain - 1) / kGrain));
  parallel_for(n, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      contradictions(look[static_cast<size_t>(b)], found[static_cast<size_t>(begin / kGrain)]);
    }
  });
  for (const std::vector<Index>& part : found) {
    for (const Index& at : part) queue(at.i, at.j, at.k);
  }
  return !queue_.empty();
}

void FieldBricks::contradictions(int64_t brick, std::vector<Index>& found) const {
  constexpr int kSide = kBrickSide + 1;
  constexpr uint8_t kInside = 1, kKnown = 2;
  uint8_t flags[kSide][kSide][kSide];
  int64_t first[3], end[3];
  int64_t rest = brick;
  for (int a = 2; a >= 0; --a) {
    first[a] = rest % volume.bricks[a] * kBrickSide;
    rest /= volume.bricks[a];
    end[a] = std::min<int64_t>(kSide, volume.shape[a] - first[a]);
  }
  uint8_t any = 0, all = kInside | kKnown;
  for (int i = 0; i < end[0]; ++i) {
    for (int j = 0; j < end[1]; ++j) {
      for (int k = 0; k < end[2]; k += kBrickSide) {  // a row of eight, then the one behind it
        const int64_t other = volume.brick((first[0] + i) >> kBrickShift, (first[1] + j) >> kBrickShift,
                                           (first[2] + k) >> kBrickShift);
        const int32_t entry = volume.table[static_cast<size_t>(other)];
        const int64_t count = std::min<int64_t>(k == 0 ? kBrickSide : 1, end[2] - k);
        for (int64_t z = 0; z < count; ++z) {
          uint8_t flag = entry == kBrickInside ? kInside : 0;
          if (entry >= 0) {
            const auto at = static_cast<size_t>(entry * kBrickSamples +
                                                BrickVolume::within(first[0] + i, first[1] + j, z));
            flag = static_cast<uint8_t>((volume.samples[at] < 0.0f ? kInside : 0) |
                                        (state_[at] == kEvaluated ? kKnown : 0));
          }
          flags[i][j][k + z] = flag;
          any |= flag;
          all &= flag;
        }
      }
    }
  }
  if (!(any & kInside) || (all & kInside) || (all & kKnown)) return;
  for (int i = 0; i + 1 < end[0]; ++i) {
    for (int j = 0; j + 1 < end[1]; ++j) {
      for (int k = 0; k + 1 < end[2]; ++k) {
        uint8_t either = 0, both = kInside | kKnown;
        for (int c = 0; c < 8; ++c) {
          const uint8_t flag = flags[i + (c >> 2)][j + (c >> 1 & 1)][k + (c & 1)];
          either |= flag;
          both &= flag;
        }
        if (!(either & kInside) || (both & kInside) || (both & kKnown)) continue;
        for (int c = 0; c < 8; ++c) {
          const int at[3] = {i + (c >> 2), j + (c >> 1 & 1), k + (c & 1)};
          if (flags[at[0]][at[1]][at[2]] & kKnown) continue;
          found.push_back({static_cast<int32_t>(first[0] + at[0]), static_cast<int32_t>(first[1] + at[1]),
                           static_cast<int32_t>(first[2] + at[2])});
        }
      }
    }
  }
}

float FieldBricks::cell_diagonal() const {
  float sum = 0.0f;
  for (const std::vector<float>& axis : lattice_.axis) {
    if (axis.size() < 2) continue;
    const float edge = (axis.back() - axis.front()) / static_cast<float>(axis.size() - 1);
    sum += edge * edge;
  }
  return std::sqrt(sum);
}

float FieldBricks::steepest() const {
  float edge[3];
  for (int a = 0; a < 3; ++a) {
    const std::vector<float>& axis = lattice_.axis[a];
    edge[a] = axis.size() < 2 ? 1.0f : (axis.back() - axis.front()) / static_cast<float>(axis.size() - 1);
  }
  const auto n = static_cast<int64_t>(where_.size());
  std::vector<float> most(static_cast<size_t>(n), 0.0f);
  parallel_for(n, 16, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const size_t base = static_cast<size_t>(b) * kBrickSamples;
      for (int s = 0; s < kBrickSamples; ++s) {
        if (slope_[base + static_cast<size_t>(s)] <= 0.0f) continue;
        for (int a = 0; a < 3; ++a) {
          const int step = 1 << ((2 - a) * kBrickShift);
          if ((s >> ((2 - a) * kBrickShift) & kBrickMask) == kBrickMask) continue;
          const size_t here = base + static_cast<size_t>(s), there = here + static_cast<size_t>(step);
          if (slope_[there] <= 0.0f) continue;
          const float slope = std::max(slope_[here], slope_[there]);
          const float rise = std::fabs(measure_[here] - measure_[there]);
          most[static_cast<size_t>(b)] = std::max(most[static_cast<size_t>(b)], rise / (edge[a] * slope));
        }
      }
    }
  });
  return most.empty() ? 0.0f : *std::max_element(most.begin(), most.end());
}

}  // namespace facetalk::cpu
