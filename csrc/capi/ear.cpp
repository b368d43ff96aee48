#include "capi/ear.h"

#include <cmath>
#include <utility>

namespace facetalk::capi {

Ear::Ear(const facetalk_model& model, bool by_whisper, double look_ahead_s)
    : model_(model), by_whisper_(by_whisper) {
  if (std::isinf(look_ahead_s)) return;
  if (by_whisper_) {
    live_whisper_.emplace(*model.whisper, model.fps, look_ahead_s);
  } else {
    live_.emplace(model.encoder, model.fps, look_ahead_s);
  }
}

void Ear::push(const float* samples, int64_t count, const network::TakeFeatures& take) {
  if (live_) {
    live_->push(samples, count, take);
  } else if (live_whisper_) {
    live_whisper_->push(samples, count, take);
  } else {
    sound_.insert(sound_.end(), samples, samples + count);
  }
}

void Ear::finish(const network::TakeFeatures& take) {
  if (live_) return live_->finish(take);
  if (live_whisper_) return live_whisper_->finish(take);
  if (sound_.empty()) return;
  std::vector<float> sound = std::move(sound_);
  sound_ = {};
  if (by_whisper_) {
    whole_features(*model_.whisper, std::move(sound), model_.fps, take);
  } else {
    whole_features(model_.encoder, std::move(sound), model_.fps, take);
  }
}

}  // namespace facetalk::capi
