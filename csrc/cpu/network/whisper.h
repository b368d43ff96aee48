// Whisper's encoder (Radford et al., 2022), of any size: facetalk/audio/whisper.py in C++.
#pragma once

#include <string>
#include <vector>

#include "cpu/network/layers.h"
#include "cpu/network/mel.h"

namespace facetalk::network {

// Scratch of a thread that runs it.
struct WhisperScratch {
  Floats sound, mel, inner, hidden, wide, query, key, value, mixed;
};

class Whisper {
 public:
  static constexpr int kRow = 2 * kMelHop;  // samples of a row, 20 ms

  // Reads the tensors of a safetensors file by the names that transformers gives them. Throws FileError.
  explicit Whisper(const std::string& file);

  int width() const { return width_; }
  // Which weights these are, by a sum that facetalk writes beside them; nothing where another program did.
  const std::string& named() const { return named_; }
  int depth() const { return static_cast<int>(layers_.size()); }
  int64_t most_samples() const { return positions_rows_ * kRow; }  // that are heard at once

  // Hears (samples) of 16 kHz, a multiple of kRow and at most most_samples(). Writes, of rows `first` to
  // `last`, what comes out of the last layer but one and, normalised, of the last: (last - first, 2 width()).
  void hear(const float* sound, int64_t samples, int64_t first, int64_t last, WhisperScratch& scratch,
            float* out) const;

 private:
  struct Layer {
    Linear query_key_value, out, feed_in, feed_out;
    LayerNorm before, after;  // the norms of attention and of the feed-forward part
  };
  void read_layer(const Safetensors& file, const std::string& name);
  float* convolve(const float* sound, int64_t samples, WhisperScratch& scratch) const;
  void run_layer(const Layer& layer, float* hidden, int64_t rows, int64_t first, int64_t last,
                 WhisperScratch& scratch) const;

  std::string named_;
  int width_ = 0, heads_ = 0;
  int64_t positions_rows_ = 0;
  LogMel mel_;
  Convolution convolutions_[2];
  std::vector<float> positions_;  // (positions_rows_, width)
  std::vector<Layer> layers_;
  LayerNorm norm_;
};

}  // namespace facetalk::network
