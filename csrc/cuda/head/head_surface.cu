#include <algorithm>
#include <cstring>

#include "core/status.h"
#include "cuda/field/field_launch.cuh"
#include "cuda/head/bound_head.h"
#include "cuda/head/head_band.h"
#include "cuda/head/head_surface.h"
#include "cuda/marching_cubes/marching_cubes.h"
#include "cuda/platform/device.h"

namespace facetalk::cuda {
namespace {

constexpr int kMoveThreads = 256;
constexpr float kSteepest = 1.5f;  // as CudaField.bricks of facetalk/ops/cuda/field.py

// from (n, 3) moved by offsets (n, 3), times a scale.
__global__ void __launch_bounds__(kMoveThreads)
    head_moved_kernel(const float* from, const float* offsets, int64_t values, float scale, float* to) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kMoveThreads + threadIdx.x;
  if (at < values) to[at] = (offsets[at] + from[at]) * scale;
}

}  // namespace

struct DeviceHead::State {
  State(const FieldModel& model, FieldPrecision precision) : head(model, precision, place) {
    std::vector<char> table(mc_cases_bytes());
    mc_write_cases(table.data());
    cases = DeviceBuffer(table.size());
    place.upload(cases.as<void>(), table.data(), table.size());
    place.wait();
  }

  struct Found {
    int64_t vertices = 0, faces = 0;
    float* vertex = nullptr;  // on the device, until the call ends
    int32_t* face = nullptr;
  };
  Found surface(const float* frame, const HeadLattice& lattice, float scale);
  const float* neutral(const HeadLattice& lattice);
  HeadMesh to_host(const Found& found);

  Workplace place;
  BoundHead head;
  DeviceBuffer cases;
  // Of a deformation that goes forward: the canonical surface of the lattice that was asked for last.
  HeadLattice neutral_of;
  DeviceBuffer neutral_vertices;
  Array neutral_faces;
  int64_t neutral_count = -1;
};

DeviceHead::State::Found DeviceHead::State::surface(const float* frame, const HeadLattice& lattice,
                                                    float scale) {
  const DeviceLattice there = lattice_on(place, lattice.axis);
  const DeviceBricks bricks = find_bricks(head, there, frame, kSteepest);
  McProblem problem;
  problem.samples = bricks.samples;
  problem.bricks = bricks.table;
  problem.cases = cases.as<const void>();
  problem.nx = there.shape[0];
  problem.ny = there.shape[1];
  problem.nz = there.shape[2];
  for (int a = 0; a < 3;
       ++a) {  // a power of two as a scale is exact, so the mesh is the scaled one to the bit
    problem.origin[a] = lattice.origin[a] * static_cast<double>(scale);
    problem.step[a] = lattice.step[a] * static_cast<double>(scale);
  }
  void* workspace = place.take<char>(static_cast<int64_t>(mc_workspace_bytes(problem)));
  auto* header = place.take<int64_t>(mc_header_size(1));
  mc_count(problem, workspace, header, place.stream());
  int64_t counts[mc_header_size(1)];
  place.download(counts, header, sizeof counts);
  if (counts[0] != 0)
    throw ArgumentError("the field: " + std::to_string(counts[0]) +
                        " samples near its surface are not finite");
  Found found;
  found.vertices = counts[4];
  found.faces = counts[5];
  if (std::max(found.vertices, found.faces) > INT32_MAX)
    throw ArgumentError("resolution", "a surface of less than 2^31 vertices and faces",
                        std::to_string(found.vertices) + " and " + std::to_string(found.faces));
  found.vertex = place.take<float>(3 * found.vertices);
  found.face = place.take<int32_t>(3 * found.faces);
  if (found.vertices > 0)
    mc_emit(problem, workspace, found.vertex, nullptr, found.face, found.vertices, found.faces,
            place.stream());
  return found;
}

