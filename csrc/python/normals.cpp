#include "cpu/normals.h"

#include "python/bindings.h"
#include "python/dlpack.h"

namespace py = pybind11;

namespace facetalk::python {
namespace {

Array vertex_normals(py::handle vertices, py::handle faces) {
  const Input v = Input::from(vertices, "vertices").require(DType::kFloat32, {-1, -1, 3});
  const Input f = Input::from(faces, "faces").require(DType::kInt32, {-1, 3});
  Array out = Array::make<float>({v.size(0), v.size(1), 3});
  py::gil_scoped_release release;
  cpu::vertex_normals(v.view(), f.view(), out.view);
  return out;
}

}  // namespace

void bind_normals(py::module_& module) {
  module.def("vertex_normals", &vertex_normals, py::arg("vertices"), py::arg("faces"),
             "vertices (T, V, 3) float32, faces (F, 3) int32 -> (T, V, 3) float32");
}

}  // namespace facetalk::python
