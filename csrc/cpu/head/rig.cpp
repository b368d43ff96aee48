#include "cpu/head/rig.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <optional>

#include "core/status.h"
#include "cpu/head/head_files.h"
#include "cpu/head/tongue.h"

namespace facetalk::head {
namespace {

using network::FileError;

constexpr float kMetres = 0.25f;  // of a head unit
constexpr int64_t kBlock = 2048;  // points that the networks see at a time
constexpr size_t kPiece =
    4080;  // coordinates that stay in the nearest cache while all weights pass over them
constexpr size_t kGroup =
    48;  // of them that are kept or left out together: whole vectors at every SIMD level
// A gaze of one degree is a weight of 0.033 of eyeLook*, as in facetalk/data/visemes.json.
constexpr double kRadiansPerWeight = 1.0 / 0.033 * std::numbers::pi / 180.0;

// Turning axis of a weight of gaze: up is a negative turn about +x, towards the head's left a positive one
// about +y.
struct Gaze {
  const char* name;
  bool left;
  float axis[3];
};
constexpr Gaze kGaze[] = {
    {"eyeLookUp_L", true, {-1, 0, 0}},   {"eyeLookDown_L", true, {1, 0, 0}},
    {"eyeLookOut_L", true, {0, 1, 0}},   {"eyeLookIn_L", true, {0, -1, 0}},
    {"eyeLookUp_R", false, {-1, 0, 0}},  {"eyeLookDown_R", false, {1, 0, 0}},
    {"eyeLookOut_R", false, {0, -1, 0}}, {"eyeLookIn_R", false, {0, 1, 0}},
};

double distance(const float* a, const float* b) {
  const double x = a[0] - b[0], y = a[1] - b[1], z = a[2] - b[2];
  return std::sqrt(x * x + y * y + z * z);
}

// Of a turn by a rotation vector: Rodrigues' formula, row by row.
void rotation(const double (&turn)[3], double (&matrix)[9]) {
  const double square = turn[0] * turn[0] + turn[1] * turn[1] + turn[2] * turn[2], angle = std::sqrt(square);
  const double half = angle < 1e-9 ? 0.5 : std::sin(0.5 * angle) / angle;
  const double sine = angle < 1e-9 ? 1.0 : std::sin(angle) / angle, rest = 2.0 * half * half;
  const double cross[9] = {0.0, -turn[2], turn[1], turn[2], 0.0, -turn[0], -turn[1], turn[0], 0.0};
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) {
      const double same = i == j ? 1.0 - rest * square : 0.0;
      matrix[3 * i + j] = same + sine * cross[3 * i + j] + rest * turn[i] * turn[j];
    }
  }
}

}  // namespace

FacialSmoothing::FacialSmoothing(const double (&centre)[3], const double (&sigma)[3],
                                 const float (&bounds)[6]) {
  double far = 0.0, near = 0.0;
  for (int a = 0; a < 3; ++a) {
    centre_[a] = centre[a];
    sigma_[a] = sigma[a];
    const double low = bounds[a] - centre[a], high = bounds[3 + a] - centre[a];
    const double most = std::max(std::abs(low), std::abs(high)) / sigma[a];
    const double least = std::max({low, 0.0, -high}) / sigma[a];
    far += most * most;
    near += least * least;
  }
  lowest_ = std::exp(-0.5 * far);
  highest_ = std::exp(-0.5 * near);
  if (!(highest_ - lowest_ > 0.0)) throw FileError("geometry: the facial smoothing's weight does not vary");
}

float FacialSmoothing::weight(const float* point) const {
  double sum = 0.0;
  for (int a = 0; a < 3; ++a) {
    const double d = (point[a] - centre_[a]) / sigma_[a];
    sum += d * d;
  }
  return static_cast<float>(std::clamp((std::exp(-0.5 * sum) - lowest_) / (highest_ - lowest_), 0.0, 1.0));
}

