// The denoiser: facetalk/diffusion/denoiser.py and student.py in C++, for a clip that comes in pieces.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cpu/network/layers.h"

namespace facetalk::network {

struct DenoiserSizes {
  int motion = 0, audio = 0, layers = 0, heads = 0, width = 0, feedforward = 0;
  int left = 0, right = 0;  // audio frames before and after that a motion frame sees
  int history = -1;         // past motion frames that a frame sees; negative: all

  static DenoiserSizes read(const Json& config);
  bool aligned() const { return left == 0 && right == 0; }
};

// Keys and values of past frames of one layer, before rotation, (heads, frames, depth) each.
struct Past {
  std::vector<float> key, value;
  int64_t frames = 0;
};

// What one layer needs of the audio of a piece: the finished term of every frame, or keys and values.
struct Heard {
  std::vector<float> term, key, value;
  int64_t frames = 0;
};

// What the blocks make of a timestep: gain and shift of the three parts of every block, (layers, 3, 2,
// width).
using Modulation = std::vector<float>;

// Scratch of a thread that runs the denoiser.
struct DenoiserScratch {
  Floats x, normed, wide, query, key, value, mixed, joined, out;
};

class Denoiser {
 public:
  // Tensors `prefix`... of a file; a student has two inputs more.
  Denoiser(const Safetensors& file, const std::string& prefix, const DenoiserSizes& sizes, bool is_student);

  const DenoiserSizes& sizes() const { return sizes_; }
  bool is_student() const { return is_student_; }

  // Of the step from `timestep` to `previous` (-1: clean); only a student looks at the last two.
  Modulation modulation(int timestep, int previous, double guidance) const;

  // features: (frames, audio) standardised; null: the learned condition without audio.
  void listen(const float* features, int64_t frames, std::vector<Heard>& layers) const;

  // noisy: (frames, motion) -> clean, the same. `offset` frames of `heard` lie before the first; `past` has a
  // layer each, which is brought up to date.
  void predict(const float* noisy, int64_t frames, const Modulation& modulation,
               const std::vector<Heard>& heard, int64_t offset, std::vector<Past>& past, float* clean,
               DenoiserScratch& scratch) const;

 private:
  struct Block {
    LayerNorm norms[3];
    Linear films[3];
    Linear project_in, project_out, audio_value, audio_out, audio_query, audio_key, feed_in, feed_out;
  };
  void attend_past(const Block& block, float* x, int64_t frames, const float* modulation, Past& past,
                   DenoiserScratch& scratch) const;
  void attend_audio(const Block& block, float* x, int64_t frames, const float* modulation, const Heard& heard,
                    int64_t offset, DenoiserScratch& scratch) const;
  void feed_forward(const Block& block, float* x, int64_t frames, const float* modulation,
                    DenoiserScratch& scratch) const;
  void rotate(float* x, int64_t frames, int64_t start) const;
  void add_modulated(float* x, const float* part, int64_t frames, const float* modulation) const;

  DenoiserSizes sizes_;
  bool is_student_;
  Linear motion_in_, audio_in_, motion_out_, time_[3], end_in_, guidance_in_;
  std::vector<float> null_audio_;
  std::vector<Block> blocks_;
};

}  // namespace facetalk::network
