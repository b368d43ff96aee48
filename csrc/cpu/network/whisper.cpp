#include "cpu/network/whisper.h"

#include <algorithm>
#include <cstring>

#include "cpu/parallel.h"
#include "cpu/threads.h"

namespace facetalk::network {
namespace {

constexpr int kHeadWidth = 64;  // of every size of Whisper
constexpr int64_t kMostWidth = 1 << 13, kMostBands = 512, kMostRows = 1 << 14;
constexpr int kMostLayers = 64;
constexpr float kEpsilon = 1e-5f;

// Rows of a piece of work: some for every thread, whole tiles of the kernels, and no more than stay in its cache.
int64_t piece_of(int64_t rows) {
  const int64_t each = (rows + 2 * cpu::threads() - 1) / (2 * cpu::threads());
  return std::clamp<int64_t>((each + 5) / 6 * 6, 48, 240);
}

int checked_size(const std::vector<int64_t>& shape, size_t axis, int64_t most, const std::string& where) {
  if (shape.size() <= axis || shape[axis] < 1 || shape[axis] > most)
    throw FileError(where + ": does not hold an encoder of Whisper");
  return static_cast<int>(shape[axis]);
}

}  // namespace

Whisper::Whisper(const std::string& path) {
  const Safetensors file(path);
  named_ = file.metadata("listener");
  const int bands = checked_size(file.shape("conv1.weight"), 1, kMostBands, path);
  width_ = checked_size(file.shape("conv1.weight"), 0, kMostWidth, path);
  if (width_ % kHeadWidth != 0) throw FileError(path + ": the width of its layers is no multiple of 64");
  heads_ = width_ / kHeadWidth;
  positions_rows_ = checked_size(file.shape("embed_positions.weight"), 0, kMostRows, path);
  mel_ = LogMel(bands);
  for (int i = 0; i < 2; ++i) {
    const std::string name = i == 0 ? "conv1" : "conv2";
    const int inputs = i == 0 ? bands : width_;
    convolutions_[i] = Convolution(file.floats(name + ".weight", {width_, inputs, 3}),
                                   file.floats(name + ".bias", {width_}), width_, inputs, 3, i + 1);
  }
  positions_ = file.floats("embed_positions.weight", {positions_rows_, width_});
  for (int i = 0; i < kMostLayers && file.has("layers." + std::to_string(i) + ".fc1.weight"); ++i)
    read_layer(file, "layers." + std::to_string(i));
  if (layers_.size() < 2) throw FileError(path + ": has fewer than two layers");
  norm_ = LayerNorm::read(file, "layer_norm", width_, kEpsilon);
}

void Whisper::read_layer(const Safetensors& file, const std::string& name) {
  Layer layer;
  std::vector<float> weight, bias;
  for (const char* part : {"q", "k", "v"}) {
    const std::string from = name + ".self_attn." + part + "_proj";
    const std::vector<float> w = file.floats(from + ".weight", {width_, width_});
    // Whisper's keys have no bias.
    const std::vector<float> b = *part == 'k' ? std::vector<float>(static_cast<size_t>(width_))
                                              : file.floats(from + ".bias", {width_});
    weight.insert(weight.end(), w.begin(), w.end());
    bias.insert(bias.end(), b.begin(), b.end());
  }
  const int feed = checked_size(file.shape(name + ".fc1.weight"), 0, 4 * kMostWidth, name);
  layer.query_key_value = Linear(weight, bias, 3 * width_, width_);
  layer.out = Linear::read(file, name + ".self_attn.out_proj", width_, width_);
  layer.feed_in = Linear::read(file, name + ".fc1", feed, width_);
  layer.feed_out = Linear::read(file, name + ".fc2", width_, feed);
  layer.before = LayerNorm::read(file, name + ".self_attn_layer_norm", width_, kEpsilon);
  layer.after = LayerNorm::read(file, name + ".final_layer_norm", width_, kEpsilon);
  layers_.push_back(std::move(layer));
}

// Both convolutions are padded by a row of zeros on each side.
float* Whisper::convolve(const float* sound, int64_t samples, WhisperScratch& scratch) const {
  const int64_t frames = LogMel::frames(samples), bands = mel_.bands();
  float* mel = scratch.mel.need((frames + 2) * bands);
  std::fill_n(mel, bands, 0.0f);
  std::fill_n(mel + (frames + 1) * bands, bands, 0.0f);
  mel_.run(sound, samples, scratch.sound, mel + bands);
  float* inner = scratch.inner.need((frames + 2) * width_);
  std::fill_n(inner, width_, 0.0f);
  std::fill_n(inner + (frames + 1) * width_, width_, 0.0f);
  const NetworkKernels& kernels = network_kernels();
  // A convolution of n rows of outputs reads its stride times n, and the rest of a kernel.
  cpu::parallel_for(frames, piece_of(frames), [&](int64_t begin, int64_t end) {
    float* to = inner + (begin + 1) * width_;
    convolutions_[0].run(mel + begin * bands, end - begin + 2, to);
    kernels.gelu(to, (end - begin) * width_);
  });
  const int64_t rows = frames / 2;
  float* hidden = scratch.hidden.need(rows * width_);
  cpu::parallel_for(rows, piece_of(rows), [&](int64_t begin, int64_t end) {
    float* to = hidden + begin * width_;
    convolutions_[1].run(inner + 2 * begin * width_, 2 * (end - begin) + 1, to);
    kernels.gelu(to, (end - begin) * width_);
    kernels.add_scaled(to, positions_.data() + begin * width_, 1.0f, (end - begin) * width_);
  });
  return hidden;
}

// Of the rows `first` to `last`, which see all of them.
void Whisper::run_layer(const Layer& layer, float* hidden, int64_t rows, int64_t first, int64_t last,
                        WhisperScratch& scratch) const {
  const int64_t wanted = last - first;
  float* query = scratch.query.need(wanted * width_);
  float* key = scratch.key.need(rows * width_);
  float* value = scratch.value.need(rows * width_);
  const int64_t most = piece_of(rows);
  cpu::parallel_for(rows, most, [&](int64_t begin, int64_t end) {
    std::vector<float> normed(static_cast<size_t>(most * width_)),
        wide(static_cast<size_t>(3 * most * width_));
    for (int64_t from = begin; from < end; from += most) {
      const int64_t count = std::min(most, end - from);
      layer.before.run(hidden + from * width_, count, normed.data());
      layer.query_key_value.run(normed.data(), count, wide.data());
      for (int64_t row = 0; row < count; ++row) {
        const float* parts = wide.data() + row * 3 * width_;
        const int64_t at = from + row;
        for (int64_t head = 0; head < heads_; ++head, parts += kHeadWidth) {
          constexpr size_t kBytes = kHeadWidth * sizeof(float);
          if (at >= first && at < last)
            std::memcpy(query + (head * wanted + at - first) * kHeadWidth, parts, kBytes);
          std::memcpy(key + (head * rows + at) * kHeadWidth, parts + width_, kBytes);
          std::memcpy(value + (head * rows + at) * kHeadWidth, parts + 2 * width_, kBytes);
        }
      }
    }
  });
  float* mixed = scratch.mixed.need(wanted * width_);
  attend(query, key, value, heads_, wanted, rows, kHeadWidth, -1, -1, mixed);
  const NetworkKernels& kernels = network_kernels();
  const int64_t feed = layer.feed_in.outputs(), some = piece_of(wanted);
  cpu::parallel_for(wanted, some, [&](int64_t begin, int64_t end) {
    std::vector<float> joined(static_cast<size_t>(some * width_)), out(joined.size()),
        inner(static_cast<size_t>(some * feed));
    for (int64_t from = begin; from < end; from += some) {
      const int64_t count = std::min(some, end - from);
      for (int64_t row = 0; row < count; ++row) {
        for (int64_t head = 0; head < heads_; ++head)
          std::memcpy(joined.data() + row * width_ + head * kHeadWidth,
                      mixed + (head * wanted + from + row) * kHeadWidth, kHeadWidth * sizeof(float));
      }
      float* rest = hidden + (first + from) * width_;
      layer.out.run(joined.data(), count, out.data());
      kernels.add_scaled(rest, out.data(), 1.0f, count * width_);
      layer.after.run(rest, count, joined.data());
      layer.feed_in.run(joined.data(), count, inner.data());
      kernels.gelu(inner.data(), count * feed);
      layer.feed_out.run(inner.data(), count, out.data());
      kernels.add_scaled(rest, out.data(), 1.0f, count * width_);
    }
  });
}

void Whisper::hear(const float* sound, int64_t samples, int64_t first, int64_t last, WhisperScratch& scratch,
                   float* out) const {
  const int64_t rows = samples / kRow, wanted = last - first;
  float* hidden = convolve(sound, samples, scratch);
  const size_t bytes = static_cast<size_t>(width_) * sizeof(float);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const bool is_last = i + 1 == layers_.size();
    if (is_last) {
      for (int64_t row = 0; row < wanted; ++row)
        std::memcpy(out + 2 * row * width_, hidden + (first + row) * width_, bytes);
    }
    run_layer(layers_[i], hidden, rows, is_last ? first : 0, is_last ? last : rows, scratch);
  }
  float* wanted_rows = hidden + first * width_;
  norm_.run(wanted_rows, wanted, wanted_rows);
  for (int64_t row = 0; row < wanted; ++row)
    std::memcpy(out + (2 * row + 1) * width_, wanted_rows + row * width_, bytes);
}

}  // namespace facetalk::network
