#include "cpu/head/template_mesh.h"

#include <algorithm>
#include <cmath>

namespace facetalk::head {
namespace {

using network::FileError;
using network::Safetensors;

constexpr size_t kLandmarks = 68;
constexpr int64_t kBlock = 64;          // vertices that share an offset and a scale
constexpr float kClear = 0.0012f;       // a closed lid in front of the eyeball, head units
constexpr float kMostCleared = 0.006f;  // that a lid is pushed
constexpr float kWay[] = {0.25f, 0.5f, 0.75f, 1.0f};
constexpr const char* kBlinks[] = {"eyeBlink_L", "eyeBlink_R"};

int64_t rows_of(const Safetensors& file, const std::string& name) {
  const std::vector<int64_t>& shape = file.shape(name);
  return shape.empty() ? 0 : shape[0];
}

std::vector<int32_t> numbers(const Safetensors& file, const std::string& name, int64_t limit,
                             int64_t columns = 0) {
  const int64_t rows = rows_of(file, name);
  const std::vector<int64_t> shape =
      columns == 0 ? std::vector<int64_t>{rows} : std::vector<int64_t>{rows, columns};
  std::vector<int32_t> values = file.integers(name, shape);
  const bool known =
      std::all_of(values.begin(), values.end(), [&](int32_t v) { return v >= 0 && v < limit; });
  if (!known || values.empty()) throw FileError("template.safetensors: " + name + " names what is not there");
  return values;
}

float length(const float (&v)[3]) { return std::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]); }

}  // namespace

std::vector<float> neutral_of(const std::vector<float>& vertices, const std::vector<float>& rest,
                              const std::vector<float>& basis) {
  std::vector<float> neutral(vertices);
  for (size_t e = 0; e < rest.size(); ++e) {
    if (rest[e] == 0.0f) continue;
    network::network_kernels().add_scaled(neutral.data(), basis.data() + e * neutral.size(), -rest[e],
                                          static_cast<int64_t>(neutral.size()));
  }
  return neutral;
}

Seam::Seam(const Safetensors& file, const std::string& name, int64_t vertices) {
  vertex_ = numbers(file, name + ".vertex", vertices);
  const auto known = static_cast<int64_t>(vertex_.size());
  other_ = numbers(file, name + ".other", vertices, 2);
  blend_ = file.floats(name + ".blend", {known});
  target_ = file.floats(name + ".target", {known});
  rows_ = numbers(file, name + ".rows", vertices);
  columns_ = numbers(file, name + ".columns", known);
  weights_ = file.floats(name + ".weights", {static_cast<int64_t>(rows_.size())});
  if (static_cast<int64_t>(other_.size()) != 2 * known || columns_.size() != rows_.size())
    throw FileError("template.safetensors: " + name + " does not fit");
}

void Seam::close(const std::vector<float>& shape, float* moved) const {
  std::vector<float> excess(vertex_.size());
  const auto height = [&](int32_t vertex) { return shape[3 * static_cast<size_t>(vertex) + 1]; };
  for (size_t k = 0; k < vertex_.size(); ++k) {
    const float opposite = height(other_[2 * k]) * (1.0f - blend_[k]) + height(other_[2 * k + 1]) * blend_[k];
    excess[k] = height(vertex_[k]) - opposite - target_[k];
  }
  // In the order of the file, all of a vertex's weights before they are added: `shape` may be `moved`'s.
  std::vector<float> lift(shape.size() / 3, 0.0f);
  for (size_t n = 0; n < rows_.size(); ++n)
    lift[static_cast<size_t>(rows_[n])] += weights_[n] * excess[static_cast<size_t>(columns_[n])];
  for (size_t v = 0; v < lift.size(); ++v) moved[3 * v + 1] += lift[v];
}

TemplateShapes::TemplateShapes(const Safetensors& file, const std::string& path, int expressions, int parts) {
  const int64_t count = rows_of(file, "vertices");
  vertices = file.floats("vertices", {count, 3});
  part = file.bytes("part", {count});
  region = file.bytes("region", {count});
  landmarks = numbers(file, "landmarks", count);
  const bool moving = std::all_of(part.begin(), part.end(), [&](uint8_t p) { return p < parts; });
  const std::vector<int32_t> textured = numbers(file, "uv_vertex", count);
  const auto painted = static_cast<int64_t>(textured.size());
  const std::vector<int32_t> corners = numbers(file, "corners_0", painted, 3);
  for (const int32_t corner : corners) faces.push_back(textured[static_cast<size_t>(corner)]);
  const std::vector<float> uv = file.floats("uv", {painted, 2});
  leftmost.assign(static_cast<size_t>(count), INFINITY);
  for (size_t i = 0; i < textured.size(); ++i) {
    float& u = leftmost[static_cast<size_t>(textured[i])];
    u = std::min(u, uv[2 * i]);
  }
  starts_ = file.integers("shape_starts", {expressions + 1});
  rows_ = numbers(file, "shape_rows", count);
  values_ = file.floats("shape_values", {static_cast<int64_t>(rows_.size()), 3});
  const bool rising = std::is_sorted(starts_.begin(), starts_.end());
  if (!moving || !rising || starts_.front() != 0 || starts_.back() != static_cast<int32_t>(rows_.size()))
    throw FileError(path + ": its parts or shapes do not fit");
  if (landmarks.size() != kLandmarks) throw FileError(path + ": its landmarks are not 68");
}

