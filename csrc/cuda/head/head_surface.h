// Surfaces of a bound head from a device: the GPU's cpu/head/extract.h.
//
// An object belongs to one handle and one thread at a time; every call makes its device the current one and gives
// the caller's back. No CUDA headers here: the C interface includes it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/field.h"
#include "core/tensor_view.h"
#include "cuda/field/field.h"

namespace facetalk::cuda {

struct HeadMesh {
  Array vertices;  // (V, 3) float32
  Array faces;     // (F, 3) int32
};

// The lattice of a box, and where its first sample lies and how far the next; head units.
struct HeadLattice {
  std::vector<float> axis[3];
  double origin[3] = {0, 0, 0};
  double step[3] = {1, 1, 1};
};

class DeviceHead {
 public:
  // `model` is read here alone. Throws ArgumentError for networks that no kernel takes, CudaError.
  DeviceHead(int device, const FieldModel& model, FieldPrecision precision);
  ~DeviceHead();
  DeviceHead(const DeviceHead&) = delete;
  DeviceHead& operator=(const DeviceHead&) = delete;

  // biases: the CPU's row for an expression code, null: the canonical head. distance (n) at points (n, 3), both in
  // head units, of a deformation that goes backward.
  void query(const float* biases, const float* points, int64_t n, float* distance);

  // The surface in units of `scale` head units: of the canonical head, of the posed field (is_backward), or of the
  // canonical head with its vertices moved. Throws ArgumentError where samples are not finite.
  HeadMesh extract(const float* biases, bool is_backward, const HeadLattice& lattice, float scale);

 private:
  struct State;
  int device_;
  std::unique_ptr<State> state_;
};

}  // namespace facetalk::cuda
