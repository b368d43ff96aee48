// A face in time with the sound that is played. Nothing of Unreal, and no exceptions: FaceTalkComponent.cpp is the engine's
// part. Four threads meet here: one pushes speech, the one of start() (or whoever calls work()) turns it into frames, the
// audio thread plays it, the game thread calls show() once for each picture.
//
// In time: sound is played once its frames are known (FaceTalkSound.h), so the face shows what is heard, whenever that is.
// Frames are made about a second ahead of the sound and not all at once, so that sliders are followed that soon.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <facetalk.hpp>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "FaceTalkSound.h"

namespace facetalk_live {

class Live {
 public:
  // options: sample_rate is that of the sound; look_ahead_s has to have an end. slack: seconds, 0 to 1, that threads may be
  // late. room: seconds of speech that may lie here and wait. If it tests false,
  // take_message() says why, and nothing else may be asked.
  Live(const facetalk::Model& model, const facetalk_stream_options& options, double slack = 0.04,
       double room = 60.0)
      : stream_(model, options), fps_(model.fps()), rate_(static_cast<double>(options.sample_rate)) {
    message_ = !stream_ ? facetalk_last_error()
               : !std::isfinite(options.look_ahead_s)
                   ? "a face in time with its sound cannot wait for all of it"
               : !(slack >= 0.0 && slack <= 1.0)   ? "slack: expected 0 to 1 seconds"
               : !(room >= 10.0 && room <= 3600.0) ? "room: expected 10 to 3600 seconds"
                                                   : "";
    if (!message_.empty()) return;
    curves_ = model.curves().size();
    tongue_ = model.tongue().size();
    width_ = curves_ + tongue_ + pose_count;
    delay_ = stream_.latency_s() + 1.0 / fps_ + slack;
    ahead_ = static_cast<int64_t>((delay_ + 1.0) * rate_);
    rows_.resize(static_cast<size_t>(64.0 + 2.0 * (delay_ + 2.0) * fps_));
    for (Row& row : rows_) row.values.resize(width_);
    target_.resize(width_);
    shown_.resize(width_);
    left_.resize(width_);
    weights_.resize(curves_ + tongue_);
    sound_ = std::make_unique<Sound>(rate_, static_cast<int64_t>(room * rate_),
                                     static_cast<int64_t>(slack * rate_));
  }
  ~Live() { stop(); }
  Live(const Live&) = delete;
  Live& operator=(const Live&) = delete;

  // Values of pose().
  static constexpr size_t pose_count = 6;

  explicit operator bool() const { return sound_ != nullptr; }

  // Seconds, beside two blocks of the mixer, by which speech that comes as it is spoken is late.
  double delay() const { return delay_; }

  // What was refused since this was asked last: sliders, or all further speech, which is then played with a face at rest.
  std::string take_message() {
    const std::lock_guard<std::mutex> lock(gate_);
    return std::exchange(message_, std::string());
  }

  // --- Of the thread that has the speech ---

  // Takes frames of interleaved channels in -1..1; says how many, fewer where there is no room until more is played.
  int64_t push(const float* samples, int64_t frames, int32_t channels) {
    return sound_->push(samples, frames, channels);
  }

  // What was said is over: its end need not wait whether more comes, which is otherwise clear when there is
  // nothing left to play, or after `pause` seconds.
  void finish() { finish_.store(sound_->pushed(), std::memory_order_release); }

  // Falls silent within a block, whatever is still to be said, and the face comes to rest.
  void interrupt() { sound_->drop(); }

  // Seconds of speech that were pushed and not yet played.
  double waiting() const {
    return static_cast<double>(sound_->pushed() - std::max(sound_->played(), sound_->dropped())) / rate_;
  }

  // --- Of the audio thread ---

  // Mono samples. now: seconds, of the clock of show().
  void play(float* into, int64_t count, double now) { sound_->play(into, count, now); }

  // --- Of the thread that works ---

  void start() {
    if (thread_.joinable()) return;
    running_ = true;
    thread_ = std::thread([this] {
      while (running_) {
        work(std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count());
        std::this_thread::sleep_for(std::chrono::milliseconds(4));
      }
    });
  }

  void stop() {
    running_ = false;
    if (thread_.joinable()) thread_.join();
  }

  // Makes all frames that can be made. For programs without threads, else start(). now: seconds of any one clock.
  void work(double now) {
    while (advance(now)) {
    }
  }

  // --- Of the game thread ---

  // Sliders from the next clip on; one that goes on is ended for them, about a second ahead of what is heard.
  void set_style(const facetalk_style& style) {
    const std::lock_guard<std::mutex> lock(gate_);
    asked_style_ = style;
    is_style_asked_ = true;
  }

