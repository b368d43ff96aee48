#include <string>

#include "core/cpu_features.h"
#include "cpu/threads.h"
#include "python/bindings.h"
#ifdef FACETALK_WITH_CUDA
#include "cuda/platform/device.h"
#include "cuda/platform/device_code.h"
#endif

namespace py = pybind11;

namespace facetalk::python {
namespace {

std::string compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#elif defined(__GNUC__)
  return "gcc " __VERSION__;
#else
  return "unknown";
#endif
}

#ifdef FACETALK_WITH_CUDA
void add_cuda(py::dict& info, py::list& backends, py::dict& missing) {
  const cuda::Report report = cuda::query_devices(FACETALK_CUDA_ARCH_LIST);
  py::list devices;
  for (const cuda::DeviceInfo& device : report.devices) {
    py::dict entry;
    entry["name"] = device.name;
    entry["capability"] = std::to_string(device.major) + "." + std::to_string(device.minor);
    entry["memory_bytes"] = device.memory_bytes;
    entry["missing"] = device.missing.empty() ? py::object(py::none()) : py::cast(device.missing);
    devices.append(entry);
  }
  info["cuda_runtime"] = cuda::version_text(report.runtime_version);
  info["cuda_driver"] = report.driver_version == 0 ? py::object(py::none())
                                                   : py::cast(cuda::version_text(report.driver_version));
  info["devices"] = devices;
  if (report.reason.empty()) {
    backends.append("cuda");
  } else {
    missing["cuda"] = report.reason;
  }
}
#else
void add_cuda(py::dict& info, py::list&, py::dict& missing) {
  info["cuda_runtime"] = py::none();
  info["cuda_driver"] = py::none();
  info["devices"] = py::list();
  missing["cuda"] = FACETALK_CUDA_NOTE;
}
#endif

py::list split(const std::string& text) {
  py::list parts;
  size_t start = 0;
  while (start < text.size()) {
    const size_t end = std::min(text.find(',', start), text.size());
    parts.append(text.substr(start, end - start));
    start = end + 1;
  }
  return parts;
}

py::dict build_info() {
  py::dict info;
  py::list backends;
  py::dict missing;
  backends.append("cpu");
  info["version"] = FACETALK_VERSION;
  info["compiler"] = compiler();
  info["simd_compiled"] = split(FACETALK_SIMD_LEVELS);
  info["simd_detected"] = name_of(detected_simd_level());
  info["simd"] = name_of(simd_level());
  info["threads"] = cpu::threads();
  info["cuda_archs"] = split(FACETALK_CUDA_ARCH_LIST);
  add_cuda(info, backends, missing);
  info["backends"] = backends;
  info["missing"] = missing;
  return info;
}

}  // namespace

void bind_info(py::module_& module) {
  module.def(
      "build_info", &build_info,
      "What this build is and what it can use here: version, compiler, simd_compiled, simd_detected, simd, "
      "threads, cuda_archs, cuda_runtime, cuda_driver, devices (each with the reason that this build does "
      "not "
      "run on it, or None, as `missing`), backends, missing {backend: reason}.");
  module.def("threads", &cpu::threads, "Threads that the CPU operations use.");
  module.def("set_threads", &cpu::set_threads, py::arg("count"));
  module.def(
      "simd_level", [] { return name_of(simd_level()); },
      "The SIMD level in use; ValueError when FACETALK_SIMD names none.");
  module.def("set_simd_level", &set_simd_level, py::arg("level"), "Lower the SIMD level; for tests.");
}

}  // namespace facetalk::python
