// What the CUDA runtime says about this machine. Never throws and never needs a GPU or a driver.
#pragma once

#include <string>
#include <vector>

namespace facetalk::cuda {

struct DeviceInfo {
  std::string name;
  int major = 0;  // compute capability
  int minor = 0;
  size_t memory_bytes = 0;
};

struct Report {
  int runtime_version = 0;  // as CUDA writes it: 1000 * major + 10 * minor
  int driver_version = 0;   // 0: no driver
  std::vector<DeviceInfo> devices;
  std::string reason;  // why no GPU can be used; empty when one can
};

Report query_devices();

}  // namespace facetalk::cuda