  // Brings weights and pose to what is heard now. step: seconds since the last call. latency: seconds from play() to ears.
  void show(double now, double step, double latency) {
    follow(now, step, latency);
    const int64_t found = find(std::isnan(seconds_) ? -std::numeric_limits<double>::infinity() : seconds_);
    if (found != shown_clip_) {
      for (size_t i = 0; i < width_; ++i) left_[i] = shown_[i] - target_[i];
      shown_clip_ = found;
    }
    const float keep = static_cast<float>(std::exp(-step / settle));
    for (size_t i = 0; i < width_; ++i) {
      left_[i] *= keep;
      shown_[i] = target_[i] + left_[i];
    }
    for (size_t i = 0; i < weights_.size(); ++i) weights_[i] = std::max(0.0f, std::min(1.0f, shown_[i]));
  }

  // The model's curves, then its tongue's weights, in 0..1.
  const std::vector<float>& weights() const { return weights_; }

  // Pitch, yaw, roll in radians, x, y, z in millimetres.
  const float* pose() const { return shown_.data() + weights_.size(); }

  // Where in all that was pushed the face is; NaN before anything was played.
  double seconds() const { return seconds_; }

 private:
  // Seconds in which about two thirds of a jump are made good: between rest and speech, and where a slider was moved.
  static constexpr double settle = 0.08;
  // Seconds without speech after which what was said is over, even where nothing is played yet.
  static constexpr double pause = 0.25;
  // Moved sliders begin a new clip, so one that is being dragged is followed at this pace only, in seconds.
  static constexpr double style_pace = 0.5;

  // Clips follow each other without a gap, as silence takes no position, but for what was dropped.
  struct Row {
    std::vector<float> values;
    double time = 0.0, start = 0.0;  // of the frame's middle, and of its clip
    int64_t clip = 0;
  };

  void fail(const std::string& message) {
    has_failed_ = true;
    const std::lock_guard<std::mutex> lock(gate_);
    message_ = message;
  }

  bool advance(double now) {
    const int64_t dropped = sound_->dropped();
    if (has_failed_) {
      sound_->skip(position_ = sound_->pushed());
      sound_->release(position_, true);
      return false;
    }
    if (dropped > position_ || (dropped == position_ && is_talking_ && dropped > clip_start_)) {
      sound_->skip(position_ = dropped);
      end_clip(false);
    }
    if (is_style_asked_ && !(is_talking_ && now - styled_at_ < style_pace)) take_style(now);
    const int64_t finish_at = finish_.load(std::memory_order_acquire);
    const int64_t end = std::max(sound_->played(), dropped) + ahead_;
    const int64_t got =
        sound_->read(position_, block_, block_size, finish_at > position_ ? std::min(finish_at, end) : end);
    if (got > 0) {
      heard_at_ = now;
      if (!is_talking_) begin_clip(position_ - got);
      if (stream_.push(block_, static_cast<size_t>(got)) != FACETALK_OK) fail(facetalk_last_error());
      collect();
    }
    // Speech that has to be played now is not held back for the sake of what may follow.
    const bool is_late = now - heard_at_ > pause || sound_->is_running_dry();
    if (is_talking_ && (position_ == finish_at || (is_late && position_ == sound_->pushed()))) end_clip(true);
    return got > 0;
  }

  void take_style(double now) {
    facetalk_style style;
    {
      const std::lock_guard<std::mutex> lock(gate_);
      style = asked_style_;
      is_style_asked_ = false;
    }
    if (is_talking_) end_clip(true);
    styled_at_ = now;
    if (stream_.set_style(style) == FACETALK_OK) return;
    const std::lock_guard<std::mutex> lock(gate_);
    message_ = facetalk_last_error();  // the stream is as it was
  }

  void begin_clip(int64_t start) {
    is_talking_ = true;
    clip_start_ = start;
    clip_frames_ = 0;
    ++clip_;
  }

  // `whole`: with the frames that wait for speech which does not come.
  void end_clip(bool whole) {
    if (whole && stream_.finish() != FACETALK_OK) fail(facetalk_last_error());
    if (whole) collect();
    if (stream_.reset() != FACETALK_OK) fail(facetalk_last_error());
    is_talking_ = false;
    {
      const std::lock_guard<std::mutex> lock(gate_);
      over_clip_ = clip_;
      over_at_ = static_cast<double>(position_) / rate_;
    }
    sound_->release(position_, true);
  }

