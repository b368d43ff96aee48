// What hears for a stream: a model's own encoder or Whisper, live or when the recording is over.
#pragma once

#include <optional>
#include <vector>

#include "capi/model.h"
#include "cpu/network/features.h"

namespace facetalk::capi {

class Ear {
 public:
  // look_ahead_s: infinity for the whole recording. Throws Unsupported for an encoder that cannot hear live.
  Ear(const facetalk_model& model, bool by_whisper, double look_ahead_s);

  void push(const float* samples, int64_t count, const network::TakeFeatures& take);
  // Ends the sound. What was kept of a whole recording is let go of.
  void finish(const network::TakeFeatures& take);

 private:
  const facetalk_model& model_;
  bool by_whisper_;
  std::optional<network::LiveFeatures> live_;
  std::optional<network::LiveWhisper> live_whisper_;
  std::vector<float> sound_;  // of a recording that is not over
};

}  // namespace facetalk::capi