Rig::Rig(const std::string& folder, const std::vector<std::string>& names, const FacialSmoothing& smoothing,
         const std::vector<float>& code) {
  HeadFiles head(folder);
  if (head.names != names)
    throw FileError(folder + ": its expression_names are not those of the motion model");
  if (!code.empty() && static_cast<int>(code.size()) != head.code_size)
    throw ArgumentError("identity", std::to_string(head.code_size) + " values", std::to_string(code.size()));
  const Shape shape = shape_of(head, code);
  curves_ = names.size();
  faces_ = std::move(head.faces);
  const auto count = static_cast<int64_t>(head.part.size());
  std::vector<float> basis((curves_ + kTongueShapes) * static_cast<size_t>(3 * count));
  if (head.mesh) {
    wear(head, shape, smoothing, basis);
    add_tongue(head, shape, smoothing, basis);
  } else {
    ask(head, shape, smoothing, basis);
  }
  // At zero weights the rig shows the neutral face, not the canonical shape with its slightly open jaw.
  neutral_.resize(shape.vertices.size());
  for (size_t i = 0; i < neutral_.size(); ++i) neutral_[i] = shape.vertices[i] * kMetres;
  for (size_t e = 0; e < curves_; ++e) {
    if (head.rest[e] != 0.0f)
      network::network_kernels().add_scaled(neutral_.data(), basis.data() + e * neutral_.size(),
                                            -head.rest[e], static_cast<int64_t>(neutral_.size()));
  }
  find_eyes(head, shape);
  keep(basis);
}

// Eyeballs turn about their centres and do nothing else.
void Rig::find_eyes(const HeadFiles& head, const Shape& shape) {
  for (size_t side = 0; side < 2; ++side) {
    Eye& eye = eyes_[side];
    for (int a = 0; a < 3; ++a) eye.centre[a] = kMetres * shape.eyes[side][a];
    for (const Gaze& gaze : kGaze) {
      const auto found = std::find(head.names.begin(), head.names.end(), gaze.name);
      if (found == head.names.end() || gaze.left != (side == 0)) continue;
      eye.turns.push_back({static_cast<size_t>(found - head.names.begin()), {}});
      for (int a = 0; a < 3; ++a) eye.turns.back().rate[a] = kRadiansPerWeight * gaze.axis[a];
    }
  }
  for (size_t vertex = 0; vertex < head.part.size(); ++vertex) {
    if (head.part[vertex] != kEyeballs) continue;
    const float* point = shape.vertices.data() + 3 * vertex;
    const bool left = distance(point, shape.eyes[0]) < distance(point, shape.eyes[1]);
    eyes_[left ? 0 : 1].vertices.push_back(vertex);
  }
  std::vector<float> back(head.rest);
  for (float& weight : back) weight = -weight;
  turn_eyes(back.data(), neutral_.data());
}

void Rig::turn_eyes(const float* weights, float* positions) const {
  for (const Eye& eye : eyes_) {
    double turn[3] = {}, matrix[9];
    for (const auto& [curve, rate] : eye.turns) {
      for (int a = 0; a < 3; ++a) turn[a] += static_cast<double>(weights[curve]) * rate[a];
    }
    if (turn[0] == 0.0 && turn[1] == 0.0 && turn[2] == 0.0) continue;
    rotation(turn, matrix);
    for (const size_t vertex : eye.vertices) {
      float* point = positions + 3 * vertex;
      const double arm[3] = {point[0] - eye.centre[0], point[1] - eye.centre[1], point[2] - eye.centre[2]};
      for (int a = 0; a < 3; ++a) {
        const double* row = matrix + 3 * a;
        point[a] = static_cast<float>(eye.centre[a] + row[0] * arm[0] + row[1] * arm[1] + row[2] * arm[2]);
      }
    }
  }
}

void Rig::keep(const std::vector<float>& basis) {
  for (size_t piece = 0; piece < neutral_.size(); piece += kPiece) {
    const size_t end = std::min(piece + kPiece, neutral_.size());
    for (size_t e = 0; e < curves_ + tongue_; ++e) {
      const float* moves = basis.data() + e * neutral_.size();
      bool goes_on = false;
      for (size_t first = piece; first < end; first += kGroup) {
        const size_t size = std::min(kGroup, end - first);
        const bool moved =
            std::any_of(moves + first, moves + first + size, [](float m) { return m != 0.0f; });
        if (moved && goes_on) runs_.back().size += size;
        if (moved && !goes_on) runs_.push_back({e, first, size, moves_.size()});
        if (moved) moves_.insert(moves_.end(), moves + first, moves + first + size);
        goes_on = moved;
      }
    }
  }
  moves_.shrink_to_fit();
}

