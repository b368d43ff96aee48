// Rigs, marching cubes and neural fields behind the C interface.
#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "capi/guard.h"
#include "capi/model.h"
#include "cpu/head/extract.h"
#include "cpu/head/rig.h"
#include "cpu/marching_cubes/marching_cubes.h"
#include "cpu/normals.h"

using facetalk::ArgumentError;
using facetalk::TensorView;
using facetalk::capi::Context;
using facetalk::capi::context_of;
using facetalk::capi::guarded;
using facetalk::capi::require;
using facetalk::capi::require_finite;
using facetalk::capi::with_options;
using facetalk::capi::WrongState;

struct facetalk_rig {
  Context context;
  facetalk::head::Rig rig;
};

struct facetalk_field {
  facetalk_field(const Context& of, const char* folder) : context(of), model(folder) {}

  Context context;
  facetalk::head::FieldModel model;
  std::unique_ptr<facetalk::head::BoundField> bound;
  mutable facetalk::head::Knowledge knowledge;  // has its own locks
};

struct facetalk_mesh {
  facetalk::cpu::SurfaceMesh mesh;
};

namespace {

constexpr float kMostCode = 1000.0f;  // beyond anything that is a head, and far below what overflows
constexpr float kMostBound = 1000.0f;

std::vector<float> checked_code(const float* values, int32_t count, int expected, const char* name) {
  if (count < 0) throw ArgumentError(std::string(name) + ": a negative count");
  if (count == 0) return {};
  require(values, name);
  if (count != expected)
    throw ArgumentError(name, std::to_string(expected) + " values", std::to_string(count));
  require_finite(values, static_cast<size_t>(count), name);
  for (int32_t i = 0; i < count; ++i) {
    if (std::abs(values[i]) > kMostCode)
      throw ArgumentError(name, "values up to 1000", std::to_string(values[i]));
  }
  return {values, values + count};
}

template <typename T>
TensorView view_of(const T* data, std::initializer_list<int64_t> shape) {
  TensorView view;
  view.data = const_cast<T*>(data);
  view.dtype = facetalk::dtype_of<T>::value;
  view.rank = static_cast<int>(shape.size());
  std::copy(shape.begin(), shape.end(), view.shape.begin());
  int64_t stride = 1;
  for (int i = view.rank - 1; i >= 0; --i) {
    view.strides[static_cast<size_t>(i)] = stride;
    stride *= view.shape[static_cast<size_t>(i)];
  }
  return view;
}

}  // namespace

facetalk_status facetalk_rig_create(const facetalk_model* model, const float* identity,
                                    int32_t identity_count, facetalk_rig** rig) {
  if (rig != nullptr) *rig = nullptr;
  return guarded(context_of(model), [&] {
    require(model, "model");
    require(rig, "rig");
    const std::vector<float> code = checked_code(identity, identity_count, identity_count, "identity");
    const facetalk::head::FacialSmoothing smoothing(model->mouth_centre, model->mouth_sigma, model->bounds);
    *rig =
        new facetalk_rig{model->context, {model->folder + "/head", model->motion.names(), smoothing, code}};
  });
}

int64_t facetalk_rig_vertex_count(const facetalk_rig* rig) {
  return rig == nullptr ? 0 : rig->rig.vertices();
}

int64_t facetalk_rig_face_count(const facetalk_rig* rig) {
  return rig == nullptr ? 0 : static_cast<int64_t>(rig->rig.faces().size() / 3);
}

const int32_t* facetalk_rig_faces(const facetalk_rig* rig) {
  return rig == nullptr ? nullptr : rig->rig.faces().data();
}

facetalk_status facetalk_rig_pose(const facetalk_rig* rig, const float* curves, float* positions,
                                  float* normals) {
  return guarded(context_of(rig), [&] {
    require(rig, "rig");
    require(curves, "curves");
    require(positions, "positions");
    require_finite(curves, rig->rig.curves(), "curves");
    for (size_t i = 0; i < rig->rig.curves(); ++i) {
      if (std::abs(curves[i]) > 100.0f)
        throw ArgumentError("curves", "weights up to 100", std::to_string(curves[i]));
    }
    rig->rig.pose(curves, positions);
    if (normals == nullptr) return;
    const int64_t count = rig->rig.vertices(), faces = facetalk_rig_face_count(rig);
    facetalk::cpu::vertex_normals(view_of(positions, {1, count, 3}),
                                  view_of(rig->rig.faces().data(), {faces, 3}),
                                  view_of(normals, {1, count, 3}));
  });
}

