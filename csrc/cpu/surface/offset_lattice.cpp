#include "cpu/surface/offset_lattice.h"

#include <algorithm>
#include <cmath>

#include "core/cubic.h"
#include "cpu/parallel.h"
#include "cpu/threads.h"

namespace facetalk::cpu {
namespace {

constexpr int kMostNodes = 5;  // along an axis of a brick's window: 4 for a cell, one more for half cells

}  // namespace

void evaluate_offsets(const FieldRunner& runner, const FieldFrames& frame, ScratchPool& pool,
                      const float* points, int64_t n, float* offsets) {
  const int64_t grain = std::clamp<int64_t>(n / (4 * threads()) / 64 * 64, 64, kFieldBlock);
  parallel_for(n, grain, [&](int64_t begin, int64_t end) {
    const ScratchPool::Lease scratch(pool);
    FieldBlock block;
    block.model = runner.model;
    block.frame_bias = frame.biases;
    block.smoothing = frame.smoothing;
    block.points = points + 3 * begin;
    block.n = static_cast<int>(end - begin);
    block.offsets = offsets + 3 * begin;
    runner.kernels->evaluate(block, scratch.get());
  });
}

OffsetLattice::OffsetLattice(const FieldRunner& runner, const FieldFrames& frame, const Lattice& lattice,
                             int spacing, ScratchPool& scratch)
    : runner_(runner), frame_(frame), scratch_(scratch), spacing_(spacing) {
  size_t size = 1;
  for (int a = 0; a < 3; ++a) {
    const std::vector<float>& axis = lattice.axis[a];
    const auto samples = static_cast<int64_t>(axis.size());
    const double sample = samples < 2
                              ? 1.0
                              : (static_cast<double>(axis.back()) - static_cast<double>(axis.front())) /
                                    static_cast<double>(samples - 1);
    step_[a] = sample * spacing;
    origin_[a] = static_cast<double>(axis.front()) - step_[a];
    // Bricks at the border are interpolated whole.
    const int64_t padded = (samples + kBrickMask) / kBrickSide * kBrickSide;
    shape_[a] = (padded - 1) / spacing + 4;
    size *= static_cast<size_t>(shape_[a]);
  }
  known_.assign(size, 0);
  offset_.resize(3 * size);
  error_.assign(size, -1.0f);
}

OffsetLattice::Window OffsetLattice::window(int64_t bi, int64_t bj, int64_t bk) const {
  const int64_t brick[3] = {bi, bj, bk};
  Window w;
  for (int a = 0; a < 3; ++a) {
    w.first[a] = brick[a] * kBrickSide / spacing_;
    w.count[a] = spacing_ < kBrickSide ? 3 + kBrickSide / spacing_ : 4;
  }
  return w;
}

void OffsetLattice::name(int64_t node) {
  uint8_t& known = known_[static_cast<size_t>(node)];
  if (known) return;
  known = 1;
  queue_.push_back(node);
}

void OffsetLattice::need(int64_t bi, int64_t bj, int64_t bk) {
  const Window w = window(bi, bj, bk);
  for (int i = 0; i < w.count[0]; ++i) {
    for (int j = 0; j < w.count[1]; ++j) {
      for (int k = 0; k < w.count[2]; ++k) name(index(w.first[0] + i, w.first[1] + j, w.first[2] + k));
    }
  }
}

void OffsetLattice::need_every(int stride) {
  for (int64_t i = 1; i < shape_[0]; i += stride) {
    for (int64_t j = 1; j < shape_[1]; j += stride) {
      for (int64_t k = 1; k < shape_[2]; k += stride) name(index(i, j, k));
    }
  }
}

void OffsetLattice::evaluate() {
  const size_t n = queue_.size();
  std::vector<float> points(3 * n), offsets(3 * n);
  for (size_t q = 0; q < n; ++q) {
    int64_t rest = queue_[q];
    for (int a = 2; a >= 0; --a) {
      points[3 * q + static_cast<size_t>(a)] =
          static_cast<float>(origin_[a] + step_[a] * static_cast<double>(rest % shape_[a]));
      rest /= shape_[a];
    }
  }
  evaluate_offsets(runner_, frame_, scratch_, points.data(), static_cast<int64_t>(n), offsets.data());
  const size_t size = known_.size();
  for (size_t q = 0; q < n; ++q) {
    float square = 0.0f;
    for (size_t c = 0; c < 3; ++c) {
      const float d = offsets[3 * q + c];
      offset_[c * size + static_cast<size_t>(queue_[q])] = d;
      square += d * d;
    }
    longest_ = std::max(longest_, std::sqrt(square));
  }
  evaluated_ += static_cast<int64_t>(n);
  queue_.clear();
}

// One of the eight half-size cells of a brick is probed, another one in each neighbour.
int64_t OffsetLattice::probed(int64_t bi, int64_t bj, int64_t bk) const {
  const Window w = window(bi, bj, bk);
  return index(w.first[0] + (bj + bk) % (w.count[0] - 3), w.first[1] + (bi + bk) % (w.count[1] - 3),
               w.first[2] + (bi + bj) % (w.count[2] - 3));
}

void OffsetLattice::probe(int64_t bi, int64_t bj, int64_t bk) {
  const int64_t cell = probed(bi, bj, bk);
  float& error = error_[static_cast<size_t>(cell)];
  if (error >= 0.0f) return;
  error = 0.0f;
  probes_.push_back(cell);
}

void OffsetLattice::evaluate_probes() {
  const size_t n = probes_.size();
  std::vector<float> points(3 * n), offsets(3 * n);
  for (size_t q = 0; q < n; ++q) {
    int64_t rest = probes_[q];
    for (int a = 2; a >= 0; --a) {
      // Cell c lies between nodes c + 1 and c + 2.
      points[3 * q + static_cast<size_t>(a)] =
          static_cast<float>(origin_[a] + step_[a] * (static_cast<double>(rest % shape_[a]) + 1.5));
      rest /= shape_[a];
    }
  }
  evaluate_offsets(runner_, frame_, scratch_, points.data(), static_cast<int64_t>(n), offsets.data());
  float w[4];
  cubic_weights(0.5f, w);
  for (size_t q = 0; q < n; ++q) {
    float square = 0.0f;
    for (size_t c = 0; c < 3; ++c) {
      const float* from = offset_.data() + c * known_.size() + static_cast<size_t>(probes_[q]);
      float sum = 0.0f;
      for (int i = 0; i < 4; ++i) {
        for (int j = 0; j < 4; ++j) {
          const float* row = from + index(i, j, 0);
          sum += w[i] * w[j] * (w[0] * row[0] + w[1] * row[1] + w[2] * row[2] + w[3] * row[3]);
        }
      }
      const float d = sum - offsets[3 * q + c];
      square += d * d;
    }
    error_[static_cast<size_t>(probes_[q])] = std::sqrt(square);
  }
  evaluated_ += static_cast<int64_t>(n);
  probes_.clear();
}

float OffsetLattice::error(int64_t bi, int64_t bj, int64_t bk) const {
  float most = 0.0f;
  for (int n = 0; n < 27; ++n) {
    const int64_t i = bi + n / 9 - 1;
    const int64_t j = bj + n / 3 % 3 - 1;
    const int64_t k = bk + n % 3 - 1;
    if (i < 0 || j < 0 || k < 0) continue;
    const Window w = window(i, j, k);
    bool there = true;
    for (int a = 0; a < 3; ++a) there = there && w.first[a] + w.count[a] <= shape_[a];
    if (there) most = std::max(most, error_[static_cast<size_t>(probed(i, j, k))]);
  }
  return most;
}

void OffsetLattice::interpolate(int64_t bi, int64_t bj, int64_t bk, float* out) const {
  const Window w = window(bi, bj, bk);
  const int64_t brick[3] = {bi, bj, bk};
  float weight[3][kBrickSide][kMostNodes] = {};
  for (int a = 0; a < 3; ++a) {
    for (int s = 0; s < kBrickSide; ++s) {
      const int64_t sample = brick[a] * kBrickSide + s;
      const int64_t cell = sample / spacing_ - w.first[a];
      cubic_weights(static_cast<float>(sample % spacing_) / static_cast<float>(spacing_),
                    weight[a][s] + cell);
    }
  }
  float z_weight[kMostNodes][kBrickSide];
  for (int n = 0; n < kMostNodes; ++n) {
    for (int s = 0; s < kBrickSide; ++s) z_weight[n][s] = weight[2][s][n];
  }
  for (int c = 0; c < 3; ++c) {
    const float* from = offset_.data() + static_cast<size_t>(c) * known_.size();
    float first[kMostNodes][kMostNodes][kBrickSide] = {};
    for (int i = 0; i < w.count[0]; ++i) {
      for (int j = 0; j < w.count[1]; ++j) {
        const float* row = from + index(w.first[0] + i, w.first[1] + j, w.first[2]);
        for (int n = 0; n < w.count[2]; ++n) {
          for (int k = 0; k < kBrickSide; ++k) first[i][j][k] += row[n] * z_weight[n][k];
        }
      }
    }
    float second[kMostNodes][kBrickSide][kBrickSide] = {};
    for (int i = 0; i < w.count[0]; ++i) {
      for (int j = 0; j < kBrickSide; ++j) {
        for (int n = 0; n < w.count[1]; ++n) {
          for (int k = 0; k < kBrickSide; ++k) second[i][j][k] += weight[1][j][n] * first[i][n][k];
        }
      }
    }
    float* to = out + c * kBrickSamples;
    for (int i = 0; i < kBrickSide; ++i) {
      for (int p = 0; p < kBrickSide * kBrickSide; ++p) {
        float sum = 0.0f;
        for (int n = 0; n < kMostNodes; ++n)
          sum += weight[0][i][n] * second[n][p >> kBrickShift][p & kBrickMask];
        to[i * kBrickSide * kBrickSide + p] = sum;
      }
    }
  }
}

}  // namespace facetalk::cpu
