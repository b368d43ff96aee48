// The narrow band of a lattice around a surface, found by refining a coarse lattice (see field.h).
//
// Two things keep a short cut from becoming a hole. Cells are only left out when their values, free of NPHM's
// far-away shrinkage, are farther from zero than the cell is wide; and wherever an evaluated sample
// contradicts the sign that a neighbour was filled with, the neighbour is evaluated too, again and again
// until every cell with a change of sign is made of evaluated samples. So a surface that the band touches
// anywhere is followed to its end.
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "cpu/field.h"
#include "cpu/field_scratch.h"
#include "cpu/threads.h"

namespace facetalk::cpu {
namespace {

enum : uint8_t { kUnknown = 0, kFilled = 1, kEvaluated = 2, kQueued = 3 };

struct Cell {
  int32_t start[3];
};

class Band {
 public:
  Band(const FieldRunner& runner, const FieldFrames& frame, const Lattice& lattice, float* volume)
      : runner_(runner),
        frame_(frame),
        lattice_(lattice),
        volume_(volume),
        threads_(cpu::threads()),
        scratch_(runner, threads_, false),
        state_(static_cast<size_t>(lattice.size()), kUnknown),
        // Only read where written.
        raw_(static_cast<float*>(::operator new(sizeof(float) * static_cast<size_t>(lattice.size())))) {
    for (int a = 0; a < 3; ++a) shape_[a] = static_cast<int32_t>(lattice.axis[a].size());
  }

  int64_t run(int spacing, float lipschitz) {
    if (shape_[0] < 2 || shape_[1] < 2 || shape_[2] < 2) {
      for (int64_t i = 0; i < lattice_.size(); ++i) queue(i);
      evaluate_queue();
      return evaluated_;
    }
    std::vector<Cell> cells;
    for (int32_t i = 0; i < shape_[0] - 1; i += spacing) {
      for (int32_t j = 0; j < shape_[1] - 1; j += spacing) {
        for (int32_t k = 0; k < shape_[2] - 1; k += spacing) cells.push_back({{i, j, k}});
      }
    }
    for (int32_t s = spacing;; s /= 2) {
      for (const Cell& cell : cells) queue_corners(cell, s);
      evaluate_queue();
      if (s == 1) break;
      std::vector<Cell> finer;
      for (const Cell& cell : cells) {
        if (!keep(cell, s, lipschitz)) continue;
        for (int child = 0; child < 8; ++child) {
          Cell part = cell;
          bool inside = true;
          for (int a = 0; a < 3; ++a) {
            part.start[a] += (child >> a & 1) * (s / 2);
            inside = inside && part.start[a] < shape_[a] - 1;
          }
          if (inside) finer.push_back(part);
        }
      }
      cells.swap(finer);
    }
    while (queue_contradictions()) evaluate_queue();
    return evaluated_;
  }

 private:
  struct Release {
    void operator()(float* p) const { ::operator delete(p); }
  };

  int64_t index(int32_t i, int32_t j, int32_t k) const {
    return (static_cast<int64_t>(i) * shape_[1] + j) * shape_[2] + k;
  }

  void queue(int64_t sample) {
    uint8_t& state = state_[static_cast<size_t>(sample)];
    if (state >= kEvaluated) return;
    state = kQueued;
    queue_.push_back(sample);
  }

  // The eight corners of a cell of spacing s; cells at the far border are cut off there.
  void corners(const Cell& cell, int32_t s, int64_t* out) const {
    for (int c = 0; c < 8; ++c) {
      int32_t p[3];
      for (int a = 0; a < 3; ++a) p[a] = std::min(cell.start[a] + (c >> a & 1) * s, shape_[a] - 1);
      out[c] = index(p[0], p[1], p[2]);
    }
  }

  void queue_corners(const Cell& cell, int32_t s) {
    int64_t at[8];
    corners(cell, s, at);
    for (int64_t sample : at) queue(sample);
  }

