// The canonical mesh of an identity, carried there from that of the head's own.
#include <algorithm>
#include <cmath>

#include "core/cpu_features.h"
#include "core/status.h"
#include "cpu/head/field_model.h"
#include "cpu/head/head_files.h"

namespace facetalk::head {
namespace {

constexpr int64_t kBlock = 2048;
constexpr int kTurns = 12;  // of the fixed point; displacements between heads are far smaller than their size
constexpr int kSteps = 8;   // Newton's, at most
constexpr float kConverged = 1e-4f;     // head units, 0.025 mm
constexpr double kFarthest = 0.04;      // that these move a point in all, head units, 1 cm
constexpr float kOnSurface = 0.001f;    // head units, 0.25 mm
constexpr double kVariance = 0.01;      // of NPHM's blending weights
constexpr float kCodeRounding = 1e-3f;  // of a code that coefficients make

// Coefficients whose code is nearest: least squares by the normal equations (Cholesky), in double.
std::vector<double> coefficients_of(const HeadFiles& head, const std::vector<float>& code) {
  const int n = head.coefficients;
  std::vector<double> normal(static_cast<size_t>(n) * static_cast<size_t>(n)), right(static_cast<size_t>(n));
  for (int row = 0; row < head.code_size; ++row) {
    const float* from = head.encoder.data() + static_cast<int64_t>(row) * n;
    for (int i = 0; i < n; ++i) {
      right[static_cast<size_t>(i)] += static_cast<double>(from[i]) * code[static_cast<size_t>(row)];
      for (int j = 0; j <= i; ++j)
        normal[static_cast<size_t>(i * n + j)] += static_cast<double>(from[i]) * from[j];
    }
  }
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j <= i; ++j) {
      double sum = normal[static_cast<size_t>(i * n + j)];
      for (int k = 0; k < j; ++k)
        sum -= normal[static_cast<size_t>(i * n + k)] * normal[static_cast<size_t>(j * n + k)];
      if (i == j && !(sum > 0.0))
        throw network::FileError("encoder.safetensors: its columns depend on each other");
      normal[static_cast<size_t>(i * n + j)] =
          i == j ? std::sqrt(sum) : sum / normal[static_cast<size_t>(j * n + j)];
    }
  }
  for (int i = 0; i < n; ++i) {
    for (int k = 0; k < i; ++k)
      right[static_cast<size_t>(i)] -= normal[static_cast<size_t>(i * n + k)] * right[static_cast<size_t>(k)];
    right[static_cast<size_t>(i)] /= normal[static_cast<size_t>(i * n + i)];
  }
  for (int i = n - 1; i >= 0; --i) {
    for (int k = i + 1; k < n; ++k)
      right[static_cast<size_t>(i)] -= normal[static_cast<size_t>(k * n + i)] * right[static_cast<size_t>(k)];
    right[static_cast<size_t>(i)] /= normal[static_cast<size_t>(i * n + i)];
  }
  return right;
}

// The template map (facetalk/nphm/head/rig.py): where canonical points of an identity lie on the mean head.
class TemplateMap {
 public:
  TemplateMap(const HeadFiles& head, const std::vector<float>& code, const std::vector<float>& anchors)
      : head_(head), anchors_(anchors), compressed_(static_cast<size_t>(head.template_code)) {
    head.compressor.run(code.data(), 1, compressed_.data());
  }

  // How far the map moves the points: T(x) - x.
  void moves(const float* points, const uint8_t* part, int64_t rows, float* out) {
    const PointNetwork& network = head_.networks[1];
    const int inputs = network.inputs(), place = 3 + 6 * kTemplateOctaves;
    float* given = features_.need(2 * rows * inputs);
    float* found = found_.need(6 * rows);
    std::fill(given, given + 2 * rows * inputs, 0.0f);
    for (int64_t row = 0; row < rows; ++row) {
      float* shift = out + 3 * row;
      blend(points + 3 * row, shift);
      const float start[3] = {points[3 * row] + shift[0], points[3 * row + 1] + shift[1],
                              points[3 * row + 2] + shift[2]};
      float* feature = given + row * inputs;
      encode_frequencies(start, kTemplateOctaves, feature);
      feature[place + part[row]] = 1.0f;
      std::copy(feature, feature + inputs, given + (rows + row) * inputs);  // with the code of zeros
      std::copy(compressed_.begin(), compressed_.end(), feature + place + head_.parts);
    }
    network.run(given, 2 * rows, found, scratch_);
    for (int64_t i = 0; i < 3 * rows; ++i) out[i] += (found[i] - found[3 * rows + i]) * kCentimetre;
  }