// Displacements that the template mesh comes with.
void Rig::wear(const HeadFiles& head, const Shape& shape, const FacialSmoothing& smoothing,
               std::vector<float>& basis) const {
  for (size_t vertex = 0; vertex < head.part.size(); ++vertex) {
    if (head.part[vertex] == kEyeballs) continue;
    const float scale = kMetres * smoothing.weight(shape.vertices.data() + 3 * vertex);
    for (size_t e = 0; e < curves_; ++e) {
      const size_t to = e * shape.vertices.size() + 3 * vertex;
      for (size_t a = 0; a < 3; ++a) basis[to + a] = shape.basis[to + a] * scale;
    }
  }
}

// Displacements of the tongue of this identity's own mouth, as Person.tongue has them.
void Rig::add_tongue(const HeadFiles& head, const Shape& shape, const FacialSmoothing& smoothing,
                     std::vector<float>& basis) {
  const auto jaw =
      static_cast<size_t>(std::find(head.names.begin(), head.names.end(), kJaw) - head.names.begin());
  const std::optional<Mouth> mouth = Mouth::of(*head.mesh, head.rest);
  if (!mouth || jaw == curves_) return;
  const size_t size = shape.vertices.size();
  const std::vector<float> neutral = neutral_of(shape.vertices, head.rest, shape.basis);
  const std::vector<float> moves = tongue_shapes(*mouth, neutral, shape.basis.data() + jaw * size);
  tongue_ = kTongueShapes;
  for (const size_t vertex : mouth->body) {
    const float scale = kMetres * smoothing.weight(shape.vertices.data() + 3 * vertex);
    for (size_t i = 0; i < kTongueShapes; ++i) {
      for (size_t a = 0; a < 3; ++a) {
        const float move = moves[i * size + 3 * vertex + a];
        if (!std::isfinite(move))
          throw ArgumentError("identity: gives no mouth; codes of heads have values of about 1 and less");
        basis[(curves_ + i) * size + 3 * vertex + a] = move * scale;
      }
    }
  }
}

// Displacements by the field of blend shapes.
void Rig::ask(const HeadFiles& head, const Shape& shape, const FacialSmoothing& smoothing,
              std::vector<float>& basis) const {
  const auto count = static_cast<int64_t>(head.part.size());
  const PointNetwork& network = head.networks[0];
  const int inputs = network.inputs();
  std::vector<float> features(static_cast<size_t>(kBlock * inputs)),
      out(static_cast<size_t>(kBlock) * 3 * curves_);
  network::Floats scratch[2];
  for (int64_t first = 0; first < count; first += kBlock) {
    const int64_t rows = std::min(kBlock, count - first);
    std::fill(features.begin(), features.end(), 0.0f);
    for (int64_t row = 0; row < rows; ++row) {
      float* feature = features.data() + row * inputs;
      encode_frequencies(shape.points.data() + 3 * (first + row), head.frequencies, feature);
      feature[3 + 6 * head.frequencies + head.part[static_cast<size_t>(first + row)]] = 1.0f;
    }
    network.run(features.data(), rows, out.data(), scratch);
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t vertex = first + row;
      if (head.part[static_cast<size_t>(vertex)] == kEyeballs) continue;
      const float* found = out.data() + static_cast<size_t>(row) * 3 * curves_;
      const float scale = kMetres * kCentimetre * smoothing.weight(shape.vertices.data() + 3 * vertex);
      for (size_t e = 0; e < curves_; ++e) {
        float* to = basis.data() + (e * static_cast<size_t>(count) + static_cast<size_t>(vertex)) * 3;
        for (size_t a = 0; a < 3; ++a) to[a] = found[3 * e + a] * scale;
      }
    }
  }
}

void Rig::pose(const float* weights, const float* tongue, float* positions) const {
  std::copy(neutral_.begin(), neutral_.end(), positions);
  const network::NetworkKernels& kernels = network::network_kernels();
  for (const Run& run : runs_) {
    float weight = 0.0f;
    if (run.curve < curves_) {
      weight = weights[run.curve];
    } else if (tongue != nullptr) {
      weight = tongue[run.curve - curves_];
    }
    if (weight != 0.0f)
      kernels.add_scaled(positions + run.first, moves_.data() + run.at, weight,
                         static_cast<int64_t>(run.size));
  }
  turn_eyes(weights, positions);
}

}  // namespace facetalk::head
