// A head whose identity is bound, on the device: facetalk/ops/cuda/field_launch.py in C++, for one frame at a time.
#pragma once

#include <memory>

#include "core/field.h"
#include "cuda/field/field.h"
#include "cuda/head/pack.h"
#include "cuda/head/workplace.h"

namespace facetalk::cuda {

// Pointers are device memory. Work is given to the place's stream; nothing waits but the constructor.
class BoundHead {
 public:
  // Throws ArgumentError for networks that no kernel takes, CudaError where the device has no room. In 16 bit, what
  // a point's members weigh less than 1e-4 of the nearest one is left out, in float32 the model's own share.
  BoundHead(const FieldModel& model, FieldPrecision precision, Workplace& place);

  bool deforms() const { return deforms_; }
  Workplace& place() const { return place_; }
  // Points that are worth evaluating together.
  static constexpr int64_t kTogether = int64_t{1} << 18;

  // A row of the CPU's biases of a frame, on the device until the call ends; null for null.
  const float* frame(const float* biases) const;

  // Canonical queries y (n, C) of points (n, 3): moved by the frame's deformation, or where `frame` is null as they
  // are. Offsets (n, C) may be null.
  void deform(const float* points, int64_t n, const float* frame, float* y, float* offsets) const;
  // Signed distances (n) at canonical queries, n at most kTogether; raw_sdf, without NPHM's fade, may be null.
  void blend(const float* y, int64_t n, float* sdf, float* raw_sdf) const;
  // Both at any number of points.
  void evaluate(const float* points, int64_t n, const float* frame, float* sdf, float* raw_sdf) const;

  int coords() const { return coords_; }

 private:
  Workplace& place_;
  bool deforms_ = false;
  int coords_ = 3;
  FieldMlp deformation_;  // of the CPU, for its biases' places
  PackedNetwork identity_, moves_;
  FieldPlan identity_plan_, moves_plan_;
  FieldRoute route_;
  DeviceBuffer anchors_, mirror_, member_set_, member_bias_;
};

}  // namespace facetalk::cuda
