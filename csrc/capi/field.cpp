// Neural fields behind the C interface.
#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "capi/field_device.h"
#include "capi/guard.h"
#include "capi/mesh.h"
#include "core/cpu_features.h"
#include "core/number_text.h"
#include "cpu/head/extract.h"

using facetalk::ArgumentError;
using facetalk::Unsupported;
using facetalk::capi::checked_code;
using facetalk::capi::Context;
using facetalk::capi::context_of;
using facetalk::capi::guarded;
using facetalk::capi::require;
using facetalk::capi::require_finite;
using facetalk::capi::with_options;
using facetalk::capi::WrongState;

struct facetalk_field {
  facetalk_field(const Context& of, const char* folder)
      : context(of), device(facetalk::capi::FieldDevice::open(of)), model(folder) {}

  Context context;
  std::unique_ptr<facetalk::capi::FieldDevice> device;  // null: the CPU
  facetalk::head::FieldModel model;
  std::unique_ptr<facetalk::head::BoundField> bound;
  mutable facetalk::head::Knowledge knowledge;  // has its own locks
  int32_t precision = FACETALK_FLOAT32;         // of the next identity
};

namespace {

constexpr float kMostBound = 1000.0f;  // head units
constexpr float kMostPoint = 1e6f;     // metres

void require_bound(const facetalk_field& field) {
  if (field.bound == nullptr) throw WrongState("the field is not bound; call facetalk_field_bind first");
}

// Of the deformation's layers for an expression code; empty for none.
std::vector<float> biases_of(const facetalk_field& field, const float* expression, int32_t count) {
  const int expected = field.model.expression_size();
  if (count > 0 && expected == 0) throw ArgumentError("expression: this head has no deformation");
  const std::vector<float> code = checked_code(expression, count, expected, "expression");
  return code.empty() ? code : field.model.biases(*field.bound, code);
}

void report_on(const facetalk_field& field, const facetalk::head::Report& report) {
  if (!field.context.is_logging()) return;
  if (report.baked > 0) {
    const std::string what = "the identity was baked: " + std::to_string(report.baked) + " bricks";
    field.context.log(FACETALK_LOG_INFO, what.c_str());
  }
  if (report.uncertified > 0) {
    const std::string what =
        std::to_string(report.uncertified) +
        " cells of the surface rest on a bound of the field's slope that samples contradict";
    field.context.log(FACETALK_LOG_WARNING, what.c_str());
  }
}

}  // namespace

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

int32_t facetalk_field_identity_count(const facetalk_field* field) {
  return field == nullptr ? 0 : field->model.identity_size();
}

int32_t facetalk_field_expression_count(const facetalk_field* field) {
  return field == nullptr ? 0 : field->model.expression_size();
}

facetalk_status facetalk_field_set_precision(facetalk_field* field, int32_t precision) {
  return guarded(context_of(field), [&] {
    require(field, "field");
    if (precision < FACETALK_FLOAT32 || precision > FACETALK_BFLOAT16)
      throw ArgumentError("precision", "FACETALK_FLOAT32, FACETALK_FLOAT16 or FACETALK_BFLOAT16",
                          std::to_string(precision));
    if (field->device == nullptr && precision != FACETALK_FLOAT32)
      throw Unsupported("precision: the CPU computes in 32 bit alone");
    field->precision = precision;
  });
}

facetalk_status facetalk_field_bind(facetalk_field* field, const float* identity, int32_t identity_count) {
  return guarded(context_of(field), [&] {
    require(field, "field");
    std::vector<float> code =
        checked_code(identity, identity_count, field->model.identity_size(), "identity");
    code.resize(static_cast<size_t>(field->model.identity_size()), 0.0f);
    std::unique_ptr<facetalk::head::BoundField> bound = field->model.bind(code);
    if (field->device != nullptr) field->device->bind(bound->packed.model(), field->precision);
    field->bound = std::move(bound);
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
    require_bound(*field);
    if (resolution < 8 || resolution > 1024)
      throw ArgumentError("resolution", "8 to 1024 samples along every axis", std::to_string(resolution));
    if (!(tolerance_mm >= 0.0f) || tolerance_mm > 10.0f)
      throw ArgumentError("tolerance_mm", "0 to 10", facetalk::number_text(tolerance_mm));
    require_finite(bounds, 6, "bounds");
    facetalk::head::Box box{resolution, {}};
    std::copy(bounds, bounds + 6, box.bounds.begin());
    for (int a = 0; a < 3; ++a) {
      if (!(bounds[a] < bounds[3 + a]) || std::abs(bounds[a]) > kMostBound ||
          std::abs(bounds[3 + a]) > kMostBound)
        throw ArgumentError(
            "bounds: expected low xyz, then high xyz, growing along every axis, within 1000 units");
    }
    const std::vector<float> biases = biases_of(*field, expression, expression_count);
    const float* row = biases.empty() ? nullptr : biases.data();
    facetalk::head::Report report;
    std::unique_ptr<facetalk_mesh> found(new facetalk_mesh);
    if (field->device != nullptr) {
      found->mesh = field->device->extract(row, field->model.is_backward(), box);
    } else {
      found->mesh = facetalk::head::extract(*field->bound, row, field->model.is_backward(), box, tolerance_mm,
                                            field->knowledge, report);
    }
    report_on(*field, report);
    *mesh = found.release();
  });
}

facetalk_status facetalk_field_query(const facetalk_field* field, const float* expression,
                                     int32_t expression_count, const float* points, int64_t count,
                                     float* distances) {
  return guarded(context_of(field), [&] {
    require(field, "field");
    if (count < 0 || count > (int64_t{1} << 40))
      throw ArgumentError("count", "0 to 2^40 points", std::to_string(count));
    if (count > 0) require(points, "points");
    if (count > 0) require(distances, "distances");
    require_bound(*field);
    for (int64_t i = 0; i < 3 * count; ++i) {
      if (!(std::abs(points[i]) <= kMostPoint))
        throw ArgumentError("points: point " + std::to_string(i / 3) + " is not finite or beyond 1e6 metres");
    }
    const std::vector<float> biases = biases_of(*field, expression, expression_count);
    if (!biases.empty() && !field->model.is_backward())
      throw Unsupported("expression: distances to a head whose deformation goes forward are not known");
    constexpr int64_t kTogether = int64_t{1} << 18;
    std::vector<float> scaled(static_cast<size_t>(3 * std::min(count, kTogether)));
    std::vector<float> found(static_cast<size_t>(count));  // so that nothing is half written
    const facetalk::cpu::FieldRunner runner{&field->bound->packed.model(),
                                            &facetalk::cpu::field_kernels(facetalk::simd_level())};
    facetalk::cpu::FieldFrames frame;
    frame.biases = biases.empty() ? nullptr : biases.data();
    for (int64_t first = 0; first < count; first += kTogether) {
      const int64_t n = std::min(kTogether, count - first);
      for (int64_t i = 0; i < 3 * n; ++i)
        scaled[static_cast<size_t>(i)] = points[3 * first + i] / facetalk::head::kMetres;
      float* out = found.data() + first;
      if (field->device != nullptr) {
        field->device->query(frame.biases, scaled.data(), n, out);
      } else {
        facetalk::cpu::FieldOutputs outputs;
        outputs.sdf = out;
        facetalk::cpu::field_query(runner, frame, scaled.data(), n, 3, outputs);
      }
    }
    for (int64_t i = 0; i < count; ++i)
      distances[i] = found[static_cast<size_t>(i)] * facetalk::head::kMetres;
  });
}

void facetalk_field_free(facetalk_field* field) { delete field; }
