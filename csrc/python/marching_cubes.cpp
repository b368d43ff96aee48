#include "cpu/marching_cubes/marching_cubes.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <array>

#include "python/bindings.h"
#include "python/dlpack.h"

namespace py = pybind11;

namespace facetalk::python {

#ifdef FACETALK_WITH_CUDA
void bind_marching_cubes_cuda(py::module_& module);  // marching_cubes_cuda.cpp
#endif

namespace {

py::tuple marching_cubes(py::handle volume, float level, const std::array<double, 3>& origin,
                         const std::array<double, 3>& step, bool normals) {
  const Input input = Input::from(volume, "volume").require(DType::kFloat32, {-1, -1, -1});
  for (int axis = 0; axis < 3; ++axis) {
    if (input.size(axis) < 2)
      throw ArgumentError("volume", "at least 2 samples along each axis",
                          "shape " + input.view().shape_text());
  }
  cpu::GridFrame frame;
  std::copy(origin.begin(), origin.end(), frame.origin);
  std::copy(step.begin(), step.end(), frame.step);
  cpu::SurfaceMesh mesh;
  {
    py::gil_scoped_release release;
    mesh = cpu::marching_cubes(input.view(), level, frame, normals);
  }
  return py::make_tuple(mesh.vertices, mesh.faces, normals ? py::cast(mesh.normals) : py::object(py::none()));
}

}  // namespace

void bind_marching_cubes(py::module_& module) {
  module.def("marching_cubes", &marching_cubes, py::arg("volume"), py::arg("level"), py::arg("origin"),
             py::arg("step"), py::arg("normals"),
             "(vertices (V, 3) float32, faces (F, 3) int32, normals (V, 3) float32 or None)");
#ifdef FACETALK_WITH_CUDA
  bind_marching_cubes_cuda(module);
#endif
}

}  // namespace facetalk::python