// Vertices of the canonical surface in head units, on the device.
const float* DeviceHead::State::neutral(const HeadLattice& lattice) {
  bool same = neutral_count >= 0;
  for (int a = 0; a < 3; ++a) same = same && neutral_of.axis[a] == lattice.axis[a];
  if (!same) {
    neutral_count = -1;
    const Found found = surface(nullptr, lattice, 1.0f);
    neutral_faces = Array::make<int32_t>({found.faces, int64_t{3}});
    neutral_vertices = DeviceBuffer(static_cast<size_t>(3 * found.vertices) * sizeof(float));
    place.copy(neutral_vertices.as<void>(), found.vertex,
               static_cast<size_t>(3 * found.vertices) * sizeof(float));
    place.download(neutral_faces.view.data, found.face,
                   static_cast<size_t>(3 * found.faces) * sizeof(int32_t));
    neutral_of = lattice;
    neutral_count = found.vertices;
  }
  return neutral_vertices.as<const float>();
}

HeadMesh DeviceHead::State::to_host(const Found& found) {
  HeadMesh mesh;
  mesh.vertices = Array::make<float>({found.vertices, int64_t{3}});
  mesh.faces = Array::make<int32_t>({found.faces, int64_t{3}});
  place.download(mesh.vertices.view.data, found.vertex,
                 static_cast<size_t>(3 * found.vertices) * sizeof(float));
  place.download(mesh.faces.view.data, found.face, static_cast<size_t>(3 * found.faces) * sizeof(int32_t));
  return mesh;
}

DeviceHead::DeviceHead(int device, const FieldModel& model, FieldPrecision precision) : device_(device) {
  const DeviceGuard guard(device);
  state_ = std::make_unique<State>(model, precision);
}

DeviceHead::~DeviceHead() {
  try {
    const DeviceGuard guard(device_);
    state_.reset();
  } catch (...) {  // the device is gone, and its memory with it
  }
}

void DeviceHead::query(const float* biases, const float* points, int64_t n, float* distance) {
  const DeviceGuard guard(device_);
  Workplace& place = state_->place;
  const Call call(place);
  const float* frame = state_->head.frame(biases);
  for (int64_t first = 0; first < n; first += BoundHead::kTogether) {
    const Piece piece(place);
    const int64_t count = std::min(BoundHead::kTogether, n - first);
    auto *there = place.take<float>(3 * count), *values = place.take<float>(count);
    place.upload(there, points + 3 * first, static_cast<size_t>(3 * count) * sizeof(float));
    state_->head.evaluate(there, count, frame, values, nullptr);
    place.download(distance + first, values, static_cast<size_t>(count) * sizeof(float));
  }
}

HeadMesh DeviceHead::extract(const float* biases, bool is_backward, const HeadLattice& lattice, float scale) {
  const DeviceGuard guard(device_);
  Workplace& place = state_->place;
  const Call call(place);
  const float* frame = state_->head.frame(biases);
  if (frame == nullptr || is_backward) return state_->to_host(state_->surface(frame, lattice, scale));
  const float* from = state_->neutral(lattice);
  const int64_t count = state_->neutral_count;
  HeadMesh mesh;
  mesh.vertices = Array::make<float>({count, int64_t{3}});
  mesh.faces = Array::make<int32_t>({state_->neutral_faces.view.shape[0], int64_t{3}});
  std::copy_n(state_->neutral_faces.view.as<const int32_t>(), state_->neutral_faces.view.size(),
              mesh.faces.view.as<int32_t>());
  auto *y = place.take<float>(3 * count), *offsets = place.take<float>(3 * count);
  auto* moved = place.take<float>(3 * count);
  state_->head.deform(from, count, frame, y, offsets);
  launch_threads<kMoveThreads>("head_moved", head_moved_kernel, 3 * count, place.stream(), from, offsets,
                               3 * count, scale, moved);
  place.download(mesh.vertices.view.data, moved, static_cast<size_t>(3 * count) * sizeof(float));
  return mesh;
}

}  // namespace facetalk::cuda
