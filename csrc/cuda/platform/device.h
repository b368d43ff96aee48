// What the CUDA runtime says about this machine, which never throws and never needs a GPU or a driver, and a
// guard for the current device. No CUDA headers here: bindings include it.
#pragma once

#include <string>
#include <vector>

namespace facetalk::cuda {

struct DeviceInfo {
  std::string name;
  int major = 0;  // compute capability
  int minor = 0;
  size_t memory_bytes = 0;
  std::string missing;  // why this build does not run on it; empty when it does
};

struct Report {
  int runtime_version = 0;  // as CUDA writes it: 1000 * major + 10 * minor
  int driver_version = 0;   // 0: no driver
  std::vector<DeviceInfo> devices;
  std::string reason;  // why no GPU can be used; empty when one can
};

// archs: what the build has code for, as in device_code.h.
Report query_devices(const std::string& archs);

// Makes a device current for the time of a call and the caller's again after it. Throws CudaError.
class DeviceGuard {
 public:
  explicit DeviceGuard(int index);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int before_ = 0;
  bool changed_ = false;
};

}  // namespace facetalk::cuda
