// Features at the motion's frame rate: of a whole recording, window by window, and of sound as it is heard.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "cpu/network/level.h"
#include "cpu/network/wav2vec2.h"

namespace facetalk::network {

// Number of motion frames of a recording; it has at least one.
int64_t frame_count(int64_t samples, double fps);

// Takes (frames, A) features, the next ones in order.
using TakeFeatures = std::function<void(const float* features, int64_t frames)>;

// A whole recording of 16 kHz with its speech at unit variance, by the rules of Level.
void bring_to_level(std::vector<float>& sound, double floor);

// Features of a whole recording of 16 kHz, in the windows of facetalk/audio/encoder.py.
void whole_features(const Wav2Vec2& encoder, std::vector<float> sound, double fps, const TakeFeatures& take);

// Level of sound that is not over, known at every 20 ms from what was heard until then: the rules of Level
// over the last minute, beside a variance that forgets. facetalk/audio/live.py has the reasons and the same
// numbers.
class RunningLevel {
 public:
  explicit RunningLevel(double floor);

  // The next kLevelHop samples, brought to unit variance.
  void normalise(const float* samples, float* out);

 private:
  struct State {
    double decibels, mean, rumble;
  };
  State measure_hop(const float* samples, double* above);
  double local_level(double whole);

  double floor_;
  HighPass above_{kHighPassHertz}, band_{kMeasuredHertz};
  std::vector<double> waiting_;
  double count_, total_ = 0.0, squares_, squares_above_;
  State before_;
  std::vector<float> decibels_;  // rings of the last minute's measurements
  std::vector<char> voiced_;
  int64_t measured_ = 0;
  bool known_ = false;
  double local_ = 0.0;
  std::vector<float> values_;
};

// Samples that have to be heard for a motion frame.
int64_t samples_until(int64_t frame, double fps, double look_ahead_s);

// Whether a motion frame of a clip that goes on can be given when so many samples were heard. Sound may end in the very
// middle of a frame, which is one of the clip's or not by how frame_count() rounds; without a look-ahead it waits
// until it is.
bool is_due(int64_t frame, int64_t heard, double fps, double look_ahead_s);

// Sound as it is heard, brought to unit variance 20 ms at a time and kept until nobody needs it any more.
class LiveSound {
 public:
  LiveSound(bool normalises, double floor) : normalises_(normalises), level_(floor) {}

  void push(const float* samples, int64_t count);
  void fill_hop();  // with silence, where 20 ms have begun

  int64_t heard() const { return heard_; }  // samples that were pushed
  int64_t ready() const { return start_ + static_cast<int64_t>(sound_.size()); }
  // Samples `low` to `high`; zeros where there are none, or none any more.
  void copy(int64_t low, int64_t high, float* out) const;
  void forget(int64_t before);  // samples that lie before this one

 private:
  bool normalises_;
  RunningLevel level_;
  std::vector<float> pending_;  // heard, less than a hop
  std::vector<float> sound_;    // from start_ on
  int64_t start_ = 0, heard_ = 0;
};

// Features of sound that arrives bit by bit: frame i is given as soon as what lies `look_ahead` seconds after
// its middle was heard, and depends on nothing later. It does not depend on how the sound is cut. Memory is
// constant.
class LiveFeatures {
 public:
  // Throws FileError where the encoder cannot hear so: one whose attention or normalisation spans the whole
  // recording.
  LiveFeatures(const Wav2Vec2& encoder, double fps, double look_ahead_s);

  void push(const float* samples, int64_t count, const TakeFeatures& take);
  void finish(const TakeFeatures& take);

 private:
  int64_t complete(int64_t samples) const;
  void extract_until(int64_t frames, int64_t samples);
  void give(int64_t first, int64_t last, int64_t edge, int64_t extracted, const TakeFeatures& take);
  double position(int64_t frame) const;

  const Wav2Vec2& encoder_;
  double fps_, look_ahead_s_;
  int span_, past_;
  LiveSound sound_;
  EncoderScratch scratch_;
  std::vector<float> extracted_;  // frames of the extractor from extracted_start_ on
  int64_t extracted_start_ = 0, extracted_count_ = 0;
  int64_t done_ = 0;
};

}  // namespace facetalk::network
