// Where the head is in the frames of a stream, for those who ask for it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "cpu/pose/head_motion.h"
#include "facetalk.h"

namespace facetalk::capi {

// A pose hears all of the sound, and nobody says whether they want one before there are frames. Until the first of them
// are given the sound is kept, so that streams whose frames are taken without a pose do no work for it. A live stream
// whose frames nobody takes for a minute is listened to from then on, and keeps poses, which are a hundred times
// smaller; a stream of a whole recording has no frames before its end and keeps its sound in any case.
//
// A frame's pose never comes after its curves: it hears as far ahead as they do, or less, and is measured every 10 ms,
// which it makes up for by hearing 10 ms less.
class StreamPose {
 public:
  // amount: head_motion of the stream's style.
  StreamPose(double fps, const facetalk_stream_options& options, double amount);

  void hear(const float* samples, int64_t count);  // of 16 kHz
  void finish(int64_t waiting);                    // the sound is over, and so many frames wait to be given

  // From here on there are poses. Throws WrongState where frames were given without theirs; what fails leaves all as
  // it was.
  void want();

  // Writes the poses of `count` frames that wait, from number `first` on; after want() alone.
  void write(int64_t first, int64_t count, float* out) const;

  void pass(int64_t count);     // so many frames are given, with or without their pose
  void forget(int64_t frames);  // the oldest frames that waited, and were given

 private:
  bool is_still() const { return amount_ == 0.0; }
  void listen();  // to what was kept and what comes; what fails leaves all as it was

  double fps_, look_ahead_s_, amount_;
  uint64_t seed_;
  bool is_asked_ = false;    // somebody wants poses
  bool is_unasked_ = false;  // frames were given, and no pose
  std::vector<float> heard_;
  std::optional<pose::HeadMotion> head_;
  std::vector<float> rows_;          // of the frames that wait
  int64_t forgotten_ = 0;            // frames
  std::optional<int64_t> finished_;  // frames of the whole clip
};

}  // namespace facetalk::capi
