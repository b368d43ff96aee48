// Layers that own their weights, packed for the kernels of this machine.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/tensor_view.h"
#include "cpu/network/kernels.h"
#include "cpu/network/safetensors.h"

namespace facetalk::network {

// Scratch memory that grows and is not cleared; 64-byte aligned.
class Floats {
 public:
  // At least `count` floats; what was in them is lost when they have to grow.
  float* need(int64_t count);

 private:
  std::shared_ptr<void> memory_;
  int64_t capacity_ = 0;
};

// y = W x + b. A convolution over (time, channels) is one whose rows overlap; see Product.
class Linear {
 public:
  Linear() = default;
  // weight: (outputs, inputs); bias: (outputs), or empty for zeros.
  Linear(const std::vector<float>& weight, const std::vector<float>& bias, int outputs, int inputs);
  // Tensors `name`.weight and `name`.bias of a file.
  static Linear read(const Safetensors& file, const std::string& name, int outputs, int inputs,
                     bool bias = true);

  int inputs() const { return inputs_; }
  int outputs() const { return outputs_; }

  // (rows, inputs) -> (rows, outputs), contiguous.
  void run(const float* x, int64_t rows, float* out) const { run(x, inputs_, rows, out, outputs_); }
  void run(const float* x, int64_t stride, int64_t rows, float* out, int64_t out_stride) const;

 private:
  int inputs_ = 0, outputs_ = 0;
  std::shared_ptr<void> weights_;
  std::vector<float> bias_;
};

// A one-dimensional convolution over (time, channels), without padding.
class Convolution {
 public:
  Convolution() = default;
  // weight: (outputs, inputs, kernel), as PyTorch has it.
  Convolution(const std::vector<float>& weight, const std::vector<float>& bias, int outputs, int inputs,
              int kernel, int stride);

  int outputs() const { return linear_.outputs(); }
  int64_t length(int64_t samples) const { return samples < kernel_ ? 0 : (samples - kernel_) / stride_ + 1; }

  // (samples, inputs) -> (length(samples), outputs)
  void run(const float* x, int64_t samples, float* out) const {
    linear_.run(x, static_cast<int64_t>(stride_) * inputs_, length(samples), out, linear_.outputs());
  }

 private:
  Linear linear_;
  int inputs_ = 0, kernel_ = 0, stride_ = 1;
};

class LayerNorm {
 public:
  LayerNorm() = default;
  static LayerNorm read(const Safetensors& file, const std::string& name, int width, float epsilon);
  void run(const float* x, int64_t rows, float* out) const {
    network_kernels().layer_norm(x, rows, static_cast<int>(gain_.size()), gain_.data(), bias_.data(),
                                 epsilon_, out);
  }
  int width() const { return static_cast<int>(gain_.size()); }
  float gain(int i) const { return gain_[static_cast<size_t>(i)]; }
  float bias(int i) const { return bias_[static_cast<size_t>(i)]; }

 private:
  std::vector<float> gain_, bias_;
  float epsilon_ = 1e-5f;
};

// An activation by the name that transformers gives it; throws FileError, whose message starts with `where`,
// for one that is not known here.
using Activation = void (*)(float* x, int64_t count);
Activation activation_named(const std::string& name, const std::string& where);

// (rows, heads * depth) -> (heads, rows, depth) and back.
void split_heads(const float* x, int64_t stride, int64_t rows, int heads, int depth, float* out);
void join_heads(const float* x, int64_t rows, int heads, int depth, float* out);

// Attention of (heads, queries, depth) over (heads, keys, depth) through a window; see
// cpu/attention/attention.h.
void attend(const float* query, const float* key, const float* value, int heads, int64_t queries,
            int64_t keys, int depth, int64_t left, int64_t right, float* out);

}  // namespace facetalk::network
