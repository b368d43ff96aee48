#include "cpu/network/adapter.h"

#include <algorithm>
#include <cmath>

#include "core/number_text.h"
#include "cpu/network/level.h"
#include "cpu/network/whisper.h"

namespace facetalk::network {
namespace {

constexpr int kMost = 1024;             // as facetalk/audio/whisper_encoder.py
constexpr double kWindowSeconds = 2.0;  // as there; what is heard for a frame of live sound
constexpr double kMostGuidance = 20.0;
constexpr float kEpsilon = 1e-5f;

// Room for `rows` and for `edge` rows of zeros on each side.
std::vector<float> padded(int64_t rows, int64_t edge, int64_t width) {
  return std::vector<float>(static_cast<size_t>((rows + 2 * edge) * width), 0.0f);
}

}  // namespace

Adapter::Adapter(const std::string& folder, int width, int depth) {
  const std::string where = folder + "/config.json";
  const Json config = read_json(where);
  if (config.at("format").text() != "facetalk-whisper" || config.at("version").whole(0, 1000) != 1)
    throw FileError(where + ": does not describe an adapter for Whisper of version 1");
  if (config.at("layers").sizes(1, kMost) != std::vector<int>{depth - 1, depth})
    throw FileError(where + ": reads other layers than the last two of this Whisper");
  const auto components = static_cast<int>(config.at("components").whole(1, kMost));
  const auto channels = static_cast<int>(config.at("width").whole(1, kMost));
  const auto features = static_cast<int>(config.at("features").whole(1, kMost));
  if (const Json* listener = config.find("listener")) listener_ = listener->text();
  feature_space_ = config.text_at("feature_space");
  if (const Json* guidance = config.find("guidance")) guidance_ = guidance->number(0.0, kMostGuidance);
  floor_ = config.at("variance_floor").number(0.0, 1.0);
  const Safetensors file(folder + "/model.safetensors");
  const int64_t heard = 2 * static_cast<int64_t>(width);
  const std::vector<float> mean = file.floats("mean", {heard});
  const std::vector<float> basis = file.floats("basis", {heard, components});
  // (x - mean) basis as one product.
  std::vector<float> weight(basis.size()), bias(static_cast<size_t>(components));
  for (int c = 0; c < components; ++c) {
    double shift = 0.0;
    for (int64_t i = 0; i < heard; ++i) {
      const float value = basis[static_cast<size_t>(i * components + c)];
      weight[static_cast<size_t>(c * heard + i)] = value;
      shift -= static_cast<double>(value) * mean[static_cast<size_t>(i)];
    }
    bias[static_cast<size_t>(c)] = static_cast<float>(shift);
  }
  reduce_ = Linear(weight, bias, components, static_cast<int>(heard));
  whole_ = read(file, "", components, channels, features);
  if (const Json* live = config.find("live")) {
    const Json& seconds = live->at("window_s");
    if (seconds.kind() != Json::Kind::kNumber || seconds.number(-INFINITY, INFINITY) != kWindowSeconds)
      throw FileError(where + ": tells of live windows other than of " + number_text(kWindowSeconds) + " s");
    window_ = static_cast<int64_t>(kWindowSeconds * kSampleRate);
    live_ = read(file, "live.", components, channels, features);
  }
}

Adapter::Stack Adapter::read(const Safetensors& file, const std::string& prefix, int components, int width,
                             int features) {
  Stack stack;
  stack.first = Convolution(file.floats(prefix + "first.weight", {width, components, 7}),
                            file.floats(prefix + "first.bias", {width}), width, components, 7, 1);
  for (int i = 0; i < 2; ++i) {
    const std::string block = prefix + "blocks." + std::to_string(i);
    stack.norms[i] = LayerNorm::read(file, prefix + "norms." + std::to_string(i), width, kEpsilon);
    stack.blocks[i] = Convolution(file.floats(block + ".weight", {width, width, 5}),
                                  file.floats(block + ".bias", {width}), width, width, 5, 1);
  }
  stack.last = Linear::read(file, prefix + "last", features, width);
  return stack;
}

void Adapter::run(const float* heard, int64_t rows, bool live, float* out) const {
  const Stack& stack = live ? live_ : whole_;
  const NetworkKernels& kernels = network_kernels();
  const int64_t components = reduce_.outputs(), width = stack.first.outputs(), values = features();
  std::vector<float> in = padded(rows, 3, components);
  reduce_.run(heard, rows, in.data() + 3 * components);
  std::vector<float> hidden = padded(rows, 0, width), moved = hidden;
  stack.first.run(in.data(), rows + 6, hidden.data());
  std::vector<float> inner = padded(rows, 2, width);
  float* middle = inner.data() + 2 * width;
  for (int i = 0; i < 2; ++i) {
    stack.norms[i].run(hidden.data(), rows, middle);
    kernels.gelu(middle, rows * width);
    stack.blocks[i].run(inner.data(), rows + 4, moved.data());
    kernels.add_scaled(hidden.data(), moved.data(), 1.0f, rows * width);
  }
  kernels.gelu(hidden.data(), rows * width);
  std::vector<float> told = padded(rows, 0, values);
  stack.last.run(hidden.data(), rows, told.data());
  // Each row with its neighbours: Whisper tells phones apart more quickly than lips go from one to the other.
  for (int64_t row = 0; row < rows; ++row) {
    const float* here = told.data() + row * values;
    const float* before = row > 0 ? here - values : here;
    const float* after = row + 1 < rows ? here + values : here;
    for (int64_t i = 0; i < values; ++i)
      out[row * values + i] = 0.25f * before[i] + 0.5f * here[i] + 0.25f * after[i];
  }
}

}  // namespace facetalk::network