  void evaluate_queue() {
    const int64_t n = static_cast<int64_t>(queue_.size());
    const int64_t step = std::clamp<int64_t>(n / (4 * threads_) / 64 * 64, 64, kFieldBlock);
#pragma omp parallel for num_threads(threads_) schedule(dynamic, 1)
    for (int64_t start = 0; start < n; start += step) {
      const int count = static_cast<int>(std::min(step, n - start));
      float points[3 * kFieldBlock], sdf[kFieldBlock], raw[kFieldBlock];
      for (int i = 0; i < count; ++i) {
        int64_t sample = queue_[static_cast<size_t>(start + i)];
        for (int a = 2; a >= 0; --a) {
          points[3 * i + a] = lattice_.axis[a][static_cast<size_t>(sample % shape_[a])];
          sample /= shape_[a];
        }
      }
      FieldBlock block;
      block.model = runner_.model;
      block.frame_bias = frame_.biases;
      block.smoothing = frame_.smoothing;
      block.points = points;
      block.n = count;
      block.sdf = sdf;
      block.raw_sdf = raw;
      runner_.kernels->evaluate(block, scratch_.of(omp_get_thread_num()));
      for (int i = 0; i < count; ++i) {
        const int64_t sample = queue_[static_cast<size_t>(start + i)];
        volume_[sample] = sdf[i];
        raw_.get()[sample] = raw[i];
        state_[static_cast<size_t>(sample)] = kEvaluated;
      }
    }
    evaluated_ += n;
    queue_.clear();
  }

  // Whether a cell may hold the surface; if not, its samples are filled.
  bool keep(const Cell& cell, int32_t s, float lipschitz) {
    int64_t at[8];
    corners(cell, s, at);
    float sum = 0.0f;
    int inside = 0;
    for (int64_t sample : at) {
      sum += std::fabs(raw_.get()[sample]);
      inside += volume_[sample] < 0.0f;
    }
    if (inside != 0 && inside != 8) return true;
    float edge[3];
    int32_t end[3];
    for (int a = 0; a < 3; ++a) {
      end[a] = std::min(cell.start[a] + s, shape_[a] - 1);
      edge[a] = lattice_.axis[a][static_cast<size_t>(end[a])] -
                lattice_.axis[a][static_cast<size_t>(cell.start[a])];
    }
    // A point's mean distance to the corners is convex, so its maximum over the cell is at a corner.
    float reach = 0.0f;
    for (int c = 0; c < 8; ++c) {
      float d = 0.0f;
      for (int a = 0; a < 3; ++a) d += (c >> a & 1) * edge[a] * edge[a];
      reach += std::sqrt(d);
    }
    if (!(sum > lipschitz * reach)) return true;
    const float fill = inside ? -sum / 8 : sum / 8;
    for (int32_t i = cell.start[0]; i <= end[0]; ++i) {
      for (int32_t j = cell.start[1]; j <= end[1]; ++j) {
        for (int32_t k = cell.start[2]; k <= end[2]; ++k) {
          const int64_t sample = index(i, j, k);
          uint8_t& state = state_[static_cast<size_t>(sample)];
          if (state >= kEvaluated) continue;
          state = kFilled;
          volume_[sample] = fill;
        }
      }
    }
    return false;
  }

  // Queues the filled corners of every cell whose corners differ in sign; false when there are none.
  bool queue_contradictions() {
    std::vector<std::vector<int64_t>> found(static_cast<size_t>(shape_[0]));
#pragma omp parallel for num_threads(threads_) schedule(dynamic, 4)
    for (int32_t i = 0; i < shape_[0] - 1; ++i) {
      for (int32_t j = 0; j < shape_[1] - 1; ++j) {
        const int64_t row[4] = {index(i, j, 0), index(i, j + 1, 0), index(i + 1, j, 0),
                                index(i + 1, j + 1, 0)};
        int before = 0;
        for (int32_t k = 0; k < shape_[2]; ++k) {
          int inside = 0;
          for (int64_t r : row) inside += volume_[r + k] < 0.0f;
          const int both = before + inside;
          before = inside;
          if (k == 0 || both == 0 || both == 8) continue;
          for (int64_t r : row) {
            for (int32_t z : {k - 1, k}) {
              if (state_[static_cast<size_t>(r + z)] == kFilled)
                found[static_cast<size_t>(i)].push_back(r + z);
            }
          }
        }
      }
    }
    for (const std::vector<int64_t>& slab : found) {
      for (int64_t sample : slab) queue(sample);
    }
    return !queue_.empty();
  }

  const FieldRunner& runner_;
  const FieldFrames& frame_;
  const Lattice& lattice_;
  float* volume_;
  int threads_;
  FieldScratch scratch_;
  std::vector<uint8_t> state_;
  std::unique_ptr<float, Release> raw_;
  std::vector<int64_t> queue_;
  int32_t shape_[3];
  int64_t evaluated_ = 0;
};

}  // namespace

int64_t field_band(const FieldRunner& runner, const FieldFrames& frame, const Lattice& lattice, int spacing,
                   float lipschitz, float* volume) {
  return Band(runner, frame, lattice, volume).run(spacing, lipschitz);
}

}  // namespace facetalk::cpu
