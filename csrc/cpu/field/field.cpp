#include "cpu/field/field.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "core/number_text.h"
#include "core/status.h"
#include "core/tensor_view.h"
#include "cpu/field/field_scratch.h"
#include "cpu/parallel.h"
#include "cpu/threads.h"

namespace facetalk::cpu {
namespace {

constexpr int kBrick[3] = {8, 8, 16};  // samples of a lattice that are evaluated together
static_assert(kBrick[0] * kBrick[1] * kBrick[2] <= kFieldBlock);

// Points in a block: full ones where there is work for all threads, smaller ones for short queries.
int64_t block_points(int64_t points, int threads) {
  const int64_t share = points / (4 * threads) / 64 * 64;
  return std::clamp<int64_t>(share, 64, kFieldBlock);
}

}  // namespace

const FieldKernels& field_kernels(SimdLevel level) {
#if defined(__x86_64__)
  if (level == SimdLevel::kAvx512) return kFieldAvx512;
  if (level == SimdLevel::kAvx2) return kFieldAvx2;
#endif
  (void)level;
  return kFieldBaseline;
}

void check_coordinates(const char* argument, const float* values, int64_t n, int columns) {
  for (int64_t i = 0; i < n * columns; ++i) {
    const float value = values[i];
    if (std::fabs(value) <= kMostCoordinate) continue;
    throw ArgumentError(std::string(argument) + "[" + std::to_string(i / columns) + "]",
                        std::isfinite(value) ? "coordinates up to 1e15" : "finite coordinates",
                        number_text(value));
  }
}

void field_query(const FieldRunner& runner, const FieldFrames& frames, const float* points, int64_t n,
                 int coords, const FieldOutputs& outputs) {
  check_coordinates("points", points, n, coords);
  const int threads = cpu::threads();
  const int64_t step = block_points(n * frames.count, threads);
  const int64_t blocks = (n + step - 1) / step;
  const int64_t made = runner.model->deformation.outputs;
  const int64_t tangents = frames.biases ? 3 : coords;
  ScratchPool scratch(runner, outputs.gradient || outputs.jacobian);
  parallel_for(blocks * frames.count, 1, [&](int64_t task, int64_t) {
    const int64_t frame = task / blocks;
    const int64_t start = task % blocks * step;
    const int64_t at = frame * n + start;
    FieldBlock block;
    block.model = runner.model;
    block.frame_bias = frames.biases ? frames.biases + frame * runner.model->deformation.bias_count : nullptr;
    block.smoothing = frames.smoothing;
    block.points = points + start * coords;
    block.coords = coords;
    block.stride = coords;
    block.n = static_cast<int>(std::min(step, n - start));
    block.sdf = outputs.sdf ? outputs.sdf + at : nullptr;
    block.raw_sdf = outputs.raw_sdf ? outputs.raw_sdf + at : nullptr;
    block.gradient = outputs.gradient ? outputs.gradient + at * tangents : nullptr;
    block.offsets = outputs.offsets ? outputs.offsets + at * made : nullptr;
    block.jacobian = outputs.jacobian ? outputs.jacobian + at * made * 3 : nullptr;
    runner.kernels->evaluate(block, ScratchPool::Lease(scratch).get());
  });
}

void field_grid(const FieldRunner& runner, const FieldFrames& frames, const Lattice& lattice,
                float* volumes) {
  int64_t shape[3], bricks[3];
  for (int a = 0; a < 3; ++a) {
    shape[a] = static_cast<int64_t>(lattice.axis[a].size());
    bricks[a] = (shape[a] + kBrick[a] - 1) / kBrick[a];
  }
  const int64_t per_frame = bricks[0] * bricks[1] * bricks[2];
  ScratchPool scratch(runner, false);
  parallel_for(per_frame * frames.count, 1, [&](int64_t task, int64_t) {
    const int64_t frame = task / per_frame;
    int64_t rest = task % per_frame, begin[3], end[3];
    for (int a = 2; a >= 0; --a) {
      begin[a] = rest % bricks[a] * kBrick[a];
      end[a] = std::min(begin[a] + kBrick[a], shape[a]);
      rest /= bricks[a];
    }
    float points[3 * kFieldBlock], values[kFieldBlock];
    int n = 0;
    for (int64_t i = begin[0]; i < end[0]; ++i) {
      for (int64_t j = begin[1]; j < end[1]; ++j) {
        for (int64_t k = begin[2]; k < end[2]; ++k, ++n) {
          points[3 * n] = lattice.axis[0][static_cast<size_t>(i)];
          points[3 * n + 1] = lattice.axis[1][static_cast<size_t>(j)];
          points[3 * n + 2] = lattice.axis[2][static_cast<size_t>(k)];
        }
      }
    }
    FieldBlock block;
    block.model = runner.model;
    block.frame_bias = frames.biases ? frames.biases + frame * runner.model->deformation.bias_count : nullptr;
    block.smoothing = frames.smoothing;
    block.points = points;
    block.n = n;
    block.sdf = values;
    runner.kernels->evaluate(block, ScratchPool::Lease(scratch).get());
    const float* from = values;
    for (int64_t i = begin[0]; i < end[0]; ++i) {
      for (int64_t j = begin[1]; j < end[1]; ++j) {
        const int64_t count = end[2] - begin[2];
        std::copy(from, from + count,
                  volumes + ((frame * shape[0] + i) * shape[1] + j) * shape[2] + begin[2]);
        from += count;
      }
    }
  });
}

}  // namespace facetalk::cpu
