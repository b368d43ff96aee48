// Marching cubes and meshes behind the C interface.
#include "capi/mesh.h"

#include <cmath>
#include <string>

#include "capi/guard.h"

using facetalk::ArgumentError;
using facetalk::capi::Context;
using facetalk::capi::require;
using facetalk::capi::view_of;
using facetalk::capi::with_options;

facetalk_status facetalk_marching_cubes(const float* volume, int64_t nx, int64_t ny, int64_t nz, float level,
                                        facetalk_mesh** mesh) {
  return facetalk_marching_cubes_with(volume, nx, ny, nz, level, nullptr, mesh);
}

facetalk_status facetalk_marching_cubes_with(const float* volume, int64_t nx, int64_t ny, int64_t nz,
                                             float level, const facetalk_options* options,
                                             facetalk_mesh** mesh) {
  if (mesh != nullptr) *mesh = nullptr;
  return with_options(options, [&](const Context& context) {
    facetalk::capi::require_cpu(context, "marching cubes of a volume in its memory run");
    require(volume, "volume");
    require(mesh, "mesh");
    int64_t samples = 0, bytes = 0;
    if (nx < 2 || ny < 2 || nz < 2 || __builtin_mul_overflow(nx, ny, &samples) ||
        __builtin_mul_overflow(samples, nz, &samples) || __builtin_mul_overflow(samples, int64_t{4}, &bytes))
      throw ArgumentError("nx, ny, nz: expected at least 2 each, and no more than memory can hold");
    if (!std::isfinite(level)) throw ArgumentError("level: is not finite");
    *mesh = new facetalk_mesh{facetalk::cpu::marching_cubes(view_of(volume, {nx, ny, nz}), level, {}, false)};
  });
}

int64_t facetalk_mesh_vertex_count(const facetalk_mesh* mesh) {
  return mesh == nullptr ? 0 : mesh->mesh.vertices.view.shape[0];
}

int64_t facetalk_mesh_face_count(const facetalk_mesh* mesh) {
  return mesh == nullptr ? 0 : mesh->mesh.faces.view.shape[0];
}

const float* facetalk_mesh_vertices(const facetalk_mesh* mesh) {
  return mesh == nullptr ? nullptr : mesh->mesh.vertices.view.as<const float>();
}

const int32_t* facetalk_mesh_faces(const facetalk_mesh* mesh) {
  return mesh == nullptr ? nullptr : mesh->mesh.faces.view.as<const int32_t>();
}

void facetalk_mesh_free(facetalk_mesh* mesh) { delete mesh; }
