#include "cpu/head/tongue.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "core/platform/files.h"
#include "cpu/head/head_files.h"

namespace facetalk::head {
namespace {

using network::FileError;

// facetalk/nphm/head/tongue.py has the reasons for these.
constexpr double kMillimetres = 250.0;  // of a head unit
constexpr float kBodyU = 2.3f;
constexpr double kLength = 36.0, kHeld = 12.0, kClear = 1.0;
constexpr double kRidgeJaw = 0.2, kTeethJaw = 0.1, kOpenJaw = 0.25;
constexpr double kProtrusion = 3.0, kHeldBack = 5.0;
constexpr double kSlopeY = 0.63, kSlopeZ = 0.78;

// Regions of facetalk/nphm/head/regions.py.
constexpr uint8_t kUpperGum = 3, kTongue = 5, kUpperTeeth = 6, kLowerTeeth = 7;
constexpr size_t kNone = static_cast<size_t>(-1);
constexpr size_t kMostPairs = size_t{1} << 27;  // of vertices whose distance is looked at; a second

struct Point {
  double x, y, z;
};

Point operator+(Point a, Point b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
Point operator*(double s, Point a) { return {s * a.x, s * a.y, s * a.z}; }

double square_between(Point a, Point b) {
  const double x = a.x - b.x, y = a.y - b.y, z = a.z - b.z;
  return x * x + y * y + z * z;
}

// Of (V, 3) in head units, in millimetres.
Point point_of(const float* points, size_t vertex) {
  const float* p = points + 3 * vertex;
  return {p[0] * kMillimetres, p[1] * kMillimetres, p[2] * kMillimetres};
}

double unit(double share) { return std::clamp(share, 0.0, 1.0); }

// A smooth step from 0 to 1.
double ease(double share) {
  share = unit(share);
  return share * share * (3.0 - 2.0 * share);
}

}  // namespace

std::optional<Mouth> Mouth::of(const TemplateShapes& mesh, const std::vector<float>& rest) {
  const std::vector<float> neutral = mesh.neutral(rest);
  const auto place = [&](size_t vertex) { return point_of(neutral.data(), vertex); };
  const auto count = static_cast<size_t>(mesh.count());
  Mouth mouth;
  std::vector<char> mine(count, 0);
  for (size_t v = 0; v < count; ++v) {
    mine[v] = mesh.region[v] == kTongue && mesh.leftmost[v] > kBodyU;
    if (mine[v]) mouth.body.push_back(v);
  }
  if (mouth.body.empty()) return std::nullopt;

  std::vector<char> on_seam(count, 0);
  for (size_t f = 0; f < mesh.faces.size(); f += 3) {
    size_t corners[3], inside = 0;
    for (size_t k = 0; k < 3; ++k) {
      corners[k] = static_cast<size_t>(mesh.faces[f + k]);
      inside += mine[corners[k]];
    }
    if (inside == 0 || inside == 3) continue;
    for (const size_t corner : corners) on_seam[corner] |= mine[corner];
  }
  std::vector<size_t> seam;
  std::copy_if(mouth.body.begin(), mouth.body.end(), std::back_inserter(seam),
               [&](size_t v) { return on_seam[v]; });
  if (mouth.body.size() * seam.size() > kMostPairs)
    throw FileError("template.safetensors: its tongue has " + std::to_string(mouth.body.size()) +
                    " vertices");
  mouth.tip = mouth.body.front();
  for (const size_t v : mouth.body) {
    double nearest = INFINITY;
    for (const size_t other : seam) nearest = std::min(nearest, square_between(place(v), place(other)));
    mouth.loose.push_back(ease(std::sqrt(nearest) / kHeld));
    if (place(v).z > place(mouth.tip).z) mouth.tip = v;
  }

  const Point tip = place(mouth.tip);
  // The edges are those of the middle incisors: as far forward as teeth get, within a tooth's width.
  const auto edge = [&](uint8_t region, double sign) {
    size_t best = kNone;
    for (size_t v = 0; v < count; ++v) {
      const Point at = place(v);
      if (mesh.region[v] != region || !(std::abs(at.x) < 6.0) || !(at.z > tip.z + 4.0)) continue;
      if (best == kNone || sign * at.y > sign * place(best).y) best = v;
    }
    return best;
  };
  const auto near = [&](uint8_t region, Point wanted) {
    size_t best = kNone;
    double nearest = INFINITY;
    for (size_t v = 0; v < count; ++v) {
      const double square = mesh.region[v] == region ? square_between(place(v), wanted) : INFINITY;
      if (square < nearest) {
        nearest = square;
        best = v;
      }
    }
    return best;
  };
  mouth.upper = edge(kUpperTeeth, -1.0);
  mouth.lower = edge(kLowerTeeth, 1.0);
  if (mouth.upper == kNone || mouth.lower == kNone) return std::nullopt;
  const Point middle{0.0, place(mouth.upper).y, place(mouth.upper).z};
  mouth.blade = near(kTongue, tip + Point{0.0, 3.0, -1.5});
  mouth.ridge = near(kUpperGum, middle + Point{0.0, 10.5, -8.0});
  if (mouth.ridge == kNone) return std::nullopt;
  constexpr size_t kInnerLips[2][3] = {{61, 62, 63}, {67, 66, 65}};  // of the Multi-PIE landmarks
  for (size_t lip = 0; lip < 2; ++lip) {
    for (size_t k = 0; k < 3; ++k)
      mouth.lips[lip][k] = static_cast<size_t>(mesh.landmarks[kInnerLips[lip][k]]);
  }
  return mouth;
}

std::vector<float> tongue_shapes(const Mouth& mouth, const std::vector<float>& neutral, const float* jaw) {
  const auto place = [&](size_t vertex) { return point_of(neutral.data(), vertex); };
  const auto opened = [&](size_t vertex, double by) { return place(vertex) + by * point_of(jaw, vertex); };
  const Point tip = place(mouth.tip), blade = place(mouth.blade), upper = place(mouth.upper);

  const double share = std::pow(unit((blade.z - tip.z) / kLength + 1.0), 1.6);
  const Point ridge = place(mouth.ridge), lifted = opened(mouth.blade, kRidgeJaw);
  const double up_y = ridge.y - kClear * kSlopeY - lifted.y, up_z = ridge.z - kClear * kSlopeZ - lifted.z;

  const Point spoken = opened(mouth.tip, kTeethJaw);
  const double between = 0.5 * (upper.y + opened(mouth.lower, kTeethJaw).y);
  const double forward_y = between - spoken.y, forward_z = upper.z - spoken.z;

  double lip_y = 0.0, lip_z = 0.0;
  for (const size_t vertex : mouth.lips[1]) {
    lip_y += opened(vertex, kOpenJaw).y / 3.0;
    lip_z += opened(vertex, kOpenJaw).z / 3.0;
  }
  const Point lowered = opened(mouth.tip, kOpenJaw);
  const double out_y = lip_y + 1.5 - lowered.y, out_z = lip_z + 12.0 - lowered.z;

  std::vector<float> shapes(kTongueShapes * neutral.size(), 0.0f);
  for (size_t k = 0; k < mouth.body.size(); ++k) {
    const Point at = place(mouth.body[k]);
    const double along = unit((at.z - tip.z) / kLength + 1.0), front = ease((along - 0.5) / 0.42);
    const double flat = tip.y - at.y;
    // Up: a bend, with the blade at the ridge.
    const double bend = std::pow(along, 1.6) / share;
    const Point up{0.0, bend * up_y + 0.15 * front * flat, bend * up_z};
    // Forward: the tip between the edges of the teeth, thin enough to pass.
    const double pushed = std::pow(along, 1.3);
    const Point forward{0.0, pushed * forward_y + 0.6 * front * flat, pushed * forward_z};
    // Out: the whole body comes along, thin and a little narrower, and lies on the lower lip.
    const double further = unit((at.z - tip.z) / (kLength + 12.0) + 1.0), drawn = std::pow(further, 1.2);
    const double thin = ease((further - 0.25) / 0.5);
    const Point out{-0.12 * thin * at.x, drawn * out_y + 0.6 * thin * flat, drawn * out_z};

    const double scale = mouth.loose[k] / kMillimetres;
    float* to = shapes.data() + 3 * mouth.body[k];
    for (const Point& move : {up, forward, out}) {
      to[0] = static_cast<float>(move.x * scale);
      to[1] = static_cast<float>(move.y * scale);
      to[2] = static_cast<float>(move.z * scale);
      to += neutral.size();
    }
  }
  return shapes;
}

std::optional<Reach> Reach::read(const std::string& folder, const std::vector<std::string>& names) {
  const std::string worn = folder + "/template.safetensors";
  if (!platform::exists(worn)) return std::nullopt;
  const HeadSettings head(folder);
  const auto jaw =
      static_cast<size_t>(std::find(head.names.begin(), head.names.end(), kJaw) - head.names.begin());
  const network::Safetensors file(worn);
  const TemplateShapes mesh(file, worn, static_cast<int>(head.names.size()), head.parts);
  const std::optional<Mouth> mouth = Mouth::of(mesh, head.rest);
  if (!mouth || jaw == head.names.size()) return std::nullopt;
  if (head.names != names)
    throw FileError(folder + ": its expression_names are not those of the motion model");
  Reach reach(mesh, *mouth, mesh.neutral(head.rest), jaw);
  if (!reach.is_sound()) throw FileError(worn + ": its tongue gets nowhere; the mesh is damaged");
  return reach;
}

Reach::Reach(const TemplateShapes& mesh, const Mouth& mouth, const std::vector<float>& neutral, size_t jaw) {
  const std::vector<float> opening = mesh.displacement(jaw);
  const std::vector<float> shapes = tongue_shapes(mouth, neutral, opening.data());
  const auto shape = [&](size_t index, size_t vertex) {
    return point_of(shapes.data() + index * neutral.size(), vertex);
  };
  std::vector<size_t> followed = {mouth.blade, mouth.tip, mouth.lower};
  for (const auto& lip : mouth.lips) followed.insert(followed.end(), lip, lip + 3);
  const std::vector<std::vector<float>> moves = mesh.moves_of(followed);
  // What one of them is by the expressions and, last, at rest.
  const auto track = [&](size_t which, auto&& value) {
    Track found;
    for (size_t e = 0; e < moves[which].size() / 3; ++e)
      found.push_back(value(point_of(moves[which].data(), e)));
    found.push_back(value(point_of(neutral.data(), followed[which])));
    return found;
  };
  const auto slope = [](Point p) { return p.y * kSlopeY + p.z * kSlopeZ; };
  const auto height = [](Point p) { return p.y; };
  to_ridge_ = track(0, [&](Point p) { return -slope(p); });
  to_ridge_.back() += slope(point_of(neutral.data(), mouth.ridge)) - kClear;
  tip_y_ = track(1, height);
  tip_z_ = track(1, [](Point p) { return p.z; });
  lower_y_ = track(2, height);
  lips_.assign(tip_y_.size(), 0.0);
  for (size_t k = 3; k < followed.size(); ++k) {
    const Track found = track(k, height);
    for (size_t i = 0; i < lips_.size(); ++i) lips_[i] += (k < 6 ? 1.0 : -1.0) / 3.0 * found[i];
  }
  const Point edge = point_of(neutral.data(), mouth.upper);
  upper_[0] = edge.y;
  upper_[1] = edge.z;
  up_[0] = slope(shape(0, mouth.blade));
  up_[1] = shape(0, mouth.tip).y;
  forward_[0] = shape(1, mouth.tip).y;
  forward_[1] = shape(1, mouth.tip).z;
  out_ = shape(2, mouth.tip).z;
}

bool Reach::is_sound() const {
  for (const double divisor : {up_[0], up_[1], forward_[1]}) {
    if (!std::isfinite(divisor) || divisor == 0.0) return false;
  }
  return std::isfinite(forward_[0]) && std::isfinite(out_) && out_ >= kProtrusion;
}

void Reach::weights(const float* contacts, const float* curves, float* out) const {
  const auto at = [curves](const Track& track) {
    double sum = 0.0;
    for (size_t i = 0; i + 1 < track.size(); ++i) sum += static_cast<double>(curves[i]) * track[i];
    return sum + track.back();
  };
  const double ridge = unit(contacts[0]), teeth = unit(contacts[1]);
  const double tip_y = at(tip_y_), lower = at(lower_y_);
  const double passing = ease((upper_[0] - lower - 0.5) / 1.5);
  const double goal = upper_[1] - kHeldBack * (1.0 - passing);
  const double forward = unit((goal - at(tip_z_)) / forward_[1]);
  const double lacking = 0.5 * (upper_[0] + lower) - tip_y - forward * forward_[0];
  const double at_teeth = unit(lacking / up_[1]), at_ridge = unit(at(to_ridge_) / up_[0]);
  const double outside = passing * ease((at(lips_) - 1.0) / 2.0) * (kProtrusion / out_);
  out[0] = static_cast<float>((1.0 - teeth) * ridge * at_ridge + teeth * at_teeth);
  out[1] = static_cast<float>(teeth * forward);
  out[2] = static_cast<float>(teeth * outside);
}

}  // namespace facetalk::head
