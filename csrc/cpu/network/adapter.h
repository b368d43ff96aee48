// What takes Whisper's hearing to the features that a model's motion was trained on: the Adapter of
// facetalk/audio/whisper_encoder.py in C++.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cpu/network/layers.h"

namespace facetalk::network {

class Adapter {
 public:
  // Reads config.json and model.safetensors of a model's folder whisper/, for an encoder of this width and
  // depth. Throws FileError.
  Adapter(const std::string& folder, int width, int depth);

  int features() const { return whole_.last.outputs(); }
  // Whose features it makes; empty where it does not say.
  const std::string& feature_space() const { return feature_space_; }
  // Which weights of Whisper it was made for, as Whisper::named(); nothing where it does not say.
  const std::string& listener() const { return listener_; }
  // Weight of guidance for mouths, where nobody asks for another; 0: the motion model's own.
  double guidance() const { return guidance_; }
  double floor() const { return floor_; }  // variance below which sound is not raised
  bool hears_live() const { return window_ > 0; }
  int64_t window() const { return window_; }  // samples that are heard at a time of live sound
  // Rows to each side that a row of features depends on.
  static constexpr int64_t kReach = 3 + 2 + 2 + 1;

  // (rows, 2 width) of Whisper -> (rows, features()), smoothed; those that live sound is read with, or those of
  // whole recordings.
  void run(const float* heard, int64_t rows, bool live, float* out) const;

 private:
  struct Stack {
    Convolution first, blocks[2];
    LayerNorm norms[2];
    Linear last;
  };
  static Stack read(const Safetensors& file, const std::string& prefix, int components, int width,
                    int features);

  Linear reduce_;  // to principal components
  Stack whole_, live_;
  std::string listener_, feature_space_;
  double guidance_ = 0.0;
  double floor_ = 0.0;
  int64_t window_ = 0;
};

}  // namespace facetalk::network
