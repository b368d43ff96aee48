// Rigs behind the C interface.
#include "cpu/head/rig.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "capi/guard.h"
#include "capi/mesh.h"
#include "capi/model.h"
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
