#include "cpu/network/tongue.h"

#include <algorithm>
#include <cmath>

namespace facetalk::network {
namespace {

constexpr int64_t kBlock = 64;  // frames that the layers see at a time
// Outputs that count as no contact and as a whole one: a tip that rests does not tremble.
constexpr double kNone = 0.08, kWhole = 0.85;

}  // namespace

TongueNetwork::TongueNetwork(const std::string& folder) {
  const std::string where = folder + "/config.json";
  const Json config = read_json(where);
  if (config.at("format").text() != "facetalk-tongue" || config.at("version").whole(0, 1000) != 1)
    throw FileError(where + ": does not describe a tongue of version 1");
  const auto features = static_cast<int>(config.at("feature_dim").whole(1, 1 << 16));
  feature_space_ = config.text_at("feature_space");
  const std::string weights = folder + "/model.safetensors";
  const Safetensors file(weights);
  const std::vector<int64_t>& shape = file.shape("w1");
  if (shape.size() != 2 || shape[0] < 1 || shape[0] > (1 << 16) || shape[1] != features)
    throw FileError(weights + ": w1 does not fit the feature_dim of config.json");
  const int64_t hidden = shape[0];
  first_ = Linear(file.floats("w1", shape), file.floats("b1", {hidden}), static_cast<int>(hidden), features);
  second_ = Linear(file.floats("w2", {kContacts, hidden}), file.floats("b2", {kContacts}), kContacts,
                   static_cast<int>(hidden));
}

void TongueNetwork::run(const float* features, int64_t frames, float* contacts) const {
  const int64_t width = first_.inputs(), hidden = first_.outputs();
  std::vector<float> inner(static_cast<size_t>(std::min(frames, kBlock) * hidden));
  for (int64_t from = 0; from < frames; from += kBlock) {
    const int64_t rows = std::min(kBlock, frames - from);
    float* out = contacts + from * kContacts;
    first_.run(features + from * width, rows, inner.data());
    network_kernels().silu(inner.data(), rows * hidden);
    second_.run(inner.data(), rows, out);
    for (int64_t i = 0; i < rows * kContacts; ++i) {
      const double share = 1.0 / (1.0 + std::exp(-static_cast<double>(out[i])));
      out[i] = static_cast<float>(std::clamp((share - kNone) / (kWhole - kNone), 0.0, 1.0));
    }
  }
}

}  // namespace facetalk::network
