#include <pybind11/pybind11.h>

#include "core/status.h"
#include "python/bindings.h"

namespace py = pybind11;

// To add an operation: write csrc/python/<op>.cpp with bind_<op>, declare it in bindings.h, call it here.
PYBIND11_MODULE(_C, module) {
  using namespace facetalk::python;
  module.doc() = "Compiled core of facetalk; facetalk.ops is its typed face.";
  py::register_local_exception_translator([](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const facetalk::KindError& kind) {
      PyErr_SetString(PyExc_TypeError, kind.what());
    } catch (const facetalk::ArgumentError& value) {
      PyErr_SetString(PyExc_ValueError, value.what());
    }
  });
  bind_dlpack(module);
  bind_info(module);
  bind_marching_cubes(module);
  bind_attention(module);
  bind_normals(module);
  bind_field(module);
  bind_field_cuda(module);
  bind_field_guided_cuda(module);
  bind_extraction(module);
  bind_raster(module);
}
