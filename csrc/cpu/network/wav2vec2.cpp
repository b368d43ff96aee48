#include "cpu/network/wav2vec2.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/platform/files.h"
#include "cpu/network/level.h"

namespace facetalk::network {
namespace {

constexpr int kMostSize = 1 << 17, kMostLayers = 256;  // as facetalk/weights.py

// What transformers takes where config.json says nothing.
int64_t whole_or(const Json& config, const char* key, int64_t otherwise, int64_t most = kMostSize) {
  const Json* found = config.find(key);
  return found != nullptr ? found->whole(1, most) : otherwise;
}

std::vector<int> sizes_or(const Json& config, const char* key, std::vector<int> otherwise) {
  const Json* found = config.find(key);
  std::vector<int> sizes = found != nullptr ? found->sizes(1, kMostSize) : std::move(otherwise);
  if (sizes.empty() || sizes.size() > kMostLayers)
    throw FileError(std::string(key) + " has no usable length");
  return sizes;
}

std::string text_or(const Json& config, const char* key, const std::string& otherwise) {
  const Json* found = config.find(key);
  return found != nullptr ? found->text() : otherwise;
}

bool truth_or(const Json& config, const char* key, bool otherwise) {
  const Json* found = config.find(key);
  return found != nullptr ? found->boolean() : otherwise;
}

}  // namespace

Wav2Vec2::Wav2Vec2(const std::string& folder) {
  const std::string where = folder + "/config.json";
  const Json config = read_json(where);
  if (text_or(config, "model_type", "") != "wav2vec2")
    throw FileError(where + ": does not describe a Wav2Vec 2.0 model");
  if (truth_or(config, "add_adapter", false) || config.has("adapter_attn_dim"))
    throw FileError(where + ": models with adapters are for the Python package");
  const Safetensors file(folder + "/model.safetensors");
  width_ = static_cast<int>(whole_or(config, "hidden_size", 768));
  heads_ = static_cast<int>(whole_or(config, "num_attention_heads", 12));
  if (width_ % heads_ != 0) throw FileError(where + ": hidden_size is no multiple of num_attention_heads");
  stable_ = truth_or(config, "do_stable_layer_norm", false);
  activation_ = activation_named(text_or(config, "hidden_act", "gelu"), where);
  if (const Json* span = config.find("attention_span_s")) span_s_ = span->number(1e-6, 1000.0);
  feature_space_ = config.text_at("feature_space");
  read_extractor(config, file, where);
  read_positions(config, file);
  read_layers(config, file);

  const std::string path = folder + "/preprocessor_config.json";
  if (!platform::exists(path)) return;  // Wav2Vec 2.0's own defaults
  const Json settings = read_json(path);
  normalises_ = truth_or(settings, "do_normalize", true);
  if (const Json* rate = settings.find("sampling_rate"); rate != nullptr)
    rate->whole(kSampleRate, kSampleRate);
  if (const Json* floor = settings.find("variance_floor")) floor_ = floor->number(0.0, 1.0);
}

void Wav2Vec2::read_extractor(const Json& config, const Safetensors& file, const std::string& where) {
  const std::vector<int> widths = sizes_or(config, "conv_dim", {512, 512, 512, 512, 512, 512, 512});
  const std::vector<int> kernels = sizes_or(config, "conv_kernel", {10, 3, 3, 3, 3, 2, 2});
  const std::vector<int> strides = sizes_or(config, "conv_stride", {5, 2, 2, 2, 2, 2, 2});
  if (kernels.size() != widths.size() || strides.size() != widths.size())
    throw FileError(where + ": conv_dim, conv_kernel and conv_stride differ in length");
  const std::string norm = text_or(config, "feat_extract_norm", "group");
  if (norm != "group" && norm != "layer")
    throw FileError(where + ": feat_extract_norm is neither group nor layer");
  group_norm_ = norm == "group";
  convolution_activation_ = activation_named(text_or(config, "feat_extract_activation", "gelu"), where);
  const bool biased = truth_or(config, "conv_bias", false);
  const auto epsilon =
      static_cast<float>(config.has("layer_norm_eps") ? config.at("layer_norm_eps").number(0, 1) : 1e-5);
  int inputs = 1;
  int64_t field = 1, stride = 1;
  for (size_t i = 0; i < widths.size(); ++i) {
    const std::string name = "feature_extractor.conv_layers." + std::to_string(i);
    const int outputs = widths[i];
    convolutions_.emplace_back(file.floats(name + ".conv.weight", {outputs, inputs, kernels[i]}),
                               biased ? file.floats(name + ".conv.bias", {outputs}) : std::vector<float>(),
                               outputs, inputs, kernels[i], strides[i]);
    // nn.GroupNorm and nn.LayerNorm both default to 1e-5, which transformers leaves here.
    if (!group_norm_ || i == 0)
      convolution_norms_.push_back(LayerNorm::read(file, name + ".layer_norm", outputs, 1e-5f));
    field += static_cast<int64_t>(kernels[i] - 1) * stride;
    stride *= strides[i];
    if (field > 16 * kSampleRate || stride > kSampleRate)
      throw FileError(where + ": a frame of the feature extractor would be longer than a second");
    inputs = outputs;
  }
  field_ = static_cast<int>(field);
  stride_ = static_cast<int>(stride);
  if (field_ < stride_) throw FileError(where + ": the feature extractor's frames leave samples out");
  extracted_ = inputs;
  projection_norm_ = LayerNorm::read(file, "feature_projection.layer_norm", extracted_, epsilon);
  projection_ = Linear::read(file, "feature_projection.projection", width_, extracted_);
}

void Wav2Vec2::read_positions(const Json& config, const Safetensors& file) {
  const auto kernel = static_cast<int>(whole_or(config, "num_conv_pos_embeddings", 128, 4096));
  const auto groups = static_cast<int>(whole_or(config, "num_conv_pos_embedding_groups", 16));
  if (width_ % groups != 0) throw FileError("num_conv_pos_embedding_groups does not divide hidden_size");
  const int depth = width_ / groups;
  const std::string name = "encoder.pos_conv_embed.conv";
  const std::string fresh = name + ".parametrizations.weight.original";
  const bool old = !file.has(fresh + "0");
  const std::vector<float> gain = file.floats(old ? name + ".weight_g" : fresh + "0", {1, 1, kernel});
  std::vector<float> weight = file.floats(old ? name + ".weight_v" : fresh + "1", {width_, depth, kernel});
  const std::vector<float> bias = file.floats(name + ".bias", {width_});
  // Weight normalisation (Salimans and Kingma, 2016) over all but the taps.
  const auto taps = static_cast<size_t>(kernel);
  std::vector<double> squares(taps, 0.0);
  for (size_t i = 0; i < weight.size(); ++i) squares[i % taps] += static_cast<double>(weight[i]) * weight[i];
  for (size_t i = 0; i < weight.size(); ++i)
    weight[i] =
        static_cast<float>(weight[i] * (gain[i % taps] / std::sqrt(std::max(squares[i % taps], 1e-30))));
  const size_t block = weight.size() / static_cast<size_t>(groups);
  for (int g = 0; g < groups; ++g) {
    const auto from = weight.begin() + static_cast<std::ptrdiff_t>(block) * g;
    const auto shift = bias.begin() + static_cast<std::ptrdiff_t>(depth) * g;
    position_groups_.emplace_back(std::vector<float>(from, from + static_cast<std::ptrdiff_t>(block)),
                                  std::vector<float>(shift, shift + depth), depth, depth, kernel, 1);
  }
  position_kernel_ = kernel;
}

void Wav2Vec2::read_layers(const Json& config, const Safetensors& file) {
  const auto count = static_cast<int>(whole_or(config, "num_hidden_layers", 12, kMostLayers));
  const auto feed = static_cast<int>(whole_or(config, "intermediate_size", 3072));
  const auto epsilon =
      static_cast<float>(config.has("layer_norm_eps") ? config.at("layer_norm_eps").number(0, 1) : 1e-5);
  norm_ = LayerNorm::read(file, "encoder.layer_norm", width_, epsilon);
  for (int i = 0; i < count; ++i) {
    const std::string name = "encoder.layers." + std::to_string(i);
    Layer layer;
    std::vector<float> weight, bias;
    for (const char* part : {"q", "k", "v"}) {
      const std::string from = name + ".attention." + part + "_proj";
      const std::vector<float> w = file.floats(from + ".weight", {width_, width_}),
                               b = file.floats(from + ".bias", {width_});
      weight.insert(weight.end(), w.begin(), w.end());
      bias.insert(bias.end(), b.begin(), b.end());
    }
    layer.query_key_value = Linear(weight, bias, 3 * width_, width_);
    layer.out = Linear::read(file, name + ".attention.out_proj", width_, width_);
    layer.feed_in = Linear::read(file, name + ".feed_forward.intermediate_dense", feed, width_);
    layer.feed_out = Linear::read(file, name + ".feed_forward.output_dense", width_, feed);
    layer.before = LayerNorm::read(file, name + ".layer_norm", width_, epsilon);
    layer.after = LayerNorm::read(file, name + ".final_layer_norm", width_, epsilon);
    layers_.push_back(std::move(layer));
  }
}

int Wav2Vec2::span(double fps) const {
  return span_s_ > 0.0 ? std::max(1, static_cast<int>(std::nearbyint(span_s_ * fps))) : -1;
}

int Wav2Vec2::past(double fps) const {
  const int reach = span(fps);
  return reach < 0 ? -1 : reach * static_cast<int>(layers_.size()) + position_kernel_ / 2;
}

int64_t Wav2Vec2::extracted_frames(int64_t samples) const {
  for (const Convolution& convolution : convolutions_) samples = convolution.length(samples);
  return samples;
}

const float* Wav2Vec2::extract(const float* wave, int64_t samples, EncoderScratch& scratch) const {
  const float* in = wave;
  for (size_t i = 0; i < convolutions_.size(); ++i) {
    const Convolution& convolution = convolutions_[i];
    const int64_t rows = convolution.length(samples);
    const int width = convolution.outputs();
    float* out = scratch.layers[i % 2].need(rows * width);
    convolution.run(in, samples, out);
    if (!group_norm_) {
      convolution_norms_[i].run(out, rows, out);
    } else if (i == 0) {  // every channel over time
      const LayerNorm& norm = convolution_norms_[0];
      for (int c = 0; c < width; ++c) {
        double sum = 0.0, squares = 0.0;
        for (int64_t row = 0; row < rows; ++row) sum += out[row * width + c];
        const double mean = sum / static_cast<double>(std::max<int64_t>(rows, 1));
        for (int64_t row = 0; row < rows; ++row) {
          const double away = out[row * width + c] - mean;
          squares += away * away;
        }
        const double scale =
            1.0 / std::sqrt(squares / static_cast<double>(std::max<int64_t>(rows, 1)) + 1e-5);
        for (int64_t row = 0; row < rows; ++row) {
          float& value = out[row * width + c];
          value = static_cast<float>((value - mean) * scale * norm.gain(c) + norm.bias(c));
        }
      }
    }
    convolution_activation_(out, rows * width);
    in = out;
    samples = rows;
  }
  return in;
}

void Wav2Vec2::add_positions(const float* hidden, int64_t rows, float* out, EncoderScratch& scratch) const {
  // Padded on both sides by half the kernel; an even kernel gives one row too many at the end.
  const int64_t pad = position_kernel_ / 2;
  const int64_t padded = rows + position_kernel_ - 1;
  const auto groups = static_cast<int>(position_groups_.size());
  const int depth = width_ / groups;
  float* group = scratch.groups.need(padded * depth + rows * depth);
  float* moved = group + padded * depth;
  for (int g = 0; g < groups; ++g) {
    std::fill(group, group + padded * depth, 0.0f);
    for (int64_t row = 0; row < rows; ++row)
      std::memcpy(group + (row + pad) * depth, hidden + row * width_ + g * depth,
                  static_cast<size_t>(depth) * sizeof(float));
    position_groups_[static_cast<size_t>(g)].run(group, padded, moved);
    convolution_activation_(moved, rows * depth);
    for (int64_t row = 0; row < rows; ++row) {
      for (int c = 0; c < depth; ++c)
        out[row * width_ + g * depth + c] = hidden[row * width_ + g * depth + c] + moved[row * depth + c];
    }
  }
}

void Wav2Vec2::run_layer(const Layer& layer, float* hidden, int64_t rows, int span, int64_t first,
                         int64_t last, EncoderScratch& scratch) const {
  const int depth = width_ / heads_;
  // The rows that the wanted ones see.
  const int64_t begin = span < 0 ? 0 : std::max<int64_t>(0, first - span);
  const int64_t seen = (span < 0 ? rows : std::min(rows, last + span)) - begin;
  const int64_t before = first - begin, wanted = last - first, size = seen * width_;
  const float* in = hidden + begin * width_;
  if (stable_) {
    float* normed = scratch.normed.need(size);
    layer.before.run(in, seen, normed);
    in = normed;
  }
  float* wide = scratch.wide.need(seen * 3 * width_);
  layer.query_key_value.run(in, seen, wide);
  float* parts[4];
  for (int i = 0; i < 4; ++i) parts[i] = scratch.parts[i].need(size);
  split_heads(wide + before * 3 * width_, 3 * width_, wanted, heads_, depth, parts[0]);
  split_heads(wide + width_, 3 * width_, seen, heads_, depth, parts[1]);
  split_heads(wide + 2 * width_, 3 * width_, seen, heads_, depth, parts[2]);
  // Wanted row i is row i + before of those.
  const int64_t left = span < 0 ? -1 : span - before, right = span < 0 ? -1 : span + before;
  attend(parts[0], parts[1], parts[2], heads_, wanted, seen, depth, left, right, parts[3]);
  float* mixed = scratch.mixed.need(size);
  join_heads(parts[3], wanted, heads_, depth, mixed);
  float* out = scratch.out.need(size);
  layer.out.run(mixed, wanted, out);
  float* rest = hidden + first * width_;
  const NetworkKernels& kernels = network_kernels();
  kernels.add_scaled(rest, out, 1.0f, wanted * width_);
  if (!stable_) layer.before.run(rest, wanted, rest);
  const float* fed = rest;
  if (stable_) {
    float* normed = scratch.normed.need(size);
    layer.after.run(rest, wanted, normed);
    fed = normed;
  }
  float* inner = scratch.wide.need(wanted * layer.feed_in.outputs());
  layer.feed_in.run(fed, wanted, inner);
  activation_(inner, wanted * layer.feed_in.outputs());
  layer.feed_out.run(inner, wanted, out);
  kernels.add_scaled(rest, out, 1.0f, wanted * width_);
  if (!stable_) layer.after.run(rest, wanted, rest);
}

const float* Wav2Vec2::encode(const float* extracted, int64_t count, const std::vector<float>& positions,
                              int span, int64_t first, int64_t last, EncoderScratch& scratch) const {
  const auto rows = static_cast<int64_t>(positions.size());
  float* frames = scratch.frames.need(rows * extracted_);
  for (int64_t row = 0; row < rows; ++row) {
    const float at = std::clamp(positions[static_cast<size_t>(row)], 0.0f, static_cast<float>(count - 1));
    const int64_t low = std::min(static_cast<int64_t>(at), std::max<int64_t>(count - 2, 0));
    const int64_t high = std::min(low + 1, count - 1);
    const float part = at - static_cast<float>(low);
    for (int c = 0; c < extracted_; ++c)
      frames[row * extracted_ + c] =
          extracted[low * extracted_ + c] * (1.0f - part) + extracted[high * extracted_ + c] * part;
  }
  projection_norm_.run(frames, rows, frames);
  float* projected = scratch.mixed.need(rows * width_);
  projection_.run(frames, rows, projected);
  float* hidden = scratch.hidden.need(rows * width_);
  add_positions(projected, rows, hidden, scratch);
  if (!stable_) norm_.run(hidden, rows, hidden);
  const auto layers = static_cast<int64_t>(layers_.size());
  for (int64_t i = 0; i < layers; ++i) {
    // What later layers ask of this one: the wanted rows and `span` more to each side for each of them.
    const int64_t more = span < 0 ? rows : span * (layers - 1 - i);
    const int64_t from = std::max<int64_t>(0, first - more), to = std::min(rows, last + more);
    run_layer(layers_[static_cast<size_t>(i)], hidden, rows, span, from, to, scratch);
  }
  float* wanted = hidden + first * width_;
  if (stable_) norm_.run(wanted, last - first, wanted);
  return wanted;
}

}  // namespace facetalk::network
