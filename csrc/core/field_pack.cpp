#include "core/field_pack.h"

#include <algorithm>
#include <cstring>

#include "core/number_text.h"

namespace facetalk {
namespace {

std::string layer_name(const std::string& network, size_t i) {
  return network + " layer " + std::to_string(i);
}

void check_rank(const TensorView& view, const std::string& name, int rank) {
  if (view.rank != rank)
    throw ArgumentError(name, std::to_string(rank) + " axes", "shape " + view.shape_text());
}

// Copies (rows, outputs) biases of every layer into rows of `total`, hidden layers in softplus units.
void gather_biases(const std::vector<TensorView>& layers, const FieldMlp& mlp, int64_t rows, float* out) {
  for (int l = 0; l < mlp.layers; ++l) {
    const float scale = l + 1 < mlp.layers ? kSoftplusScale : 1.0f;
    const FieldLayer& layer = mlp.layer[l];
    for (int64_t row = 0; row < rows; ++row) {
      const float* from = layers[l].as<const float>() + row * layer.outputs;
      float* to = out + row * mlp.bias_count + layer.bias_offset;
      for (int o = 0; o < layer.outputs; ++o) to[o] = from[o] * scale;
    }
  }
}

void check_biases(const std::vector<TensorView>& layers, const FieldMlp& mlp, const std::string& network,
                  int64_t rows) {
  if (static_cast<int>(layers.size()) != mlp.layers) {
    throw ArgumentError(network + " biases", std::to_string(mlp.layers) + " layers",
                        std::to_string(layers.size()));
  }
  for (int l = 0; l < mlp.layers; ++l) {
    const TensorView& bias = layers[l];
    const std::string name = layer_name(network, l) + " bias";
    check_rank(bias, name, 2);
    if (bias.shape[0] != rows || bias.shape[1] != mlp.layer[l].outputs) {
      throw ArgumentError(
          name, "shape (" + std::to_string(rows) + ", " + std::to_string(mlp.layer[l].outputs) + ")",
          "shape " + bias.shape_text());
    }
  }
}

}  // namespace

float* PackedField::keep(int64_t floats) {
  memory_.push_back(allocate(floats * static_cast<int64_t>(sizeof(float))));
  return static_cast<float*>(memory_.back().get());
}

void PackedField::pack(const std::vector<FieldLayerSource>& layers, const std::string& name, int panel,
                       FieldMlp& mlp) {
  if (layers.size() < 2 || layers.size() > kMaxFieldLayers) {
    throw ArgumentError(name, "2 to " + std::to_string(kMaxFieldLayers) + " layers",
                        std::to_string(layers.size()));
  }
  mlp.layers = static_cast<int>(layers.size());
  int64_t sets = 0;
  for (size_t i = 0; i < layers.size(); ++i) {
    const std::string label = layer_name(name, i);
    const bool reads_coords = layers[i].coords.rank != 0;
    const bool reads_hidden = layers[i].hidden.rank != 0;
    if (i == 0 ? (reads_hidden || !reads_coords) : !reads_hidden) {
      throw ArgumentError(label, i == 0 ? "coordinates only" : "hidden units", "something else");
    }
    FieldLayer& layer = mlp.layer[i];
    for (const TensorView* view : {&layers[i].coords, &layers[i].hidden}) {
      if (view->rank == 0) continue;
      check_rank(*view, label, 3);
      if (sets == 0) sets = view->shape[0];
      if (layer.outputs == 0) layer.outputs = static_cast<int>(view->shape[1]);
      if (view->shape[0] != sets || view->shape[1] != layer.outputs || layer.outputs < 1 ||
          view->shape[2] < 1) {
        throw ArgumentError(label, "(" + std::to_string(sets) + ", outputs, inputs) alike in all parts",
                            "shape " + view->shape_text());
      }
    }
    if (i == 0) mlp.coords = static_cast<int>(layers[0].coords.shape[2]);
    if (mlp.coords < 3 || mlp.coords > kMaxFieldCoords) {
      throw ArgumentError(label, "3 to " + std::to_string(kMaxFieldCoords) + " coordinates",
                          std::to_string(mlp.coords));
    }
    layer.coords = reads_coords ? static_cast<int>(layers[i].coords.shape[2]) : 0;
    layer.hidden = reads_hidden ? static_cast<int>(layers[i].hidden.shape[2]) : 0;
    if ((reads_coords && layer.coords != mlp.coords) || (i > 0 && layer.hidden != mlp.layer[i - 1].outputs)) {
      throw ArgumentError(label,
                          std::to_string(i > 0 ? mlp.layer[i - 1].outputs : 0) + " hidden inputs and 0 or " +
                              std::to_string(mlp.coords) + " coordinates",
                          std::to_string(layer.hidden) + " and " + std::to_string(layer.coords));
    }
    layer.panels = (layer.outputs + panel - 1) / panel;
    layer.bias_offset = mlp.bias_count;
    mlp.bias_count += layer.outputs;
    const bool last = i + 1 == layers.size();
    if (last) mlp.outputs = layer.outputs;
    if (!last) mlp.width = std::max(mlp.width, layer.outputs);
    // Coordinates enter the softplus units of a hidden layer; the last layer leaves them.
    const float coord_scale = last ? 1.0f : kSoftplusScale;
    const float hidden_scale = last ? 1.0f / kSoftplusScale : 1.0f;
    const int inputs = layer.coords + layer.hidden;
    float* out = keep(sets * layer.outputs * inputs);
    layer.weights = out;
    for (int64_t set = 0; set < sets; ++set) {
      for (int p = 0; p < layer.panels; ++p) {
        const int start = layer.panel_start(p), end = layer.panel_start(p + 1);
        for (int k = 0; k < inputs; ++k) {
          const bool coord = k < layer.coords;
          const TensorView& view = coord ? layers[i].coords : layers[i].hidden;
          const int column = coord ? k : k - layer.coords;
          for (int o = start; o < end; ++o) {
            const float weight = view.as<const float>()[(set * layer.outputs + o) * view.shape[2] + column];
            *out++ = weight * (coord ? coord_scale : hidden_scale);
          }
        }
      }
    }
  }
}

PackedField::PackedField(const FieldSource& source, int panel) : member_set_(source.member_set) {
  pack(source.identity, "identity", panel, model_.identity);
  if (model_.identity.outputs != 1) {
    throw ArgumentError("identity", "one output", std::to_string(model_.identity.outputs));
  }
  check_rank(source.anchors, "anchors", 2);
  const int64_t members = source.anchors.shape[0] + 1;
  if (source.anchors.shape[1] != 3 || members < 2 || members > 4096) {
    throw ArgumentError("anchors", "shape (1 to 4095, 3)", "shape " + source.anchors.shape_text());
  }
  model_.anchors = static_cast<int>(members) - 1;
  const int64_t sets = source.identity[0].coords.shape[0];
  if (static_cast<int64_t>(source.member_set.size()) != members ||
      static_cast<int64_t>(source.mirror.size()) != members) {
    throw ArgumentError(
        "member_set, mirror", std::to_string(members) + " members",
        std::to_string(source.member_set.size()) + " and " + std::to_string(source.mirror.size()));
  }
  for (int set : source.member_set) {
    if (set < 0 || set >= sets)
      throw ArgumentError("member_set", "below " + std::to_string(sets), std::to_string(set));
  }
  check_biases(source.identity_bias, model_.identity, "identity", members);
  float* anchor = keep(3 * members);
  std::memcpy(anchor, source.anchors.data, sizeof(float) * 3 * static_cast<size_t>(members - 1));
  float* mirror = keep(members);
  std::copy(source.mirror.begin(), source.mirror.end(), mirror);
  float* bias = keep(members * model_.identity.bias_count);
  gather_biases(source.identity_bias, model_.identity, members, bias);
  model_.anchor = anchor;
  model_.mirror = mirror;
  model_.member_bias = bias;
  model_.member_set = member_set_.data();
  model_.blending = source.blending;
  model_.neighbours = source.neighbours;
  model_.blend_std = source.blend_std;
  model_.cut = source.cut;
  // A negative number of neighbours would take scratch memory away from others.
  if (source.neighbours < 0 || source.neighbours > 4096)
    throw ArgumentError("neighbours", "0 to 4096", std::to_string(source.neighbours));
  if (source.blending == FieldBlending::kMonoNphm && (source.neighbours < 1 || !(source.blend_std > 0.0f))) {
    throw ArgumentError("neighbours, blend_std", "both above 0",
                        std::to_string(source.neighbours) + " and " + number_text(source.blend_std));
  }
  if (source.deformation.empty()) return;
  pack(source.deformation, "deformation", panel, model_.deformation);
  const FieldMlp& deformation = model_.deformation;
  if (deformation.coords != 3 || deformation.outputs != model_.identity.coords ||
      source.deformation[0].coords.shape[0] != 1) {
    throw ArgumentError("deformation",
                        "one weight set, 3 coordinates, " + std::to_string(model_.identity.coords) +
                            " outputs (as many as the identity has coordinates)",
                        std::to_string(deformation.coords) + " coordinates, " +
                            std::to_string(deformation.outputs) + " outputs");
  }
}

std::vector<float> PackedField::frame_biases(const std::vector<TensorView>& layers) const {
  const FieldMlp& mlp = model_.deformation;
  if (mlp.layers == 0) throw ArgumentError("biases", "none, as this field has no deformation", "some");
  const int64_t frames = layers.empty() || layers[0].rank != 2 ? 0 : layers[0].shape[0];
  check_biases(layers, mlp, "deformation", frames);
  std::vector<float> out(static_cast<size_t>(frames * mlp.bias_count));
  gather_biases(layers, mlp, frames, out.data());
  return out;
}

}  // namespace facetalk