void facetalk_rig_free(facetalk_rig* rig) { delete rig; }

facetalk_status facetalk_marching_cubes(const float* volume, int64_t nx, int64_t ny, int64_t nz, float level,
                                        facetalk_mesh** mesh) {
  return facetalk_marching_cubes_with(volume, nx, ny, nz, level, nullptr, mesh);
}

facetalk_status facetalk_marching_cubes_with(const float* volume, int64_t nx, int64_t ny, int64_t nz,
                                             float level, const facetalk_options* options,
                                             facetalk_mesh** mesh) {
  if (mesh != nullptr) *mesh = nullptr;
  return with_options(options, [&](const Context&) {
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

facetalk_status facetalk_field_load(const char* checkpoint_folder, facetalk_field** field) {
  return facetalk_field_load_with(checkpoint_folder, nullptr, field);
}

facetalk_status facetalk_field_load_with(const char* checkpoint_folder, const facetalk_options* options,
                                         facetalk_field** field) {
  if (field != nullptr) *field = nullptr;
  return with_options(options, [&](const Context& context) {
    require(checkpoint_folder, "checkpoint_folder");
    require(field, "field");
    facetalk::capi::one_thread_unless_told();
    *field = new facetalk_field(context, checkpoint_folder);
  });
}

facetalk_status facetalk_field_bind(facetalk_field* field, const float* identity, int32_t identity_count) {
  return guarded(context_of(field), [&] {
    require(field, "field");
    std::vector<float> code =
        checked_code(identity, identity_count, field->model.identity_size(), "identity");
    code.resize(static_cast<size_t>(field->model.identity_size()), 0.0f);
    field->bound = field->model.bind(code);
    field->knowledge.forget();
  });
}

facetalk_status facetalk_field_extract(const facetalk_field* field, const float* expression,
                                       int32_t expression_count, int32_t resolution, const float bounds[6],
                                       float tolerance_mm, facetalk_mesh** mesh) {
  if (mesh != nullptr) *mesh = nullptr;
  return guarded(context_of(field), [&] {
    require(field, "field");
    require(bounds, "bounds");
    require(mesh, "mesh");
    if (field->bound == nullptr) throw WrongState("the field is not bound; call facetalk_field_bind first");
    if (resolution < 8 || resolution > 1024)
      throw ArgumentError("resolution", "8 to 1024 samples along every axis", std::to_string(resolution));
    if (!(tolerance_mm >= 0.0f) || tolerance_mm > 10.0f)
      throw ArgumentError("tolerance_mm", "0 to 10", std::to_string(tolerance_mm));
    require_finite(bounds, 6, "bounds");
    facetalk::head::Box box{resolution, {}};
    std::copy(bounds, bounds + 6, box.bounds.begin());
    for (int a = 0; a < 3; ++a) {
      if (!(bounds[a] < bounds[3 + a]) || std::abs(bounds[a]) > kMostBound ||
          std::abs(bounds[3 + a]) > kMostBound)
        throw ArgumentError(
            "bounds: expected low xyz, then high xyz, growing along every axis, within 1000 units");
    }
    const int expected = field->model.expression_size();
    if (expression_count > 0 && expected == 0)
      throw ArgumentError("expression: this head has no deformation");
    const std::vector<float> code = checked_code(expression, expression_count, expected, "expression");
    std::vector<float> biases;
    if (!code.empty()) biases = field->model.biases(*field->bound, code);
    facetalk::head::Report report;
    std::unique_ptr<facetalk_mesh> found(new facetalk_mesh{
        facetalk::head::extract(*field->bound, code.empty() ? nullptr : biases.data(),
                                field->model.is_backward(), box, tolerance_mm, field->knowledge, report)});
    if (field->context.is_logging() && report.baked > 0) {
      const std::string what = "the identity was baked: " + std::to_string(report.baked) + " bricks";
      field->context.log(FACETALK_LOG_INFO, what.c_str());
    }
    if (field->context.is_logging() && report.uncertified > 0) {
      const std::string what =
          std::to_string(report.uncertified) +
          " cells of the surface rest on a bound of the field's slope that samples contradict";
      field->context.log(FACETALK_LOG_WARNING, what.c_str());
    }
    *mesh = found.release();
  });
}

void facetalk_field_free(facetalk_field* field) { delete field; }

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
