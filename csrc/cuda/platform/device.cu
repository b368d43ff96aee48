#include <cuda_runtime.h>

#include "cuda/platform/device.h"
#include "cuda/platform/error.h"

namespace facetalk::cuda {

Report query_devices() {
  Report report;
  if (cudaRuntimeGetVersion(&report.runtime_version) != cudaSuccess) report.runtime_version = CUDART_VERSION;
  if (cudaDriverGetVersion(&report.driver_version) != cudaSuccess) report.driver_version = 0;
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    cudaGetLastError();  // the error is reported here; it must not surface in somebody's next call
    report.reason =
        report.driver_version == 0 ? "no NVIDIA driver on this machine" : cudaGetErrorString(status);
    return report;
  }
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, index) != cudaSuccess) {
      cudaGetLastError();
      continue;
    }
    report.devices.push_back(
        {properties.name, properties.major, properties.minor, properties.totalGlobalMem});
  }
  if (report.devices.empty()) report.reason = "the driver sees no GPU";
  return report;
}

DeviceGuard::DeviceGuard(int index) {
  check(cudaGetDevice(&before_), "cudaGetDevice");
  if (before_ == index) return;
  check(cudaSetDevice(index), "cudaSetDevice");
  changed_ = true;
}

DeviceGuard::~DeviceGuard() {
  if (changed_) cudaSetDevice(before_);
}

}  // namespace facetalk::cuda
