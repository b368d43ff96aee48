// What the tip of the tongue does with speech: the network of facetalk/tongue.py in C++.
#pragma once

#include <string>

#include "cpu/network/layers.h"

namespace facetalk::network {

// What the tip touches: the ridge behind the upper teeth, the edges of the teeth (facetalk/data/tongue.py).
constexpr int kContacts = 2;

// Two layers over the features that the motion is given; a frame's contacts are a function of its feature alone.
class TongueNetwork {
 public:
  // Reads config.json and model.safetensors of a model's folder tongue/. Throws FileError.
  explicit TongueNetwork(const std::string& folder);

  int width() const { return first_.inputs(); }  // A, values of a feature
  // Whose features it was trained on; empty where it does not say.
  const std::string& feature_space() const { return feature_space_; }
  // (frames, A) -> (frames, kContacts) in 0..1.
  void run(const float* features, int64_t frames, float* contacts) const;

 private:
  Linear first_, second_;
  std::string feature_space_;
};

}  // namespace facetalk::network
