// Wav2Vec 2.0 (Baevski et al., 2020) with the interpolation to motion frames that FaceTalk puts between its
// convolutions and its transformer: facetalk/audio/encoder.py's `hidden_states` in C++, for any sizes.
#pragma once

#include <string>
#include <vector>

#include "cpu/network/layers.h"

namespace facetalk::network {

// Scratch of a thread that runs the encoder.
struct EncoderScratch {
  Floats layers[2];  // of the convolutions
  Floats frames, groups, hidden, normed, wide, parts[4], mixed, out;
};

class Wav2Vec2 {
 public:
  // Reads config.json, preprocessor_config.json and model.safetensors of a folder. Throws FileError.
  explicit Wav2Vec2(const std::string& folder);

  int width() const { return width_; }  // A, values of a frame
  // Whose features these are, by the name of facetalk/feature_space.py; empty where nobody said.
  const std::string& feature_space() const { return feature_space_; }
  int extracted_width() const { return extracted_; }
  int field() const { return field_; }    // samples that a frame of the extractor sees
  int stride() const { return stride_; }  // samples from a frame of the extractor to the next
  int margin() const { return (field_ - stride_) / 2; }
  bool normalises() const { return normalises_; }  // whether recordings are brought to unit variance
  double floor() const { return floor_; }          // smallest variance that normalisation divides by
  // Frames that attention reaches to each side; negative: all.
  int span(double fps) const;
  // Frames before a frame that its features depend on; negative: all of them.
  int past(double fps) const;
  // Whether a frame of the extractor depends on its own samples alone.
  bool extracts_locally() const { return !group_norm_; }

  int64_t extracted_frames(int64_t samples) const;
  // (samples) normalised sound -> (extracted_frames(samples), extracted_width()).
  const float* extract(const float* wave, int64_t samples, EncoderScratch& scratch) const;

  // Features of the motion frames at `positions` (fractional index into `count` extracted frames), each
  // attending `span` frames to its sides. Only the rows `first` to `last` are computed to the end. Returns
  // (last - first, width()).
  const float* encode(const float* extracted, int64_t count, const std::vector<float>& positions, int span,
                      int64_t first, int64_t last, EncoderScratch& scratch) const;

 private:
  struct Layer {
    Linear query_key_value, out, feed_in, feed_out;
    LayerNorm before, after;  // the norms of attention and of the feed-forward part
  };
  void read_extractor(const Json& config, const Safetensors& file, const std::string& where);
  void read_positions(const Json& config, const Safetensors& file);
  void read_layers(const Json& config, const Safetensors& file);
  void add_positions(const float* hidden, int64_t rows, float* out, EncoderScratch& scratch) const;
  void run_layer(const Layer& layer, float* hidden, int64_t rows, int span, int64_t first, int64_t last,
                 EncoderScratch& scratch) const;

  std::vector<Convolution> convolutions_;
  std::vector<LayerNorm> convolution_norms_;
  Activation convolution_activation_ = nullptr, activation_ = nullptr;
  bool group_norm_ = false, stable_ = false, normalises_ = true;
  double floor_ = 1e-7, span_s_ = 0.0;  // span 0: all
  LayerNorm projection_norm_, norm_;
  Linear projection_;
  std::vector<Convolution> position_groups_;
  int position_kernel_ = 0;
  std::string feature_space_;
  std::vector<Layer> layers_;
  int width_ = 0, extracted_ = 0, heads_ = 0, field_ = 1, stride_ = 1;
};

}  // namespace facetalk::network
