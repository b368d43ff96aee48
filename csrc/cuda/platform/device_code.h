// Whether a build has code that a device can run, and a driver that takes it: from numbers alone, so that tests
// ask without a GPU. No CUDA headers here: bindings include it.
#pragma once

#include <string>
#include <string_view>

namespace facetalk::cuda {

// As CUDA writes versions: 1000 * major + 10 * minor.
inline std::string version_text(int number) {
  return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

// Why a driver does not take what a runtime asks for, in words; empty when it does. Drivers serve every runtime
// of their own major version and the older ones.
inline std::string missing_driver(int driver_version, int runtime_version) {
  if (driver_version == 0) return "no NVIDIA driver on this machine";
  if (driver_version / 1000 >= runtime_version / 1000) return "";
  return "the driver is one for CUDA " + version_text(driver_version) +
         ", and this build needs one for CUDA " + version_text(runtime_version / 1000 * 1000) +
         (runtime_version / 1000 == 13 ? " or newer (on Linux 580)" : " or newer") + ": update the driver";
}

// Why a device of this compute capability runs nothing of a build, in words; empty when it does.
//
// archs: the build's targets in ascending order, as "80,86,90a,120". There is machine code for each, which runs
// on devices of the same major capability from its minor one on, with the letter "a" on that device alone, and
// PTX for the last, without its letter, which later devices compile for themselves.
inline std::string missing_code(std::string_view archs, int major, int minor) {
  bool runs = false;
  int newest = 0;
  for (size_t start = 0; start < archs.size();) {
    size_t end = archs.find(',', start);
    if (end == std::string_view::npos) end = archs.size();
    int number = 0;
    char letter = ' ';
    for (const char c : archs.substr(start, end - start)) {
      if (c >= '0' && c <= '9') {
        number = 10 * number + (c - '0');
      } else {
        letter = c;
      }
    }
    newest = number;
    runs = runs || (number / 10 == major && (letter == 'a' ? number % 10 == minor : number % 10 <= minor));
    start = end + 1;
  }
  if (runs || (newest != 0 && 10 * major + minor >= newest)) return "";
  const std::string mine = std::to_string(major) + std::to_string(minor);
  return "the device has compute capability " + std::to_string(major) + "." + std::to_string(minor) +
         ", and this build has code for " + std::string(archs) +
         " alone: build with FACETALK_CUDA_ARCHS=" + mine;
}

}  // namespace facetalk::cuda
