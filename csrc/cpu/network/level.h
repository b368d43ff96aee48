// How loud the speech is, at each moment of a recording: facetalk/audio/level.py, which says why, in C++.
#pragma once

#include <cstdint>
#include <vector>

namespace facetalk::network {

constexpr int kSampleRate = 16000;  // of Wav2Vec 2.0, Hz
constexpr int kLevelHop = 320;      // samples from one measurement to the next, 20 ms
constexpr int kLevelFrame = 640;    // samples of a measurement

// Shortest and longest period of voices that talk, in samples: 400 to 60 Hz.
constexpr int kShortestPeriod = kSampleRate / 400, kLongestPeriod = kSampleRate / 60;

// A Butterworth high-pass of fourth order whose state starts as if the first sample had lasted for ever.
class HighPass {
 public:
  explicit HighPass(double hertz);
  double next(double sample);

 private:
  struct Section {
    double b[3], a[2];
    double state[2] = {0.0, 0.0};
  };
  Section sections_[2];
  bool started_ = false;
};

// Power in dB, and whether it is voiced, of kLevelFrame samples.
struct Measure {
  float decibels = 0.0f;
  bool voiced = false;
};
Measure measure(const double* sound);

// The q-th quantile (0..1) of unsorted values, interpolated linearly; reorders them. There has to be one.
float quantile(std::vector<float>& values, double q);

// Between the level of the whole (dB) and that around a moment: the whole's where they are near each other.
double blend_levels(double whole, double local);

constexpr int kLevelReach = 50;   // frames to each side that a point of the curve looks at, 1 s
constexpr int kEnoughVoiced = 6;  // voiced frames, of those, that make a level
constexpr double kRangeDecibels =
    32.0;  // what is fainter than the loudest voiced sound by more is background
constexpr double kSpreadDecibels = 6.0;   // spread of voiced frames that speech has and hum has not
constexpr double kRumbles = 1.25;         // power of all sound over that above the corner, with rumble
constexpr double kHighPassHertz = 60.0;   // corner of the filter for recordings with rumble
constexpr double kMeasuredHertz = 200.0;  // corner of the filter for measuring
constexpr double kScaleFloor = 1e-7;      // as in Wav2Vec2FeatureExtractor

// Level of a whole recording, over all and over time.
class Level {
 public:
  void update(const float* samples, int64_t count);
  double mean() const;
  double variance() const;
  bool rumbles() const;

  // The level in dB at every fifth measurement; `floor`: variance below which sound is not raised.
  std::vector<double> curve(double floor) const;

 private:
  HighPass above_{kHighPassHertz}, band_{kMeasuredHertz};
  std::vector<double> waiting_;  // of the measured band, from the next measurement's first sample on
  std::vector<float> decibels_;
  std::vector<char> voiced_;
  int64_t count_ = 0;
  double total_ = 0.0, squares_ = 0.0, squares_above_ = 0.0;
};

// What samples `first` to `last` are multiplied with to have speech at unit variance, by a Level's curve.
void scale_by(const std::vector<double>& curve, int64_t first, int64_t last, float* out);

}  // namespace facetalk::network