 private:
  // Minus the anchors' displacements, blended.
  void blend(const float* point, float* out) const {
    const auto count = static_cast<int>(anchors_.size() / 3);
    double nearest = INFINITY, total = 0.0, sums[3] = {};
    double squares[4096];
    for (int k = 0; k < count; ++k) {
      double square = 0.0;
      for (int a = 0; a < 3; ++a) {
        const double d = point[a] - anchors_[static_cast<size_t>(3 * k + a)];
        square += d * d;
      }
      squares[k] = square;
      nearest = std::min(nearest, square);
    }
    for (int k = 0; k < count; ++k) {
      const double weight = std::exp((nearest - squares[k]) / kVariance);
      total += weight;
      for (int a = 0; a < 3; ++a) {
        const auto at = static_cast<size_t>(3 * k + a);
        sums[a] += weight * (anchors_[at] - head_.anchors_mean[at]);
      }
    }
    for (int a = 0; a < 3; ++a) out[a] = static_cast<float>(-sums[a] / total);
  }

  const HeadFiles& head_;
  const std::vector<float>& anchors_;
  std::vector<float> compressed_;
  network::Floats features_, found_, scratch_[2];
};

// Which vertices lie on the surface of the head's own identity: all but eyeballs, what is tucked in behind
// the lids, and the cap of the neck.
std::vector<char> on_surface(const HeadFiles& head, const FieldModel& model) {
  const auto own = model.bind(std::vector<float>(static_cast<size_t>(head.code_size), 0.0f));
  const cpu::FieldRunner runner{&own->packed.model(), &cpu::field_kernels(simd_level())};
  std::vector<float> value(head.part.size());
  cpu::FieldOutputs outputs;
  outputs.sdf = value.data();
  cpu::field_query(runner, {}, head.vertices.data(), static_cast<int64_t>(value.size()), 3, outputs);
  std::vector<char> out;
  for (size_t i = 0; i < value.size(); ++i)
    out.push_back(head.part[i] != kEyeballs && std::abs(value[i]) < kOnSurface);
  return out;
}

// Moves points onto the zero set by Newton steps along the gradient, as Person.project does, but until they
// are there.
void project(const BoundField& bound, const std::vector<char>& wanted, std::vector<float>& points) {
  const cpu::FieldRunner runner{&bound.packed.model(), &cpu::field_kernels(simd_level())};
  const std::vector<float> start(points);
  std::vector<size_t> active;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i]) active.push_back(i);
  }
  std::vector<float> place, value, gradient;
  for (int step = 0; step < kSteps && !active.empty(); ++step) {
    place.clear();
    for (const size_t i : active)
      place.insert(place.end(), points.begin() + static_cast<std::ptrdiff_t>(3 * i),
                   points.begin() + static_cast<std::ptrdiff_t>(3 * i + 3));
    value.resize(active.size());
    gradient.resize(place.size());
    cpu::FieldOutputs outputs;
    outputs.sdf = value.data();
    outputs.gradient = gradient.data();
    cpu::field_query(runner, {}, place.data(), static_cast<int64_t>(active.size()), 3, outputs);
    std::vector<size_t> left;
    for (size_t n = 0; n < active.size(); ++n) {
      if (std::abs(value[n]) < kConverged) continue;
      const size_t i = active[n];
      left.push_back(i);
      double square = 0.0, offset[3], length = 0.0;
      for (size_t a = 0; a < 3; ++a) square += static_cast<double>(gradient[3 * n + a]) * gradient[3 * n + a];
      for (size_t a = 0; a < 3; ++a) {
        offset[a] =
            place[3 * n + a] - value[n] / std::max(square, 0.05) * gradient[3 * n + a] - start[3 * i + a];
        length += offset[a] * offset[a];
      }
      const double scale = std::min(kFarthest / std::max(std::sqrt(length), 1e-12), 1.0);
      for (size_t a = 0; a < 3; ++a)
        points[3 * i + a] = static_cast<float>(start[3 * i + a] + offset[a] * scale);
    }
    active = std::move(left);
  }
}

// Eyeballs stay round: they move and grow as the linear model says.
void round_eyes(const HeadFiles& head, Shape& shape) {
  for (size_t i = 0; i < head.part.size(); ++i) {
    if (head.part[i] != kEyeballs) continue;
    const float* own = head.vertices.data() + 3 * i;
    double nearest[2] = {};
    for (int eye = 0; eye < 2; ++eye) {
      for (int a = 0; a < 3; ++a)
        nearest[eye] += std::pow(own[a] - head.eyes_mean[static_cast<size_t>(4 * eye + a)], 2);
    }
    const int eye = nearest[0] < nearest[1] ? 0 : 1;
    const float* mean = head.eyes_mean.data() + 4 * eye;
    for (int a = 0; a < 3; ++a)
      shape.vertices[3 * i + static_cast<size_t>(a)] =
          shape.eyes[eye][a] + (own[a] - mean[a]) * shape.eyes[eye][3] / mean[3];
  }
}