void TemplateShapes::write(size_t expression, float* to) const {
  for (auto n = static_cast<size_t>(starts_[expression]); n < static_cast<size_t>(starts_[expression + 1]);
       ++n)
    std::copy_n(values_.data() + 3 * n, 3, to + 3 * static_cast<size_t>(rows_[n]));
}

std::vector<float> TemplateShapes::displacement(size_t expression) const {
  std::vector<float> out(vertices.size(), 0.0f);
  write(expression, out.data());
  return out;
}

std::vector<float> TemplateShapes::basis() const {
  const size_t expressions = starts_.size() - 1;
  std::vector<float> out(expressions * vertices.size(), 0.0f);
  for (size_t e = 0; e < expressions; ++e) write(e, out.data() + e * vertices.size());
  return out;
}

std::vector<std::vector<float>> TemplateShapes::moves_of(const std::vector<size_t>& some) const {
  const size_t expressions = starts_.size() - 1;
  std::vector<std::vector<float>> out(some.size(), std::vector<float>(3 * expressions, 0.0f));
  std::vector<char> wanted(static_cast<size_t>(count()), 0);
  for (const size_t vertex : some) wanted[vertex] = 1;
  for (size_t e = 0; e < expressions; ++e) {
    for (auto n = static_cast<size_t>(starts_[e]); n < static_cast<size_t>(starts_[e + 1]); ++n) {
      const auto row = static_cast<size_t>(rows_[n]);
      if (!wanted[row]) continue;
      for (size_t i = 0; i < some.size(); ++i) {
        if (some[i] == row) std::copy_n(values_.data() + 3 * n, 3, out[i].data() + 3 * e);
      }
    }
  }
  return out;
}

std::vector<float> TemplateShapes::neutral(const std::vector<float>& rest) const {
  std::vector<float> out(vertices);
  for (size_t e = 0; e < rest.size(); ++e) {
    if (rest[e] == 0.0f) continue;
    const std::vector<float> moves = displacement(e);
    network::network_kernels().add_scaled(out.data(), moves.data(), -rest[e],
                                          static_cast<int64_t>(out.size()));
  }
  return out;
}

TemplateMesh::TemplateMesh(const std::string& path, int coefficients, int expressions, int parts)
    : TemplateMesh(Safetensors(path), path, coefficients, expressions, parts) {}

TemplateMesh::TemplateMesh(const Safetensors& file, const std::string& path, int coefficients,
                           int expressions, int parts)
    : TemplateShapes(file, path, expressions, parts), coefficients_(coefficients) {
  const int64_t blocks = (count() + kBlock - 1) / kBlock;
  codes_ = file.bytes("identity_codes", {coefficients, count(), 3});
  scale_ = file.floats("identity_scale", {coefficients, blocks});
  offset_ = file.floats("identity_offset", {coefficients, blocks, 3});
  const char* names[] = {"lips", "lid_left", "lid_right"};
  for (size_t i = 0; i < seams_.size(); ++i) seams_[i] = Seam(file, names[i], count());
  lids_ = numbers(file, "lid_vertices", count());
}

std::vector<float> TemplateMesh::shape(const std::vector<double>& coefficients) const {
  std::vector<float> out(vertices);
  const int64_t blocks = (count() + kBlock - 1) / kBlock;
  for (int i = 0; i < coefficients_; ++i) {
    const auto weight = static_cast<float>(coefficients[static_cast<size_t>(i)]);
    if (weight == 0.0f) continue;
    const uint8_t* code = codes_.data() + static_cast<int64_t>(i) * 3 * count();
    const float* scale = scale_.data() + i * blocks;
    const float* offset = offset_.data() + i * 3 * blocks;
    for (int64_t v = 0; v < count(); ++v) {
      const int64_t block = v / kBlock;
      for (int64_t a = 0; a < 3; ++a) {
        const float local = (static_cast<float>(code[3 * v + a]) - 128.0f) * scale[block];
        out[static_cast<size_t>(3 * v + a)] += weight * (local + offset[3 * block + a]);
      }
    }
  }
  return out;
}

void TemplateMesh::close(const std::vector<std::string>& names, const std::vector<float>& rest,
                         const float (&eyes)[2][4], std::vector<float>& shape,
                         std::vector<float>& basis) const {
  seams_[0].close(neutral_of(shape, rest, basis), shape.data());
  const std::vector<float> neutral = neutral_of(shape, rest, basis);
  for (size_t side = 0; side < 2; ++side) {
    const auto found = std::find(names.begin(), names.end(), kBlinks[side]);
    if (found == names.end()) continue;
    float* blink = basis.data() + static_cast<size_t>(found - names.begin()) * shape.size();
    std::vector<float> closed(neutral);
    network::network_kernels().add_scaled(closed.data(), blink, 1.0f, static_cast<int64_t>(closed.size()));
    seams_[1 + side].close(closed, blink);
    const float (&eye)[4] = eyes[side];
    for (const int32_t vertex : lids_) {
      const float* point = shape.data() + 3 * static_cast<size_t>(vertex);
      float* move = blink + 3 * static_cast<size_t>(vertex);
      if ((point[0] > 0.0f) != (eye[0] > 0.0f)) continue;
      float lacking = 0.0f, at[3];
      for (const float weight : kWay) {
        for (int a = 0; a < 3; ++a) at[a] = point[a] - eye[a] + weight * move[a];
        lacking = std::max(lacking, (eye[3] + kClear - length(at)) / weight);
      }
      const float far = length(at);  // at a full blink
      for (int a = 0; a < 3; ++a) move[a] += std::min(lacking, kMostCleared) * at[a] / far;
    }
  }
}

}  // namespace facetalk::head