  void collect() {
    const facetalk::Frames frames = stream_.pull_frames(true);
    const size_t count = frames.pose.size() / pose_count;
    if (!stream_) fail(facetalk_last_error());
    if (count == 0) return;
    {
      const std::lock_guard<std::mutex> lock(gate_);
      for (size_t frame = 0; frame < count; ++frame, ++count_, ++clip_frames_) {
        Row& row = rows_[static_cast<size_t>(count_) % rows_.size()];
        auto into = row.values.begin();
        const auto copy = [&into, frame](const std::vector<float>& values, size_t width) {
          for (size_t i = 0; i < width; ++i) *into++ = values[frame * width + i];
        };
        copy(frames.curves, curves_);
        copy(frames.tongue, tongue_);
        copy(frames.pose, pose_count);
        row.start = static_cast<double>(clip_start_) / rate_;
        row.time = row.start + (static_cast<double>(clip_frames_) + 0.5) / fps_;
        row.clip = clip_;
      }
    }
    // The last frame's middle: between it and the next one a picture needs both.
    const double known = (static_cast<double>(clip_frames_) - 0.5) / fps_ * rate_;
    sound_->release(std::min(position_, clip_start_ + static_cast<int64_t>(known)), false);
  }

  void follow(double now, double step, double latency) {
    const double origin = sound_->origin();
    if (std::isnan(origin)) return;
    const double played = static_cast<double>(sound_->played()) / rate_;
    const double at = std::min(now - origin - latency, played);
    // Where playing begins again, the ears are as far behind it as ever, but nothing is shown twice.
    if (at < seconds_ - 0.025) return;
    // Blocks come in bursts; the picture's own clock is even, and is only led by theirs.
    const double led = seconds_ + step;
    seconds_ = std::abs(at - led) <= 0.1 ? led + (at - led) * std::min(1.0, 4.0 * step) : at;
    seconds_ = std::min(seconds_, played);
  }

  // Writes the frame of a moment to `target_`; says of which clip it is, 0 for a face at rest.
  int64_t find(double at) {
    const std::lock_guard<std::mutex> lock(gate_);
    const int64_t size = static_cast<int64_t>(rows_.size()), oldest = std::max<int64_t>(0, count_ - size);
    const auto row = [&](int64_t frame) -> const Row& { return rows_[static_cast<size_t>(frame % size)]; };
    int64_t now = count_ - 1;
    while (now >= oldest && row(now).time > at) --now;
    const bool has_next = now + 1 < count_, has_now = now >= oldest;
    // A clip's first frame is there from its start.
    if (has_next && (!has_now || row(now).clip != row(now + 1).clip) && row(now + 1).start <= at)
      return take(row(now + 1), row(now + 1), 0.0f);
    if (has_now && has_next && row(now).clip == row(now + 1).clip) {
      const Row &a = row(now), &b = row(now + 1);
      return take(a, b, static_cast<float>((at - a.time) / (b.time - a.time)));
    }
    // A clip's last frame stays until the clip is over, the newest one until there is another.
    const bool is_over = has_now && row(now).clip <= over_clip_ && at >= over_at_ - 1e-9;
    if (has_now && (has_next || !is_over)) return take(row(now), row(now), 0.0f);
    std::fill(target_.begin(), target_.end(), 0.0f);
    return 0;
  }

  int64_t take(const Row& a, const Row& b, float share) {
    for (size_t i = 0; i < width_; ++i) target_[i] = a.values[i] + share * (b.values[i] - a.values[i]);
    return a.clip;
  }

  facetalk::Stream stream_;
  const double fps_, rate_;
  size_t curves_ = 0, tongue_ = 0, width_ = 0;
  double delay_ = 0.0;
  int64_t ahead_ = 0;
  std::unique_ptr<Sound> sound_;
  std::atomic<int64_t> finish_{0};

  // Of the thread that works: where it is in the sound, and the clip that it is in.
  static constexpr int64_t block_size = 2048;
  float block_[block_size];
  int64_t position_ = 0, clip_start_ = 0, clip_frames_ = 0, clip_ = 0;
  bool is_talking_ = false, has_failed_ = false;
  double heard_at_ = 0.0, styled_at_ = -std::numeric_limits<double>::infinity();

  // Under the gate: the last frames, and up to where clips are over.
  std::mutex gate_;
  std::vector<Row> rows_;
  int64_t count_ = 0, over_clip_ = 0;
  double over_at_ = 0.0;
  facetalk_style asked_style_{};
  std::atomic<bool> is_style_asked_{false};
  std::string message_;

  // Of the game thread: what is shown, and what is left of the jump that led there.
  std::vector<float> target_, shown_, left_, weights_;
  int64_t shown_clip_ = 0;
  double seconds_ = std::numeric_limits<double>::quiet_NaN();

  std::thread thread_;
  std::atomic<bool> running_{false};
};

}  // namespace facetalk_live
