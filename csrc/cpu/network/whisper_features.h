// Features at the motion's frame rate by Whisper: of a whole recording, window by window, and of sound as it is
// heard. facetalk/audio/{whisper_encoder,whisper_live}.py in C++.
#pragma once

#include <string>
#include <vector>

#include "cpu/network/adapter.h"
#include "cpu/network/features.h"
#include "cpu/network/whisper.h"

namespace facetalk::network {

// Whisper, hearing for a model's motion.
struct WhisperEar {
  // Reads Whisper's encoder from a file, and what takes it to features from a model's folder whisper/. Throws
  // FileError.
  WhisperEar(const std::string& listener, const std::string& folder);

  Whisper whisper;
  Adapter adapter;
};

// Features of a whole recording of 16 kHz.
void whole_features(const WhisperEar& ear, std::vector<float> sound, double fps, const TakeFeatures& take);

// Features of sound that arrives bit by bit: frame i is given as soon as what lies `look_ahead` seconds after
// its middle was heard, from a window of a fixed length that ends there. It does not depend on how the sound is
// cut. Memory is constant.
class LiveWhisper {
 public:
  // Throws Unsupported where the adapter was not made for it, ArgumentError for a look-ahead beyond
  // kMostAhead.
  LiveWhisper(const WhisperEar& ear, double fps, double look_ahead_s);

  static constexpr double kMostAhead = 1.0;  // seconds; most of a window has to lie before a frame

  void push(const float* samples, int64_t count, const TakeFeatures& take);
  void finish(const TakeFeatures& take);

 private:
  void give(int64_t known, int64_t end, const TakeFeatures& take);

  const WhisperEar& ear_;
  double fps_, look_ahead_s_;
  LiveSound sound_;
  WhisperScratch scratch_;
  std::vector<float> window_, states_, rows_, feature_;
  int64_t done_ = 0;
};

}  // namespace facetalk::network
