// Binding of the marching-cubes kernels: arrays of the caller in, arrays of the caller filled, on the
// caller's stream.
#ifdef FACETALK_WITH_CUDA

#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <optional>

#include "core/brick_volume.h"
#include "cuda/marching_cubes/marching_cubes.h"
#include "cuda/platform/device.h"
#include "python/bindings.h"
#include "python/dlpack.h"

namespace py = pybind11;

namespace facetalk::python {
namespace {

using Shape = std::array<int64_t, 4>;  // frames, nx, ny, nz
using Triple = std::array<double, 3>;

cuda::McProblem problem_of_shape(const Shape& shape) {
  cuda::McProblem problem;
  problem.frames = shape[0];
  problem.nx = shape[1];
  problem.ny = shape[2];
  problem.nz = shape[3];
  return problem;
}

// A problem together with the arrays that its pointers point into.
struct Bound {
  Input samples;
  std::optional<Input> bricks;
  Input cases, workspace, header;
  cuda::McProblem problem;

  Bound(py::handle samples_, const py::object& bricks_, const Shape& shape, py::handle cases_, float level,
        const Triple& origin, const Triple& step, py::handle workspace_, py::handle header_)
      : samples(bricks_.is_none()
                    ? Input::from(samples_, "volume")
                          .require_cuda(DType::kFloat32, {shape[0], shape[1], shape[2], shape[3]})
                    : Input::from(samples_, "samples")
                          .require_cuda(DType::kFloat32, {-1, kBrickSide, kBrickSide, kBrickSide})),
        cases(Input::from(cases_, "cases")
                  .require_cuda(DType::kUInt8, {static_cast<int64_t>(cuda::mc_cases_bytes())},
                                samples.device())),
        workspace(Input::from(workspace_, "workspace").require_cuda(DType::kUInt8, {-1}, samples.device())),
        header(Input::from(header_, "header")
                   .require_cuda(DType::kInt64, {cuda::mc_header_size(shape[0])}, samples.device())),
        problem(problem_of_shape(shape)) {
    problem.samples = samples.as<float>();
    if (!bricks_.is_none()) {
      const auto count = [&](int axis) { return (shape[axis] + kBrickSide - 1) / kBrickSide; };
      bricks = Input::from(bricks_, "table")
                   .require_cuda(DType::kInt32, {shape[0], count(1), count(2), count(3)}, samples.device());
      problem.bricks = bricks->as<int32_t>();
    }
    problem.cases = cases.as<uint8_t>();
    problem.level = level;
    std::copy(origin.begin(), origin.end(), problem.origin);
    std::copy(step.begin(), step.end(), problem.step);
    const auto need = static_cast<int64_t>(cuda::mc_workspace_bytes(problem));
    if (workspace.size(0) < need) {
      throw ArgumentError("workspace", "at least " + std::to_string(need) + " bytes",
                          std::to_string(workspace.size(0)));
    }
  }
};

void count(py::handle samples, py::object bricks, const Shape& shape, py::handle cases, float level,
           const Triple& origin, const Triple& step, py::handle workspace, py::handle header,
           uintptr_t stream) {
  const Bound bound(samples, bricks, shape, cases, level, origin, step, workspace, header);
  py::gil_scoped_release release;
  const cuda::DeviceGuard guard(bound.samples.device());
  cuda::mc_count(bound.problem, bound.workspace.fill<void>(), bound.header.fill<int64_t>(),
                 reinterpret_cast<void*>(stream));
}

void emit(py::handle samples, py::object bricks, const Shape& shape, py::handle cases, float level,
          const Triple& origin, const Triple& step, py::handle workspace, py::handle header, uintptr_t stream,
          py::handle vertices, py::object normals, py::handle faces) {
  const Bound bound(samples, bricks, shape, cases, level, origin, step, workspace, header);
  const int device = bound.samples.device();
  const Input v = Input::from(vertices, "vertices").require_cuda(DType::kFloat32, {-1, 3}, device);
  const Input f = Input::from(faces, "faces").require_cuda(DType::kInt32, {-1, 3}, device);
  std::optional<Input> n;
  if (!normals.is_none()) {
    n = Input::from(normals, "normals").require_cuda(DType::kFloat32, {v.size(0), 3}, device);
  }
  py::gil_scoped_release release;
  const cuda::DeviceGuard guard(device);
  cuda::mc_emit(bound.problem, bound.workspace.fill<void>(), v.fill<float>(), n ? n->fill<float>() : nullptr,
                f.fill<int32_t>(), v.size(0), f.size(0), reinterpret_cast<void*>(stream));
}

}  // namespace

void bind_marching_cubes_cuda(py::module_& module) {
  module.def(
      "marching_cubes_cases",
      [] {
        Array cases = Array::make<uint8_t>({static_cast<int64_t>(cuda::mc_cases_bytes())});
        cuda::mc_write_cases(cases.view.data);
        return cases;
      },
      "The case table as the kernels read it, (bytes,) uint8 in the CPU's memory; copy it to the device "
      "once.");
  module.def(
      "marching_cubes_workspace",
      [](const Shape& shape) { return cuda::mc_workspace_bytes(problem_of_shape(shape)); }, py::arg("shape"),
      "Bytes of workspace for volumes of shape (frames, nx, ny, nz).");
  module.def(
      "marching_cubes_count", &count, py::arg("samples"), py::arg("bricks"), py::arg("shape"),
      py::arg("cases"), py::arg("level"), py::arg("origin"), py::arg("step"), py::arg("workspace"),
      py::arg("header"), py::arg("stream"),
      "Fills workspace and header (4 + 2 * frames,) int64: see csrc/cuda/marching_cubes/marching_cubes.h.");
  module.def(
      "marching_cubes_emit", &emit, py::arg("samples"), py::arg("bricks"), py::arg("shape"), py::arg("cases"),
      py::arg("level"), py::arg("origin"), py::arg("step"), py::arg("workspace"), py::arg("header"),
      py::arg("stream"), py::arg("vertices"), py::arg("normals"), py::arg("faces"),
      "Fills vertices (V, 3), normals (V, 3) or None, faces (F, 3) of all frames, with the workspace of "
      "marching_cubes_count.");
}

}  // namespace facetalk::python

#endif
