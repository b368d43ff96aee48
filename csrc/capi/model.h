// What a facetalk_model handle holds.
#pragma once

#include <atomic>
#include <optional>
#include <string>

#include "capi/context.h"
#include "cpu/head/tongue.h"
#include "cpu/network/motion.h"
#include "cpu/network/tongue.h"
#include "cpu/network/wav2vec2.h"
#include "cpu/network/whisper_features.h"
#include "facetalk.h"

struct facetalk_model {
  facetalk_model(const std::string& folder, const facetalk::capi::Context& context);

  facetalk::capi::Context context;
  std::string folder;
  double fps = 0.0;
  float bounds[6] = {};         // head units: low xyz, high xyz
  double mouth_centre[3] = {};  // of the facial smoothing
  double mouth_sigma[3] = {};
  facetalk::network::Wav2Vec2 encoder;
  facetalk::network::MotionModel motion;
  // What is heard of a tongue, and how much of its shapes that takes: both, or neither of a model without one.
  std::optional<facetalk::network::TongueNetwork> touch;
  std::optional<facetalk::head::Reach> reach;
  std::optional<facetalk::network::WhisperEar> whisper;  // where it was asked for
  mutable std::atomic<bool> is_used{false};              // there was a stream, or features
};

namespace facetalk::capi {

// Throws Unsupported for a model without a tongue that moves.
void require_tongue(const facetalk_model& model);

// Throws ArgumentError for seconds that no stream hears beyond a frame.
void require_look_ahead(double seconds);

}  // namespace facetalk::capi
