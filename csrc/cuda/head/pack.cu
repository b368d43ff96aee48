#include <algorithm>

#include "core/status.h"
#include "cuda/head/pack.h"
#include "cuda/platform/portable.h"

namespace facetalk::cuda {
namespace {

int pad(int count, int step) { return (count + step - 1) / step * step; }

// With those that only biases and weights of coordinates have, see FieldDeviceLayer.
int padded_outputs(const FieldLayer& layer, bool last) { return pad(layer.outputs, last ? 8 : 64); }

// A layer's weights of one set as a plain matrix.
struct Matrix {
  int inputs = 0, outputs = 0;
  std::vector<float> values;  // (inputs, outputs), coordinates first
  float at(int input, int output) const {
    return input < inputs && output < outputs ? values[static_cast<size_t>(input) * outputs + output] : 0.0f;
  }
};

// Panels hold their outputs side by side for every input; see core/field_pack.cpp.
Matrix unpanelled(const FieldLayer& layer, int64_t set) {
  Matrix out;
  out.inputs = layer.coords + layer.hidden;
  out.outputs = layer.outputs;
  out.values.resize(static_cast<size_t>(out.inputs) * static_cast<size_t>(out.outputs));
  const float* from = layer.weights + set * out.inputs * out.outputs;
  for (int p = 0; p < layer.panels; ++p) {
    const int start = layer.panel_start(p), end = layer.panel_start(p + 1);
    for (int k = 0; k < out.inputs; ++k) {
      for (int o = start; o < end; ++o)
        out.values[static_cast<size_t>(k) * static_cast<size_t>(out.outputs) + static_cast<size_t>(o)] =
            *from++;
    }
  }
  return out;
}

// The hidden part of a layer: input i is hidden unit i. On the CPU the last layer's leave the softplus units in
// the weights, here in the kernel.
class Hidden {
 public:
  Hidden(const FieldLayer& layer, const Matrix& matrix, bool last)
      : layer_(layer), matrix_(matrix), scale_(last ? kSoftplusScale : 1.0f) {}
  float at(int input, int output) const {
    return input < layer_.hidden ? matrix_.at(layer_.coords + input, output) * scale_ : 0.0f;
  }

