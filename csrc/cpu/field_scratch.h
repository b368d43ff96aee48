// Scratch memory of the field kernels, one piece per thread, allocated before any thread starts.
#pragma once

#include <cstddef>
#include <memory>

#include "core/tensor_view.h"
#include "cpu/field.h"

namespace facetalk::cpu {

class FieldScratch {
 public:
  FieldScratch(const FieldRunner& runner, int threads, bool gradients)
      : floats_((runner.kernels->scratch(*runner.model, gradients) + 63) / 64 * 64),
        memory_(allocate(static_cast<int64_t>(floats_ * sizeof(float)) * threads)) {}

  float* of(int thread) const {
    return static_cast<float*>(memory_.get()) + floats_ * static_cast<size_t>(thread);
  }

 private:
  size_t floats_;
  std::shared_ptr<void> memory_;
};

}  // namespace facetalk::cpu
