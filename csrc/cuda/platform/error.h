// Errors of CUDA as exceptions that name what was being launched.
#pragma once

#include <stdexcept>
#include <string>

#include "cuda/platform/portable.h"

namespace facetalk::cuda {

// Python sees RuntimeError.
class CudaError : public std::runtime_error {
 public:
  CudaError(const std::string& what, cudaError_t status)
      : std::runtime_error(what + ": " + cudaGetErrorString(status)), status_(status) {}
  cudaError_t status() const { return status_; }

 private:
  cudaError_t status_;
};

inline void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw CudaError(what, status);
}

}  // namespace facetalk::cuda
