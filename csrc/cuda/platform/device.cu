#include "cuda/platform/device.h"
#include "cuda/platform/device_code.h"
#include "cuda/platform/error.h"
#include "cuda/platform/portable.h"

namespace facetalk::cuda {

Report query_devices(const std::string& archs) {
  Report report;
  if (cudaRuntimeGetVersion(&report.runtime_version) != cudaSuccess) report.runtime_version = CUDART_VERSION;
  if (cudaDriverGetVersion(&report.driver_version) != cudaSuccess) report.driver_version = 0;
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    cudaGetLastError();  // the error is reported here; it must not surface in somebody's next call
    report.reason = missing_driver(report.driver_version, report.runtime_version);
    if (report.reason.empty()) report.reason = cudaGetErrorString(status);
    return report;
  }
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, index) != cudaSuccess) {
      cudaGetLastError();
      continue;
    }
    report.devices.push_back({properties.name, properties.major, properties.minor, properties.totalGlobalMem,
                              missing_code(archs, properties.major, properties.minor)});
  }
  if (report.devices.empty()) {
    report.reason = "the driver sees no GPU";
    return report;
  }
  for (const DeviceInfo& device : report.devices) {
    if (device.missing.empty()) return report;
  }
  report.reason = report.devices.front().missing;
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
