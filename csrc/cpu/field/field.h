// Evaluating a bound field on the CPU: points, lattices, the band around a surface, and inverses of a
// deformation.
//
// Work is split into blocks of points that threads take in any order; a point's result depends on that point
// alone, so results are the same to the last bit for any number of threads, any grouping of points, and any
// of these functions.
#pragma once

#include <cstdint>
#include <vector>

#include "core/cpu_features.h"
#include "core/field.h"
#include "cpu/field/field_kernels.h"

namespace facetalk::cpu {

const FieldKernels& field_kernels(SimdLevel level);

// A bound field together with the kernels that its weights were packed for.
struct FieldRunner {
  const FieldModel* model;
  const FieldKernels* kernels;
};

// The frames that a call evaluates: `count` rows of deformation biases, or one canonical frame when biases is
// null.
struct FieldFrames {
  const float* biases = nullptr;
  int64_t count = 1;
  const FieldSmoothing* smoothing = nullptr;
};

struct FieldOutputs {
  float* sdf = nullptr;       // (frames, n)
  float* raw_sdf = nullptr;   // (frames, n) see FieldBlock
  float* gradient = nullptr;  // (frames, n, coords)
  float* offsets = nullptr;   // (frames, n, 3 + m)
  float* jacobian = nullptr;  // (frames, n, 3 + m, 3)
};

// Throws ArgumentError naming the first row of (n, columns) values that is not finite or beyond kMostCoordinate.
void check_coordinates(const char* argument, const float* values, int64_t n, int columns);

// points: (n, coords), coords 3 or (canonical frames only) all of the identity's. Throws ArgumentError naming
// the first point that is not finite or too far away.
void field_query(const FieldRunner& runner, const FieldFrames& frames, const float* points, int64_t n,
                 int coords, const FieldOutputs& outputs);

// Axis-aligned sample positions; sample (i, j, k) is at (axis[0][i], axis[1][j], axis[2][k]), k fastest.
struct Lattice {
  std::vector<float> axis[3];
  int64_t size() const {
    return static_cast<int64_t>(axis[0].size()) * static_cast<int64_t>(axis[1].size()) *
           static_cast<int64_t>(axis[2].size());
  }
};

// Every sample; volumes: (frames, nx, ny, nz).
void field_grid(const FieldRunner& runner, const FieldFrames& frames, const Lattice& lattice, float* volumes);

struct InverseOptions {
  float tolerance = 1e-6f;  // of |x + offset(x) - target|, head units
  int iterations = 30;
};

// For every frame, x with x + offset(x) = target (n, 3), by Broyden's method. The first frame starts from
// `starts` (n, 3; null: from the targets) with an exact Jacobian, each other one from the frame before.
// positions: (frames, n, 3) the best x found; residuals: (frames, n).
void field_invert(const FieldRunner& runner, const FieldFrames& frames, const float* targets,
                  const float* starts, int64_t n, const InverseOptions& options, float* positions,
                  float* residuals);

}  // namespace facetalk::cpu
