#include "cpu/network/denoiser.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace facetalk::network {
namespace {

constexpr int kMostSize = 1 << 17, kMostLayers = 256;  // as facetalk/weights.py
constexpr float kRotaryBase = 10'000.0f;
constexpr double kGuidanceWave = 1000.0;

// Sines and cosines of a value at frequencies from 1 down to 1e-4, in float32 as the network was trained
// with.
std::vector<float> waves(float value, int width) {
  const int half = width / 2;
  std::vector<float> out(static_cast<size_t>(width), 0.0f);
  for (int i = 0; i < half; ++i) {
    const float frequency =
        std::exp(static_cast<float>(-std::log(10'000.0)) * static_cast<float>(i) / static_cast<float>(half));
    out[static_cast<size_t>(i)] = std::sin(value * frequency);
    out[static_cast<size_t>(half + i)] = std::cos(value * frequency);
  }
  return out;
}

}  // namespace

DenoiserSizes DenoiserSizes::read(const Json& config) {
  const auto size = [&](const char* name, int64_t most) {
    return static_cast<int>(config.at(name).whole(1, most));
  };
  DenoiserSizes sizes;
  sizes.motion = size("motion_dim", kMostSize);
  sizes.audio = size("audio_dim", kMostSize);
  sizes.layers = size("layers", kMostLayers);
  sizes.heads = size("heads", kMostSize);
  sizes.width = size("width", kMostSize);
  sizes.feedforward = size("feedforward", kMostSize);
  const std::vector<int> window = config.at("window").sizes(0, kMostSize);
  if (window.size() != 2) throw FileError("denoiser: window has no two entries");
  sizes.left = window[0];
  sizes.right = window[1];
  if (const Json* history = config.find("history"))
    sizes.history = static_cast<int>(history->whole(1, kMostSize));
  if (sizes.width % (2 * sizes.heads) != 0) throw FileError("denoiser: width is no multiple of 2 x heads");
  return sizes;
}

Denoiser::Denoiser(const Safetensors& file, const std::string& prefix, const DenoiserSizes& sizes,
                   bool is_student)
    : sizes_(sizes), is_student_(is_student) {
  const int width = sizes.width;
  motion_in_ = Linear::read(file, prefix + "motion_in", width, sizes.motion);
  audio_in_ = Linear::read(file, prefix + "audio_in", width, sizes.audio);
  motion_out_ = Linear::read(file, prefix + "motion_out", sizes.motion, width);
  null_audio_ = file.floats(prefix + "null_audio", {width});
  for (int i = 0; i < 3; ++i)
    time_[i] = Linear::read(file, prefix + "time.mlp." + std::to_string(2 * i), width, width);
  if (is_student) {
    end_in_ = Linear::read(file, prefix + "end_in", width, width, false);
    guidance_in_ = Linear::read(file, prefix + "guidance_in", width, width, false);
  }
  for (int i = 0; i < sizes.layers; ++i) {
    const std::string name = prefix + "blocks." + std::to_string(i) + ".";
    Block block;
    for (int part = 0; part < 3; ++part) {
      block.norms[part] = LayerNorm::read(file, name + "norms." + std::to_string(part), width, 1e-5f);
      block.films[part] =
          Linear::read(file, name + "films." + std::to_string(part) + ".linear", 2 * width, width);
    }
    block.project_in = Linear::read(file, name + "self_attention.project_in", 3 * width, width);
    block.project_out = Linear::read(file, name + "self_attention.project_out", width, width);
    block.audio_value = Linear::read(file, name + "audio_attention.value", width, width);
    block.audio_out = Linear::read(file, name + "audio_attention.project_out", width, width);
    if (!sizes.aligned()) {
      block.audio_query = Linear::read(file, name + "audio_attention.query", width, width);
      block.audio_key = Linear::read(file, name + "audio_attention.key", width, width);
    }
    block.feed_in = Linear::read(file, name + "feed_in", sizes.feedforward, width);
    block.feed_out = Linear::read(file, name + "feed_out", width, sizes.feedforward);
    blocks_.push_back(std::move(block));
  }
}

Modulation Denoiser::modulation(int timestep, int previous, double guidance) const {
  const auto width = static_cast<size_t>(sizes_.width);
  const NetworkKernels& kernels = network_kernels();
  std::vector<float> time = waves(static_cast<float>(timestep), sizes_.width), next(width);
  for (int i = 0; i < 3; ++i) {
    time_[i].run(time.data(), 1, next.data());
    if (i < 2) kernels.silu(next.data(), sizes_.width);
    std::swap(time, next);
  }
  if (is_student_) {
    const std::vector<float> end = waves(static_cast<float>(previous), sizes_.width);
    const float weight = static_cast<float>(guidance) - 1.0f;
    const std::vector<float> strength = waves(static_cast<float>(kGuidanceWave) * weight, sizes_.width);
    end_in_.run(end.data(), 1, next.data());
    kernels.add_scaled(time.data(), next.data(), 1.0f, sizes_.width);
    guidance_in_.run(strength.data(), 1, next.data());
    kernels.add_scaled(time.data(), next.data(), 1.0f, sizes_.width);
  }
  kernels.silu(time.data(), sizes_.width);
  Modulation out(blocks_.size() * 6 * width);
  float* to = out.data();
  for (const Block& block : blocks_) {
    for (const Linear& film : block.films) {
      film.run(time.data(), 1, to);
      for (size_t i = 0; i < width; ++i) to[i] += 1.0f;
      to += 2 * width;
    }
  }
  return out;
}

void Denoiser::listen(const float* features, int64_t frames, std::vector<Heard>& layers) const {
  const int width = sizes_.width;
  const auto size = static_cast<size_t>(frames * width);
  std::vector<float> audio(size), value(size);
  if (features != nullptr) {
    audio_in_.run(features, frames, audio.data());
  } else {
    for (int64_t i = 0; i < frames; ++i)
      std::copy(null_audio_.begin(), null_audio_.end(), audio.begin() + i * width);
  }
  layers.resize(blocks_.size());
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const Block& block = blocks_[i];
    Heard& heard = layers[i];
    heard.frames = frames;
    block.audio_value.run(audio.data(), frames, value.data());
    if (sizes_.aligned()) {
      heard.term.resize(size);
      block.audio_out.run(value.data(), frames, heard.term.data());
    } else {
      const int depth = width / sizes_.heads;
      heard.value.resize(size);
      heard.key.resize(size);
      split_heads(value.data(), width, frames, sizes_.heads, depth, heard.value.data());
      block.audio_key.run(audio.data(), frames, value.data());
      split_heads(value.data(), width, frames, sizes_.heads, depth, heard.key.data());
    }
  }
}

// (heads, frames, depth), the first frame at position `start`: RoFormer (Su et al., 2021).
void Denoiser::rotate(float* x, int64_t frames, int64_t start) const {
  const int depth = sizes_.width / sizes_.heads, half = depth / 2;
  for (int i = 0; i < half; ++i) {
    const float frequency = std::pow(kRotaryBase, -static_cast<float>(i) / static_cast<float>(half));
    for (int64_t frame = 0; frame < frames; ++frame) {
      const float angle = static_cast<float>(start + frame) * frequency;
      const float cos = std::cos(angle), sin = std::sin(angle);
      for (int head = 0; head < sizes_.heads; ++head) {
        float* row = x + (head * frames + frame) * depth;
        const float first = row[i], second = row[half + i];
        row[i] = first * cos - second * sin;
        row[half + i] = first * sin + second * cos;
      }
    }
  }
}

// x += gain part + shift
void Denoiser::add_modulated(float* x, const float* part, int64_t frames, const float* modulation) const {
  const int width = sizes_.width;
  const float* shift = modulation + width;
  for (int64_t frame = 0; frame < frames; ++frame, x += width, part += width) {
    for (int i = 0; i < width; ++i) x[i] += shift[i] + part[i] * modulation[i];
  }
}

void Denoiser::attend_past(const Block& block, float* x, int64_t frames, const float* modulation, Past& past,
                           DenoiserScratch& scratch) const {
  const int width = sizes_.width, heads = sizes_.heads, depth = width / heads;
  const int64_t before = past.frames, seen = before + frames;
  float* normed = scratch.normed.need(frames * width);
  block.norms[0].run(x, frames, normed);
  float* wide = scratch.wide.need(frames * 3 * width);
  block.project_in.run(normed, frames, wide);
  float* query = scratch.query.need(frames * width);
  float* key = scratch.key.need(seen * width);
  float* value = scratch.value.need(seen * width);
  split_heads(wide, 3 * width, frames, heads, depth, query);
  for (int head = 0; head < heads; ++head) {
    const auto old = static_cast<size_t>(before * depth) * sizeof(float);
    if (before > 0) {
      std::memcpy(key + head * seen * depth, past.key.data() + head * before * depth, old);
      std::memcpy(value + head * seen * depth, past.value.data() + head * before * depth, old);
    }
    split_heads(wide + width + head * depth, 3 * width, frames, 1, depth,
                key + (head * seen + before) * depth);
    split_heads(wide + 2 * width + head * depth, 3 * width, frames, 1, depth,
                value + (head * seen + before) * depth);
  }
  const int64_t kept = sizes_.history < 0 ? seen : std::min<int64_t>(seen, sizes_.history);
  past.frames = kept;
  past.key.resize(static_cast<size_t>(kept * width));
  past.value.resize(static_cast<size_t>(kept * width));
  for (int head = 0; head < heads; ++head) {
    const auto size = static_cast<size_t>(kept * depth) * sizeof(float);
    std::memcpy(past.key.data() + head * kept * depth, key + (head * seen + seen - kept) * depth, size);
    std::memcpy(past.value.data() + head * kept * depth, value + (head * seen + seen - kept) * depth, size);
  }
  // Positions count from the first key, so they stay small however long the clip is.
  rotate(query, frames, before);
  rotate(key, seen, 0);
  float* mixed = scratch.mixed.need(frames * width);
  const int64_t left = sizes_.history < 0 ? -1 : sizes_.history - before;
  attend(query, key, value, heads, frames, seen, depth, left, before, mixed);
  float* joined = scratch.joined.need(frames * width);
  join_heads(mixed, frames, heads, depth, joined);
  float* out = scratch.out.need(frames * width);
  block.project_out.run(joined, frames, out);
  add_modulated(x, out, frames, modulation);
}

void Denoiser::attend_audio(const Block& block, float* x, int64_t frames, const float* modulation,
                            const Heard& heard, int64_t offset, DenoiserScratch& scratch) const {
  const int width = sizes_.width, heads = sizes_.heads, depth = width / heads;
  if (sizes_.aligned()) {
    add_modulated(x, heard.term.data() + offset * width, frames, modulation);
    return;
  }
  float* normed = scratch.normed.need(frames * width);
  block.norms[1].run(x, frames, normed);
  float* joined = scratch.joined.need(frames * width);
  block.audio_query.run(normed, frames, joined);
  float* query = scratch.query.need(frames * width);
  split_heads(joined, width, frames, heads, depth, query);
  float* mixed = scratch.mixed.need(frames * width);
  attend(query, heard.key.data(), heard.value.data(), heads, frames, heard.frames, depth,
         sizes_.left - offset, sizes_.right + offset, mixed);
  join_heads(mixed, frames, heads, depth, joined);
  float* out = scratch.out.need(frames * width);
  block.audio_out.run(joined, frames, out);
  add_modulated(x, out, frames, modulation);
}

void Denoiser::feed_forward(const Block& block, float* x, int64_t frames, const float* modulation,
                            DenoiserScratch& scratch) const {
  const int width = sizes_.width;
  float* normed = scratch.normed.need(frames * width);
  block.norms[2].run(x, frames, normed);
  float* inner = scratch.wide.need(frames * sizes_.feedforward);
  block.feed_in.run(normed, frames, inner);
  network_kernels().gelu_tanh(inner, frames * sizes_.feedforward);
  float* out = scratch.out.need(frames * width);
  block.feed_out.run(inner, frames, out);
  add_modulated(x, out, frames, modulation);
}

void Denoiser::predict(const float* noisy, int64_t frames, const Modulation& modulation,
                       const std::vector<Heard>& heard, int64_t offset, std::vector<Past>& past, float* clean,
                       DenoiserScratch& scratch) const {
  const int width = sizes_.width;
  float* x = scratch.x.need(frames * width);
  motion_in_.run(noisy, frames, x);
  past.resize(blocks_.size());
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const float* film = modulation.data() + i * 6 * static_cast<size_t>(width);
    attend_past(blocks_[i], x, frames, film, past[i], scratch);
    attend_audio(blocks_[i], x, frames, film + 2 * width, heard[i], offset, scratch);
    feed_forward(blocks_[i], x, frames, film + 4 * width, scratch);
  }
  motion_out_.run(x, frames, clean);
}

}  // namespace facetalk::network
