// Rigs behind the C interface.
#include "cpu/head/rig.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "capi/guard.h"
#include "capi/mesh.h"
#include "capi/model.h"
#include "core/number_text.h"
#include "cpu/normals.h"

using facetalk::ArgumentError;
using facetalk::capi::checked_code;
using facetalk::capi::Context;
using facetalk::capi::context_of;
using facetalk::capi::guarded;
using facetalk::capi::require;
using facetalk::capi::require_finite;
using facetalk::capi::view_of;

struct facetalk_rig {
  Context context;
  facetalk::head::Rig rig;
};

namespace {

void require_weights(const float* weights, size_t count, const char* name) {
  require_finite(weights, count, name);
  for (size_t i = 0; i < count; ++i) {
    if (std::abs(weights[i]) > 100.0f)
      throw ArgumentError(name, "weights up to 100", facetalk::number_text(weights[i]));
  }
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

int32_t facetalk_rig_tongue_count(const facetalk_rig* rig) {
  return rig == nullptr ? 0 : static_cast<int32_t>(rig->rig.tongue());
}

facetalk_status facetalk_rig_pose(const facetalk_rig* rig, const float* curves, float* positions,
                                  float* normals) {
  return facetalk_rig_pose_with_tongue(rig, curves, nullptr, positions, normals);
}

facetalk_status facetalk_rig_pose_with_tongue(const facetalk_rig* rig, const float* curves,
                                              const float* tongue, float* positions, float* normals) {
  return guarded(context_of(rig), [&] {
    require(rig, "rig");
    require(curves, "curves");
    require(positions, "positions");
    require_weights(curves, rig->rig.curves(), "curves");
    if (tongue != nullptr) {
      if (rig->rig.tongue() == 0)
        throw facetalk::Unsupported("this head has no tongue that moves: facetalk_rig_tongue_count() is 0");
      require_weights(tongue, rig->rig.tongue(), "tongue");
    }
    rig->rig.pose(curves, tongue, positions);
    if (normals == nullptr) return;
    const int64_t count = rig->rig.vertices(), faces = facetalk_rig_face_count(rig);
    facetalk::cpu::vertex_normals(view_of(positions, {1, count, 3}),
                                  view_of(rig->rig.faces().data(), {faces, 3}),
                                  view_of(normals, {1, count, 3}));
  });
}

void facetalk_rig_free(facetalk_rig* rig) { delete rig; }
