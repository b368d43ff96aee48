// The motion model: audio features in, blendshape weights out.
// facetalk/diffusion/{checkpoint,model,stream}.py in C++.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cpu/network/denoiser.h"

namespace facetalk::network {

// Cosine noise schedule (Nichol and Dhariwal, 2021, eq. 17): see facetalk/diffusion/schedule.py.
class NoiseSchedule {
 public:
  explicit NoiseSchedule(int train_steps);
  int train_steps() const { return static_cast<int>(power_.size()); }
  double signal_power(int timestep) const {
    return timestep < 0 ? 1.0 : power_[static_cast<size_t>(timestep)];
  }
  // Pairs (timestep, next cleaner one), "trailing" spacing, the last to -1 (clean).
  std::vector<std::pair<int, int>> transitions(int steps) const;

 private:
  std::vector<double> power_;
};

// Keeps lips from passing through each other: facetalk/diffusion/lip_contact.py.
struct LipContact {
  double bias_mm = 0.0, lowest_mm = 0.0;
  std::vector<double> per_unit_mm;
  size_t close = 0;
  void apply(float* weights) const;
};

class MotionModel {
 public:
  // Reads config.json, model.safetensors and, where there is one, student.safetensors. Throws FileError.
  explicit MotionModel(const std::string& folder);

  const std::vector<std::string>& names() const { return names_; }
  int audio_width() const { return denoiser_->sizes().audio; }
  // Whose features it was trained on; empty where it does not say.
  const std::string& feature_space() const { return feature_space_; }
  double default_guidance() const { return default_guidance_; }
  const NoiseSchedule& schedule() const { return schedule_; }

  // The number of steps for `steps` (0: the model's own) with this weight of guidance, and the network that
  // takes them. Throws ArgumentError where there is none.
  std::pair<int, const Denoiser*> network(int steps, double guidance) const;

 private:
  friend class MotionStream;
  void read_student(const Json& config, const std::string& folder);

  std::unique_ptr<Denoiser> denoiser_, student_;
  std::vector<int> student_steps_;
  double student_low_ = 0.0, student_high_ = 0.0;
  int student_default_ = 0, default_steps_ = 0;
  double default_guidance_ = 1.0;
  NoiseSchedule schedule_{1};
  std::string feature_space_;
  std::vector<std::string> names_;
  std::vector<float> feature_mean_, feature_scale_;
  std::vector<double> mean_, decode_;  // (E), (E, K)
  std::optional<LipContact> contact_;
  bool limited_ = true;  // to 0..1; the codes of a learned space have no limits
};

// Whether a curve moves brows, lids, gaze or what is round the eyes, and not the mouth.
bool is_upper_face(const std::string& name);

// Samples a clip in pieces, each as soon as its features are there.
class MotionStream {
 public:
  // steps: 0 for the model's own.
  MotionStream(const MotionModel& model, int steps, double guidance, uint64_t seed);

  // Takes the next (frames, A) features and appends the weights (m, E) of the frames that can be finished.
  void push(const float* features, int64_t frames, std::vector<float>& weights);
  void finish(std::vector<float>& weights);

  int steps() const { return static_cast<int>(transitions_.size()); }
  double guidance() const { return guidance_; }

  // Frames of features after a frame that it waits for.
  int window_right() const { return denoiser_->sizes().right; }

 private:
  static constexpr int64_t kChunk = 250;  // frames sampled at a time; bounds the memory
  void advance(int64_t count, std::vector<float>& weights);
  void sample(int64_t count, std::vector<float>& coordinates);

  const MotionModel& model_;
  const Denoiser* denoiser_;
  double guidance_;
  bool guided_;
  uint64_t seed_;
  std::vector<std::pair<int, int>> transitions_;
  std::vector<Modulation> modulations_;
  std::vector<std::vector<Past>> past_[2];  // with audio, and without; per step and layer
  std::vector<Heard> heard_layers_[2];
  std::vector<float> heard_;  // standardised features: context_ frames that are done, then those that wait
  int64_t context_ = 0, done_ = 0;
  DenoiserScratch scratch_;
};

}  // namespace facetalk::network
