#include "cpu/head/head_files.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/platform/files.h"

namespace facetalk::head {

using network::FileError;
using network::Floats;
using network::Json;
using network::Linear;
using network::Safetensors;

PointNetwork::PointNetwork(const Safetensors& file, const std::string& name, int inputs, int hidden,
                           int layers, int outputs) {
  for (int i = 0; i <= layers; ++i)
    layers_.push_back(Linear::read(file, name + "." + std::to_string(2 * i), i < layers ? hidden : outputs,
                                   i == 0 ? inputs : hidden));
}

void PointNetwork::run(const float* x, int64_t rows, float* out, Floats (&scratch)[2]) const {
  for (size_t i = 0; i < layers_.size(); ++i) {
    const bool last = i + 1 == layers_.size();
    float* to = last ? out : scratch[i % 2].need(rows * layers_[i].outputs());
    layers_[i].run(x, rows, to);
    if (!last) network::network_kernels().silu(to, rows * layers_[i].outputs());
    x = to;
  }
}

void encode_frequencies(const float* point, int octaves, float* out) {
  for (int a = 0; a < 3; ++a) out[a] = point[a];
  float* sines = out + 3;
  float* cosines = sines + 3 * octaves;
  for (int o = 0; o < octaves; ++o) {
    const auto scale = static_cast<float>(std::numbers::pi * std::exp2(o));
    for (int a = 0; a < 3; ++a) {
      *sines++ = std::sin(point[a] * scale);
      *cosines++ = std::cos(point[a] * scale);
    }
  }
}

HeadSettings::HeadSettings(const std::string& path) : folder(path) {
  const std::string where = folder + "/config.json";
  const Json config = network::read_json(where);
  if (config.at("format").text() != "facetalk-head" || config.at("version").whole(0, 1000) != 1)
    throw FileError(where + ": does not describe a head of version 1");
  for (const Json& name : config.at("expression_names").list()) names.push_back(name.text());
  for (const Json& value : config.at("rest_expression").list())
    rest.push_back(static_cast<float>(value.number(-100.0, 100.0)));
  if (names.empty() || names.size() > 4096 || rest.size() != names.size())
    throw FileError(where + ": expression_names and rest_expression do not fit");
  forward = config.at("forward");
  parts = static_cast<int>(forward.at("parts").whole(1, 4096));
  if (forward.at("expressions").whole(1, 4096) != static_cast<int64_t>(names.size()))
    throw FileError(where + ": forward: expressions do not fit");
}

HeadFiles::HeadFiles(const std::string& path) : HeadSettings(path) {
  const auto size = [&](const char* name) { return static_cast<int>(forward.at(name).whole(1, 4096)); };
  frequencies = static_cast<int>(forward.at("frequencies").whole(0, 16));
  code_size = static_cast<int>(forward.at("code_dim").whole(1, 1 << 20));
  template_code = size("template_code");
  const auto shapes = static_cast<int>(names.size());
  const Safetensors weights(folder + "/forward.safetensors");
  networks.emplace_back(weights, "blendshapes.net", 3 + 6 * frequencies + parts, size("hidden"),
                        size("layers"), 3 * shapes);
  networks.emplace_back(weights, "template.net", 3 + 6 * kTemplateOctaves + parts + template_code,
                        size("template_hidden"), 3, 3);
  compressor = Linear::read(weights, "template.compressor", template_code, code_size, false);

  const Safetensors linear(folder + "/encoder.safetensors"), eyes(folder + "/landmarks.safetensors");
  const std::vector<int64_t>& encoded = linear.shape("encoder");
  if (encoded.size() != 2 || encoded[0] != code_size || encoded[1] < 1 || encoded[1] > 4096)
    throw FileError(folder + "/encoder.safetensors: encoder does not fit the identity code");
  coefficients = static_cast<int>(encoded[1]);
  encoder = linear.floats("encoder", encoded);
  eyes_mean = eyes.floats("eyes_mean", {2, 4});
  eyes_basis = eyes.floats("eyes_basis", {coefficients, 2, 4});
  const Safetensors anchors(folder + "/anchors.safetensors");
  const std::vector<int64_t>& places = anchors.shape("anchors_mean");
  anchors_mean = anchors.floats("anchors_mean", {places.empty() ? 0 : places[0], 3});

  const std::string worn = folder + "/template.safetensors";
  if (platform::exists(worn)) {
    mesh = std::make_unique<TemplateMesh>(worn, coefficients, shapes, parts);
    vertices = mesh->vertices;
    faces = mesh->faces;
    part = mesh->part;
    return;
  }
  const std::string own = folder + "/canonical.safetensors";
  if (!platform::exists(own)) throw FileError(own + " is missing; save the head with its canonical mesh");
  const Safetensors canonical(own);
  const std::vector<int64_t>& shape = canonical.shape("vertices");
  const int64_t count = shape.empty() ? 0 : shape[0];
  vertices = canonical.floats("vertices", {count, 3});
  part = canonical.bytes("part", {count});
  const std::vector<int64_t>& triangles = canonical.shape("faces");
  faces = canonical.integers("faces", {triangles.empty() ? 0 : triangles[0], 3});
  const bool known = std::all_of(faces.begin(), faces.end(), [&](int32_t v) { return v >= 0 && v < count; });
  const bool moving = std::all_of(part.begin(), part.end(), [&](uint8_t p) { return p < parts; });
  if (count < 1 || faces.empty() || !known || !moving)
    throw FileError(own + ": its faces or parts do not fit");
}

}  // namespace facetalk::head
