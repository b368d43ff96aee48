// A GPU behind facetalk_field_*; where the build has none, the reason why.
#pragma once

#include <memory>
#include <vector>

#include "capi/context.h"
#include "core/field.h"
#include "cpu/head/extract.h"

namespace facetalk::capi {

// For many threads, which wait for each other.
class FieldDevice {
 public:
  // Null where the options ask for the CPU. Throws Unsupported where the build or the machine has no such device,
  // ArgumentError for a number that none has.
  static std::unique_ptr<FieldDevice> open(const Context& context);

  virtual ~FieldDevice() = default;

  // What was bound before stays where it throws: ArgumentError for a precision that networks are too wide for,
  // DeviceError.
  virtual void bind(const FieldModel& model, int32_t precision) = 0;

  // biases: of the head's deformation for an expression code, or null. Points (n, 3) and distances in head units.
  virtual void query(const float* biases, const float* points, int64_t n, float* distances) = 0;

  // In metres; see cpu/head/extract.h.
  virtual cpu::SurfaceMesh extract(const float* biases, bool is_backward, const head::Box& box) = 0;
};

}  // namespace facetalk::capi
