#include "cpu/normals.h"

#include "python/bindings.h"
#include "python/dlpack.h"
#ifdef FACETALK_WITH_CUDA
#include "cuda/normals.h"
#include "cuda/platform/device.h"
#endif

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

#ifdef FACETALK_WITH_CUDA

void vertex_normals_cuda(py::handle vertices, py::handle faces, py::handle corners, py::handle start,
                         py::handle normals, uintptr_t stream) {
  const Input v = Input::from(vertices, "vertices").require_cuda(DType::kFloat32, {-1, -1, 3});
  const int device = v.device();
  const Input f = Input::from(faces, "faces").require_cuda(DType::kInt32, {-1, 3}, device);
  const Input c = Input::from(corners, "corners").require_cuda(DType::kInt64, {3 * f.size(0)}, device);
  const Input s = Input::from(start, "start").require_cuda(DType::kInt64, {v.size(1) + 1}, device);
  const Input n =
      Input::from(normals, "normals").require_cuda(DType::kFloat32, {v.size(0), v.size(1), 3}, device);
  cuda::NormalsProblem problem;
  problem.vertices = v.as<float>();
  problem.faces = f.as<int32_t>();
  problem.corners = c.as<int64_t>();
  problem.start = s.as<int64_t>();
  problem.normals = n.fill<float>();
  problem.frames = v.size(0);
  problem.vertex_count = v.size(1);
  py::gil_scoped_release release;
  const cuda::DeviceGuard guard(device);
  cuda::vertex_normals(problem, reinterpret_cast<void*>(stream));
}

#endif

}  // namespace

void bind_normals(py::module_& module) {
  module.def("vertex_normals", &vertex_normals, py::arg("vertices"), py::arg("faces"),
             "vertices (T, V, 3) float32, faces (F, 3) int32 -> (T, V, 3) float32");
#ifdef FACETALK_WITH_CUDA
  module.def(
      "vertex_normals_cuda", &vertex_normals_cuda, py::arg("vertices"), py::arg("faces"), py::arg("corners"),
      py::arg("start"), py::arg("normals"), py::arg("stream"),
      "The same in device memory, into normals; corners (3 F) int64 sorted by vertex, start (V + 1) int64");
#endif
}

}  // namespace facetalk::python
