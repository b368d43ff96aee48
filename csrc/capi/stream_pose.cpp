#include "capi/stream_pose.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "capi/guard.h"
#include "cpu/network/level.h"

namespace facetalk::capi {

using pose::HeadMotion;
using pose::kPoseSize;

namespace {
constexpr size_t kKept = 60 * network::kSampleRate;  // samples of a live stream
}

StreamPose::StreamPose(double fps, const facetalk_stream_options& options, double amount)
    : fps_(fps), look_ahead_s_(options.look_ahead_s), amount_(amount), seed_(options.seed) {}

void StreamPose::hear(const float* samples, int64_t count) {
  if (head_) {
    head_->push(samples, count, rows_);
  } else if (!is_still() && !is_unasked_) {
    heard_.insert(heard_.end(), samples, samples + count);
    if (heard_.size() > kKept && std::isfinite(look_ahead_s_)) listen();
  }
}

void StreamPose::finish(int64_t waiting) {
  finished_ = forgotten_ + waiting;
  if (head_) head_->finish(*finished_, rows_);
}

void StreamPose::want() {
  if (is_still()) return;
  if (is_unasked_)
    throw WrongState(
        "pose: this stream has given frames without one, and did not follow the head; ask from the first "
        "frame on, "
        "or reset the stream");
  if (!head_) listen();
  is_asked_ = true;
}

void StreamPose::listen() {
  HeadMotion head(fps_, seed_, look_ahead_s_, amount_);
  std::vector<float> rows;
  head.push(heard_.data(), static_cast<int64_t>(heard_.size()), rows);
  if (finished_) head.finish(*finished_, rows);
  head_.emplace(std::move(head));
  rows_ = std::move(rows);
  std::vector<float>().swap(heard_);
}

void StreamPose::write(int64_t first, int64_t count, float* out) const {
  if (is_still()) {
    std::fill_n(out, count * kPoseSize, 0.0f);
    return;
  }
  if (static_cast<int64_t>(rows_.size()) < (first + count) * kPoseSize)
    throw std::logic_error("there are curves of a frame before there is a pose");
  std::copy_n(rows_.data() + first * kPoseSize, count * kPoseSize, out);
}

void StreamPose::pass(int64_t count) {
  if (count == 0 || is_asked_ || is_still() || is_unasked_) return;
  is_unasked_ = true;
  head_.reset();
  std::vector<float>().swap(rows_);
  std::vector<float>().swap(heard_);
}

void StreamPose::forget(int64_t frames) {
  forgotten_ += frames;
  if (head_) rows_.erase(rows_.begin(), rows_.begin() + frames * kPoseSize);
}

}  // namespace facetalk::capi
