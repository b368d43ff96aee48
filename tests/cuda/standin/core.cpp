// The extension's CUDA functions, bindings and all, over kernels that run on the host. Linked with
// core_field.cpp.
#define FACETALK_WITH_CUDA 1
#include <pybind11/pybind11.h>

#include "../../../csrc/core/marching_cubes_table.cpp"
#include "cpu/attention/attention.h"
#include "cpu/normals.h"
#include "cuda/attention/attention.cu"
#include "cuda/attention/attention_backward.cu"
#include "cuda/marching_cubes/marching_cubes.cu"
#include "cuda/normals.cu"
#include "cuda/platform/device.h"
#include "python/attention.cpp"
#include "python/dlpack.cpp"
#include "python/marching_cubes_cuda.cpp"
#include "python/normals.cpp"

namespace facetalk {

// The CPU's operations are the real extension's.
namespace cpu {
void masked_cross_attention(const TensorView&, const TensorView&, const TensorView&, const AttentionWindow&,
                            float, const TensorView&) {
  throw std::logic_error("not here");
}
void vertex_normals(const TensorView&, const TensorView&, const TensorView&) {
  throw std::logic_error("not here");
}
}  // namespace cpu

namespace cuda {
DeviceGuard::DeviceGuard(int index) {
  if (index != 0) throw CudaError("cudaSetDevice", cudaErrorInvalidValue);
}
DeviceGuard::~DeviceGuard() = default;
}  // namespace cuda

namespace python {
void bind_marching_cubes_cuda(pybind11::module_& module);
}

}  // namespace facetalk

// facetalk._C is loaded before: what it has registered (Array) serves here too.
PYBIND11_MODULE(standin_core, module) {
  using namespace facetalk::python;
  pybind11::register_local_exception_translator([](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const facetalk::KindError& kind) {
      PyErr_SetString(PyExc_TypeError, kind.what());
    } catch (const facetalk::ArgumentError& value) {
      PyErr_SetString(PyExc_ValueError, value.what());
    } catch (const facetalk::cuda::CudaError& launch) {
      PyErr_SetString(PyExc_RuntimeError,
                      (std::string(launch.what()) + ": " + facetalk_emulate_error()).c_str());
    }
  });
  bind_attention(module);
  bind_normals(module);
  bind_marching_cubes_cuda(module);
  bind_field_cuda(module);
  bind_field_guided_cuda(module);
}
