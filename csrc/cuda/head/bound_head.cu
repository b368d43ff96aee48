#include <algorithm>
#include <vector>

#include "core/status.h"
#include "cuda/field/field_launch.cuh"
#include "cuda/head/bound_head.h"

namespace facetalk::cuda {
namespace {

constexpr int kCopyThreads = 256;
constexpr float kHalfCut = 9.210340371976184f;  // -log(1e-4), facetalk/ops/field/source.py's HALF_CULL

// y (n, coords) of points (n, 3), hyper-coordinates 0.
__global__ void __launch_bounds__(kCopyThreads)
    head_canonical_kernel(const float* points, int64_t n, int coords, float* y) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kCopyThreads + threadIdx.x;
  if (at >= n * coords) return;
  const int64_t point = at / coords;
  const int c = static_cast<int>(at % coords);
  y[at] = c < 3 ? points[3 * point + c] : 0.0f;
}

template <typename T>
DeviceBuffer kept(Workplace& place, const T* values, int64_t count) {
  DeviceBuffer out(static_cast<size_t>(count) * sizeof(T));
  place.upload(out.as<void>(), values, static_cast<size_t>(count) * sizeof(T));
  return out;
}

}  // namespace

BoundHead::BoundHead(const FieldModel& model, FieldPrecision precision, Workplace& place)
    : place_(place),
      deforms_(model.deformation.layers > 0),
      coords_(model.identity.coords),
      deformation_(model.deformation) {
  const int64_t members = model.anchors + 1;
  const int sets = *std::max_element(model.member_set, model.member_set + members) + 1;
  const bool is_half = precision != FieldPrecision::kFloat32;
  identity_ = pack_network(model.identity, sets, precision, false, place);
  identity_plan_ = field_plan(identity_.mlp, precision, false, 0);
  if (deforms_) {
    bool staged = is_half && field_wgmma_missing().empty();
    if (staged) {
      try {
        moves_ = pack_network(model.deformation, 1, precision, true, place);
        moves_plan_ = field_plan(moves_.mlp, precision, false, 0);
      } catch (const ArgumentError&) {
        staged = false;  // the other kernel takes wider networks
      }
    }
    if (!staged) {
      moves_ = pack_network(model.deformation, 1, precision, false, place);
      moves_plan_ = field_plan(moves_.mlp, precision, false, 0);
    }
  }
  anchors_ = kept(place, model.anchor, 3 * (members - 1));
  mirror_ = kept(place, model.mirror, members);
  member_set_ = kept(place, model.member_set, members);
  const std::vector<float> biases = pack_biases(model.identity, identity_.mlp, members, model.member_bias);
  member_bias_ = kept(place, biases.data(), static_cast<int64_t>(biases.size()));
  place.wait();
  route_.blending = model.blending;
  route_.anchors = model.anchors;
  route_.coords = coords_;
  route_.neighbours = model.neighbours;
  route_.blend_std = model.blend_std;
  route_.cut = is_half ? std::min(model.cut, kHalfCut) : model.cut;
  route_.anchor = anchors_.as<const float>();
}

const float* BoundHead::frame(const float* biases) const {
  if (biases == nullptr) return nullptr;
  const std::vector<float> row = pack_biases(deformation_, moves_.mlp, 1, biases);
  auto* out = place_.take<float>(static_cast<int64_t>(row.size()));
  place_.upload(out, row.data(), row.size() * sizeof(float));
  return out;
}

void BoundHead::deform(const float* points, int64_t n, const float* frame, float* y, float* offsets) const {
  if (n == 0) return;
  if (frame == nullptr) {
    launch_threads<kCopyThreads>("head_canonical", head_canonical_kernel, n * coords_, place_.stream(),
                                 points, n, coords_, y);
    return;
  }
  FieldSegments segments;
  segments.points = points;
  segments.length = n;
  segments.count = 1;
  segments.bias = frame;
  segments.y = y;
  segments.offsets = offsets;
  field_deform(moves_.mlp, moves_plan_, segments, place_.stream());
}

void BoundHead::blend(const float* y, int64_t n, float* sdf, float* raw_sdf) const {
  if (n == 0) return;
  const Piece piece(place_);
  const int64_t members = route_.anchors + 1, blocks = ceil_div(n, kFieldRouteBlock);
  const int64_t pairs = n * field_most_pairs(route_);
  FieldRoute route = route_;
  route.y = y;
  route.n = n;
  route.mask = place_.take<uint32_t>(members * blocks * (kFieldRouteBlock / 32));
  route.block_start = place_.take<int32_t>(members * blocks);
  route.member_total = place_.take<int32_t>(members);
  route.start = place_.take<int32_t>(members + 1);
  route.tile_start = place_.take<int32_t>(members + 1);
  route.point = place_.take<int32_t>(pairs);
  route.inverse = place_.take<float>(n);
  route.unshrink = place_.take<float>(n);
  route.sigma = place_.take<float>(n);
  route.scale_from = place_.take<int32_t>(n);
  field_route(route, identity_plan_.points, place_.stream());
  FieldPairs work;
  work.y = y;
  work.anchor = route.anchor;
  work.mirror = mirror_.as<const float>();
  work.member_set = member_set_.as<const int32_t>();
  work.bias = member_bias_.as<const float>();
  work.start = route.start;
  work.tile_start = route.tile_start;
  work.point = route.point;
  work.value = place_.take<float>(pairs);
  work.anchors = route.anchors;
  field_members(identity_.mlp, identity_plan_, work, place_.stream());
  FieldCombine combine;
  combine.value = work.value;
  combine.sdf = sdf;
  combine.raw_sdf = raw_sdf;
  field_combine(route, combine, place_.stream());
}

void BoundHead::evaluate(const float* points, int64_t n, const float* frame, float* sdf,
                         float* raw_sdf) const {
  for (int64_t first = 0; first < n; first += kTogether) {
    const Piece piece(place_);
    const int64_t count = std::min(kTogether, n - first);
    auto* y = place_.take<float>(count * coords_);
    deform(points + 3 * first, count, frame, y, nullptr);
    blend(y, count, sdf + first, raw_sdf == nullptr ? nullptr : raw_sdf + first);
  }
}

}  // namespace facetalk::cuda
