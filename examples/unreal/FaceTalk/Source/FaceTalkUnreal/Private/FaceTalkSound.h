// Speech on its way to the loudspeakers: whoever has it pushes it, a worker makes frames of it and releases what has its
// frames, and the audio thread plays what is released. Nothing of Unreal.
//
// No lock, no waiting, no memory taken: positions count samples, and each is written by one thread alone. Speech that came
// faster than it is spoken lies here until it is played, so a clip that is there as a whole begins at once; what comes as it
// is spoken begins as late as its frames. Where sound stops in between, silence is played and the position stands.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace facetalk_live {

class Sound {
 public:
  // rate: Hz. capacity: samples that lie here at most, rounded up to a power of two. cushion: samples that have to be
  // released, beyond two blocks, before playing begins: for threads that are late now and then.
  Sound(double rate, int64_t capacity, int64_t cushion) : rate_(rate), cushion_(cushion) {
    size_t size = 1 << 12;
    while (size < static_cast<size_t>(capacity)) size *= 2;
    ring_.resize(size);
  }

  double rate() const { return rate_; }
  int64_t pushed() const { return pushed_.load(std::memory_order_acquire); }
  int64_t played() const { return played_.load(std::memory_order_acquire); }
  int64_t dropped() const { return dropped_.load(std::memory_order_acquire); }
  // When sample 0 was played or would have been, seconds of the clock that play() is given; NaN before there was any,
  // and long ago after a drop, of which nobody waits for the rest.
  double origin() const { return origin_.load(std::memory_order_acquire); }

  // Of the thread that has the sound: takes the mean of interleaved channels, as many frames as there is room for.
  int64_t push(const float* samples, int64_t frames, int32_t channels) {
    if (channels < 1 || frames < 1) return 0;
    const int64_t at = pushed_.load(std::memory_order_relaxed);
    const int64_t oldest = std::min(played(), read_.load(std::memory_order_acquire));
    frames = std::min(frames, static_cast<int64_t>(ring_.size()) - (at - oldest));
    for (int64_t i = 0; i < frames; ++i) {
      float sum = 0.0f;
      for (int32_t channel = 0; channel < channels; ++channel) sum += samples[i * channels + channel];
      sum /= static_cast<float>(channels);
      // Numbers of a source that went astray, which the library would refuse.
      ring_[slot(at + i)] = std::fabs(sum) < 1e6f ? sum : 0.0f;
    }
    pushed_.store(at + frames, std::memory_order_release);
    return frames;
  }

  // Of that thread, too: what was pushed until now is neither heard nor shown any more.
  void drop() { dropped_.store(pushed_.load(std::memory_order_relaxed), std::memory_order_release); }

  // Of the worker: copies what lies between its position, which it advances, and `end`.
  int64_t read(int64_t& position, float* into, int64_t room, int64_t end) {
    const int64_t count = std::max<int64_t>(0, std::min(room, std::min(end, pushed()) - position));
    for (int64_t i = 0; i < count; ++i) into[i] = ring_[slot(position + i)];
    skip(position += count);
    return count;
  }

  // Of the worker: it has done with all before a position.
  void skip(int64_t position) { read_.store(position, std::memory_order_release); }

  // Of the worker: what has its frames. `whole`: what was said is over there, and playing waits for nothing.
  void release(int64_t position, bool whole) {
    released_.store(position, std::memory_order_release);
    if (whole) over_.store(position, std::memory_order_release);
  }

  // Of the worker: whether the next block would be played in part, if nothing more were released.
  bool is_running_dry() const {
    return released_.load(std::memory_order_relaxed) - played() < needed_.load(std::memory_order_acquire);
  }

  // Of the audio thread: a block of what is released, or silence. now: seconds of any clock that goes on evenly.
  void play(float* into, int64_t count, double now) {
    // Two at a time, while an engine changes devices, would tear the sound apart.
    if (is_busy_.test_and_set(std::memory_order_acquire)) {
      std::fill(into, into + count, 0.0f);
      return;
    }
    int64_t at = played_.load(std::memory_order_relaxed);
    if (dropped() > at) {
      at = dropped();
      is_playing_ = false;
      origin_.store(-std::numeric_limits<double>::infinity(), std::memory_order_release);
    }
    const int64_t over =
        over_.load(std::memory_order_acquire);  // before what is released, which it is part of
    const int64_t ready = std::max<int64_t>(0, released_.load(std::memory_order_acquire) - at);
    if (!is_playing_) is_playing_ = ready >= cushion_ + 2 * count || (ready > 0 && at < over);
    const int64_t played = is_playing_ ? std::min(count, ready) : 0;
    if (played > 0) origin_.store(now - static_cast<double>(at) / rate_, std::memory_order_release);
    for (int64_t i = 0; i < played; ++i) into[i] = ring_[slot(at + i)];
    std::fill(into + played, into + count, 0.0f);
    is_playing_ = is_playing_ && played == count;
    played_.store(at + played, std::memory_order_release);
    needed_.store(is_playing_ ? count : 0, std::memory_order_release);
    is_busy_.clear(std::memory_order_release);
  }

 private:
  size_t slot(int64_t position) const { return static_cast<size_t>(position) & (ring_.size() - 1); }

  const double rate_;
  const int64_t cushion_;
  std::vector<float> ring_;
  std::atomic<int64_t> pushed_{0}, dropped_{0}, read_{0}, released_{0}, over_{0}, played_{0}, needed_{0};
  std::atomic<double> origin_{std::numeric_limits<double>::quiet_NaN()};
  std::atomic_flag is_busy_ = ATOMIC_FLAG_INIT;
  bool is_playing_ = false;
};

}  // namespace facetalk_live