// Where the inverse of an identity's template map puts points (N, 3) of the mean head.
std::vector<float> carried(const HeadFiles& head, const FieldModel& model, const std::vector<float>& code) {
  const std::unique_ptr<BoundField> bound = model.bind(code);
  if (bound->anchors.size() != head.anchors_mean.size())
    throw network::FileError(head.folder + ": its anchors differ");
  TemplateMap map(head, code, bound->anchors);
  std::vector<float> out(head.vertices), moved(static_cast<size_t>(3 * kBlock));
  const auto count = static_cast<int64_t>(head.part.size());
  for (int64_t first = 0; first < count; first += kBlock) {
    const int64_t rows = std::min(kBlock, count - first);
    float* points = out.data() + 3 * first;
    for (int turn = 0; turn < kTurns; ++turn) {
      map.moves(points, head.part.data() + first, rows, moved.data());
      for (int64_t i = 0; i < 3 * rows; ++i)
        points[i] = head.vertices[static_cast<size_t>(3 * first + i)] - moved[static_cast<size_t>(i)];
    }
  }
  return out;
}

// What the networks say of a code beyond the identity coefficients nearest to it, added to the shape.
void add_the_rest(const HeadFiles& head, const std::vector<float>& code,
                  const std::vector<double>& coefficients, Shape& shape) {
  std::vector<float> near(code.size());
  float farthest = 0.0f;
  for (size_t row = 0; row < near.size(); ++row) {
    double sum = 0.0;
    for (size_t c = 0; c < coefficients.size(); ++c)
      sum += static_cast<double>(head.encoder[row * coefficients.size() + c]) * coefficients[c];
    near[row] = static_cast<float>(sum);
    farthest = std::max(farthest, std::abs(near[row] - code[row]));
  }
  if (farthest <= kCodeRounding) return;
  const FieldModel model(head.folder);
  const std::vector<float> here = carried(head, model, code), there = carried(head, model, near);
  for (size_t i = 0; i < here.size(); ++i) {
    if (head.part[i / 3] != kEyeballs) shape.vertices[i] += here[i] - there[i];
  }
}

void check(const Shape& shape) {
  for (const float value : shape.vertices) {
    if (!(std::abs(value) < 100.0f))
      throw ArgumentError("identity: gives no head; codes of heads have values of about 1 and less");
  }
}

// The template mesh in the shape of an identity, its seams closed.
void wear(const HeadFiles& head, const std::vector<float>& code, const std::vector<double>& coefficients,
          Shape& shape) {
  if (!coefficients.empty()) {
    shape.vertices = head.mesh->shape(coefficients);
    add_the_rest(head, code, coefficients, shape);
    round_eyes(head, shape);
    check(shape);
  }
  shape.basis = head.mesh->basis();
  head.mesh->close(head.names, head.rest, shape.eyes, shape.vertices, shape.basis);
}

}  // namespace

Shape shape_of(const HeadFiles& head, const std::vector<float>& code) {
  Shape shape;
  shape.vertices = shape.points = head.vertices;
  std::copy(head.eyes_mean.begin(), head.eyes_mean.end(), &shape.eyes[0][0]);
  if (std::all_of(code.begin(), code.end(), [](float value) { return value == 0.0f; })) {
    if (head.mesh) wear(head, code, {}, shape);
    return shape;
  }

  const std::vector<double> coefficients = coefficients_of(head, code);
  for (int i = 0; i < 8; ++i) {
    double moved = head.eyes_mean[static_cast<size_t>(i)];
    for (int c = 0; c < head.coefficients; ++c)
      moved += coefficients[static_cast<size_t>(c)] * head.eyes_basis[static_cast<size_t>(8 * c + i)];
    shape.eyes[i / 4][i % 4] = static_cast<float>(moved);
  }
  if (head.mesh) {
    wear(head, code, coefficients, shape);
    return shape;
  }
  const FieldModel model(head.folder);
  if (model.identity_size() != head.code_size)
    throw network::FileError(head.folder + ": its networks take other codes");
  const std::unique_ptr<BoundField> bound = model.bind(code);
  if (bound->anchors.size() != head.anchors_mean.size())
    throw network::FileError(head.folder + ": its anchors differ");
  TemplateMap map(head, code, bound->anchors);
  const auto count = static_cast<int64_t>(head.part.size());
  std::vector<float> moved(static_cast<size_t>(3 * kBlock));
  for (int64_t first = 0; first < count; first += kBlock) {
    const int64_t rows = std::min(kBlock, count - first);
    float* points = shape.vertices.data() + 3 * first;
    for (int turn = 0; turn < kTurns; ++turn) {
      map.moves(points, head.part.data() + first, rows, moved.data());
      for (int64_t i = 0; i < 3 * rows; ++i)
        points[i] = head.vertices[static_cast<size_t>(3 * first + i)] - moved[static_cast<size_t>(i)];
    }
  }
  round_eyes(head, shape);
  check(shape);
  project(*bound, on_surface(head, model), shape.vertices);
  for (int64_t first = 0; first < count; first += kBlock) {
    const int64_t rows = std::min(kBlock, count - first);
    map.moves(shape.vertices.data() + 3 * first, head.part.data() + first, rows, moved.data());
    for (int64_t i = 0; i < 3 * rows; ++i) {
      const auto at = static_cast<size_t>(3 * first + i);
      shape.points[at] = shape.vertices[at] + moved[static_cast<size_t>(i)];
    }
  }
  return shape;
}

}  // namespace facetalk::head
