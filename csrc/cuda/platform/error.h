// Errors of CUDA as exceptions that name what was being launched.
#pragma once

#include <string>

#include "core/status.h"
#include "cuda/platform/portable.h"

namespace facetalk::cuda {

// Python sees RuntimeError.
class CudaError : public DeviceError {
 public:
  CudaError(const std::string& what, cudaError_t status)
      : DeviceError(what + ": " + cudaGetErrorString(status), status == cudaErrorMemoryAllocation),
        status_(status) {}
  cudaError_t status() const { return status_; }

 private:
  cudaError_t status_;
};

inline void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw CudaError(what, status);
}

}  // namespace facetalk::cuda
