#include "cpu/network/layers.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/attention/attention.h"

namespace facetalk::network {

float* Floats::need(int64_t count) {
  if (count > capacity_) {
    capacity_ = count + count / 4;
    memory_ = allocate(capacity_ * static_cast<int64_t>(sizeof(float)));
  }
  return static_cast<float*>(memory_.get());
}

Linear::Linear(const std::vector<float>& weight, const std::vector<float>& bias, int outputs, int inputs)
    : inputs_(inputs), outputs_(outputs) {
  const int panel = network_kernels().panel;
  const int padded = (outputs + panel - 1) / panel * panel;
  weights_ = allocate(static_cast<int64_t>(padded) * inputs * static_cast<int64_t>(sizeof(float)));
  auto* to = static_cast<float*>(weights_.get());
  for (int first = 0; first < padded; first += panel) {
    for (int k = 0; k < inputs; ++k) {
      for (int o = first; o < first + panel; ++o)
        *to++ = o < outputs
                    ? weight[static_cast<size_t>(o) * static_cast<size_t>(inputs) + static_cast<size_t>(k)]
                    : 0;
    }
  }
  bias_.assign(static_cast<size_t>(padded), 0.0f);
  std::copy(bias.begin(), bias.end(), bias_.begin());
}

Linear Linear::read(const Safetensors& file, const std::string& name, int outputs, int inputs, bool bias) {
  return Linear(file.floats(name + ".weight", {outputs, inputs}),
                bias ? file.floats(name + ".bias", {outputs}) : std::vector<float>(), outputs, inputs);
}

void Linear::run(const float* x, int64_t stride, int64_t rows, float* out, int64_t out_stride) const {
  if (rows <= 0) return;
  network_kernels().product({x, stride, rows, static_cast<const float*>(weights_.get()), bias_.data(),
                             inputs_, outputs_, out, out_stride});
}

Convolution::Convolution(const std::vector<float>& weight, const std::vector<float>& bias, int outputs,
                         int inputs, int kernel, int stride)
    : inputs_(inputs), kernel_(kernel), stride_(stride) {
  std::vector<float> turned(weight.size());
  size_t to = 0;
  for (int o = 0; o < outputs; ++o) {
    for (int k = 0; k < kernel; ++k) {
      for (int i = 0; i < inputs; ++i)
        turned[to++] =
            weight[(static_cast<size_t>(o) * static_cast<size_t>(inputs) + static_cast<size_t>(i)) *
                       static_cast<size_t>(kernel) +
                   static_cast<size_t>(k)];
    }
  }
  linear_ = Linear(turned, bias, outputs, inputs * kernel);
}

LayerNorm LayerNorm::read(const Safetensors& file, const std::string& name, int width, float epsilon) {
  LayerNorm norm;
  norm.gain_ = file.floats(name + ".weight", {width});
  norm.bias_ = file.floats(name + ".bias", {width});
  norm.epsilon_ = epsilon;
  return norm;
}

Activation activation_named(const std::string& name, const std::string& where) {
  const NetworkKernels& kernels = network_kernels();
  if (name == "gelu") return kernels.gelu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast") return kernels.gelu_tanh;
  if (name == "silu" || name == "swish") return kernels.silu;
  if (name == "relu") return kernels.relu;
  throw FileError(where + ": the activation " + name +
                  " is not one of gelu, gelu_new, silu, relu, which this knows");
}

void split_heads(const float* x, int64_t stride, int64_t rows, int heads, int depth, float* out) {
  for (int head = 0; head < heads; ++head) {
    for (int64_t row = 0; row < rows; ++row, out += depth)
      std::memcpy(out, x + row * stride + head * depth, static_cast<size_t>(depth) * sizeof(float));
  }
}

void join_heads(const float* x, int64_t rows, int heads, int depth, float* out) {
  for (int head = 0; head < heads; ++head) {
    for (int64_t row = 0; row < rows; ++row, x += depth)
      std::memcpy(out + (row * heads + head) * depth, x, static_cast<size_t>(depth) * sizeof(float));
  }
}

namespace {

TensorView view_of(const float* data, int64_t a, int64_t b, int64_t c) {
  TensorView view;
  view.data = const_cast<float*>(data);
  view.rank = 3;
  view.shape = {a, b, c};
  view.strides = {b * c, c, 1};
  return view;
}

}  // namespace

void attend(const float* query, const float* key, const float* value, int heads, int64_t queries,
            int64_t keys, int depth, int64_t left, int64_t right, float* out) {
  cpu::masked_cross_attention(view_of(query, heads, queries, depth), view_of(key, heads, keys, depth),
                              view_of(value, heads, keys, depth), {left, right},
                              1.0f / std::sqrt(static_cast<float>(depth)),
                              view_of(out, heads, queries, depth));
}

}  // namespace facetalk::network