 private:
  const FieldLayer& layer_;
  const Matrix& matrix_;
  float scale_;
};

template <typename T>
void add_plain(const FieldLayer& layer, const Hidden& hidden, std::vector<T>& out) {
  const int rows = pad(layer.outputs, 8);
  for (int i = 0; i < layer.hidden; ++i) {
    for (int o = 0; o < rows; ++o) out.push_back(static_cast<T>(hidden.at(i, o)));
  }
}

template <typename T>
void add_fragments(const FieldLayer& layer, const Hidden& hidden, int chunks, std::vector<T>& out) {
  const int tiles = pad(layer.outputs, 8) / 8, steps = pad(layer.hidden, 16) / 16;
  for (int chunk = 0; chunk < chunks; ++chunk) {
    const int first = tiles * chunk / chunks, end = tiles * (chunk + 1) / chunks;
    for (int step = 0; step < steps; ++step) {
      for (int tile = first; tile < end; ++tile) {
        for (int lane = 0; lane < 32; ++lane) {
          const int g = lane / 4, t = lane % 4;
          for (int e = 0; e < 4; ++e)
            out.push_back(static_cast<T>(hidden.at(16 * step + 8 * (e / 2) + 2 * t + e % 2, 8 * tile + g)));
        }
      }
    }
  }
}

template <typename T>
void add_stages(const FieldLayer& layer, const Hidden& hidden, std::vector<T>& out) {
  for (int first = 0; first < layer.outputs; first += 256) {
    const int rows = layer.outputs - first > 256 ? 256 : field_wgmma_columns(layer.outputs);
    for (int step = 0; step < pad(layer.hidden, 64) / 64; ++step) {
      for (int o = 0; o < rows; ++o) {
        for (int place = 0; place < 8; ++place) {
          for (int k = 0; k < 8; ++k)
            out.push_back(static_cast<T>(hidden.at(64 * step + 8 * (place ^ o % 8) + k, first + o)));
        }
      }
    }
  }
}

template <typename T>
PackedNetwork pack_as(const FieldMlp& from, int sets, FieldPrecision precision, bool staged,
                      Workplace& place) {
  const bool is_half = precision != FieldPrecision::kFloat32;
  PackedNetwork out;
  FieldDeviceMlp& mlp = out.mlp;
  mlp.layers = from.layers;
  mlp.coords = from.coords;
  mlp.outputs = from.outputs;
  mlp.staged = staged;
  int widest = 0;  // of the layers that are computed in chunks
  for (int l = 0; l + 1 < from.layers; ++l) {
    mlp.width = std::max(mlp.width, from.layer[l].outputs);
    if (l > 0) widest = std::max(widest, from.layer[l].outputs);
  }
  mlp.chunks = is_half && widest > 8 * kFieldChunkTiles ? 2 : 1;
  if (mlp.outputs > kMaxFieldCoords)
    throw ArgumentError("outputs", "at most " + std::to_string(kMaxFieldCoords), std::to_string(mlp.outputs));
  std::vector<float> coords;
  std::vector<T> weights;
  for (int set = 0; set < sets; ++set) {
    const size_t coords_before = coords.size(), weights_before = weights.size();
    for (int l = 0; l < from.layers; ++l) {
      const FieldLayer& layer = from.layer[l];
      FieldDeviceLayer& to = mlp.layer[l];
      const bool last = l + 1 == from.layers;
      const Matrix matrix = unpanelled(layer, set);
      to.hidden = layer.hidden;
      to.outputs = layer.outputs;
      to.weights = static_cast<int64_t>(weights.size() - weights_before);
      to.coords = layer.coords > 0 ? static_cast<int>(coords.size() - coords_before) : -1;
      if (set == 0) {
        to.bias = mlp.bias_count;
        mlp.bias_count += padded_outputs(layer, last);
      }
      if (layer.coords > 0) {
        for (int o = 0; o < padded_outputs(layer, last); ++o) {
          for (int c = 0; c < layer.coords; ++c) coords.push_back(matrix.at(c, o));
        }
      }
      if (layer.hidden == 0) continue;
      const Hidden hidden(layer, matrix, last);
      if (!is_half) {
        add_plain(layer, hidden, weights);
      } else if (staged && !last) {
        add_stages(layer, hidden, weights);
      } else {
        add_fragments(layer, hidden, last ? 1 : mlp.chunks, weights);
      }
    }
    mlp.coord_count = static_cast<int>(coords.size() - coords_before);
    mlp.weight_count = static_cast<int64_t>(weights.size() - weights_before);
  }
  out.coord_weights = DeviceBuffer(coords.size() * sizeof(float));
  out.weights = DeviceBuffer(weights.size() * sizeof(T));
  place.upload(out.coord_weights.as<void>(), coords.data(), coords.size() * sizeof(float));
  place.upload(out.weights.as<void>(), weights.data(), weights.size() * sizeof(T));
  place.wait();
  mlp.coord_weights = out.coord_weights.as<const float>();
  mlp.weights = out.weights.as<const void>();
  return out;
}

}  // namespace

PackedNetwork pack_network(const FieldMlp& from, int sets, FieldPrecision precision, bool staged,
                           Workplace& place) {
  switch (precision) {
    case FieldPrecision::kFloat16:
      return pack_as<__half>(from, sets, precision, staged, place);
    case FieldPrecision::kBFloat16:
      return pack_as<__nv_bfloat16>(from, sets, precision, staged, place);
    default:
      return pack_as<float>(from, sets, precision, false, place);
  }
}

std::vector<float> pack_biases(const FieldMlp& from, const FieldDeviceMlp& to, int64_t rows,
                               const float* biases) {
  std::vector<float> out(static_cast<size_t>(rows * to.bias_count), 0.0f);
  for (int64_t row = 0; row < rows; ++row) {
    for (int l = 0; l < from.layers; ++l) {
      const float* first = biases + row * from.bias_count + from.layer[l].bias_offset;
      std::copy_n(first, from.layer[l].outputs, out.begin() + row * to.bias_count + to.layer[l].bias);
    }
  }
  return out;
}

}  // namespace facetalk::cuda
