// A stream: pushed sound -> 16 kHz -> features -> curves that wait to be pulled.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "capi/ear.h"
#include "capi/guard.h"
#include "capi/model.h"
#include "capi/stream_options.h"
#include "capi/stream_pose.h"
#include "cpu/network/motion.h"
#include "cpu/network/resample.h"
#include "cpu/network/style.h"

using facetalk::ArgumentError;
using facetalk::capi::checked;
using facetalk::capi::Context;
using facetalk::capi::context_of;
using facetalk::capi::guarded;
using facetalk::capi::kOwnGuidance;
using facetalk::capi::require;
using facetalk::capi::require_tongue;
using facetalk::capi::WrongState;
using facetalk::network::kContacts;
using facetalk::network::kSampleRate;

namespace {

facetalk::network::Sliders sliders_of(const facetalk_style& style) {
  return {style.intensity,       style.smile, style.brow_activity, style.blink_rate,
          style.gaze_steadiness, style.jaw,   style.lips};
}

// Brows, lids and gaze go with the voice more than with the words, and with the features of the encoder that
// they were learned from: where Whisper hears, they are sampled beside the mouth from what the model's own encoder
// does, with the same noise.
struct UpperFace {
  UpperFace(const facetalk_model& model, const facetalk_stream_options& options, double guidance)
      : ear(model, false, options.look_ahead_s), motion(model.motion, options.steps, guidance, options.seed) {
    for (const std::string& name : model.motion.names())
      is_upper.push_back(facetalk::network::is_upper_face(name));
  }

  void hear(const float* samples, int64_t count) {
    ear.push(samples, count,
             [this](const float* features, int64_t frames) { motion.push(features, frames, faces); });
  }

  void finish() {
    ear.finish([this](const float* features, int64_t frames) { motion.push(features, frames, faces); });
    motion.finish(faces);
  }

  // Appends to `curves` the frames that both have.
  void join(std::vector<float>& curves) {
    const size_t count = std::min(mouths.size(), faces.size()), width = is_upper.size();
    const auto end = static_cast<std::ptrdiff_t>(count);
    for (size_t i = 0; i < count; ++i) {
      if (is_upper[i % width]) mouths[i] = faces[i];
    }
    curves.insert(curves.end(), mouths.begin(), mouths.begin() + end);
    mouths.erase(mouths.begin(), mouths.begin() + end);
    faces.erase(faces.begin(), faces.begin() + end);
  }

  facetalk::capi::Ear ear;
  facetalk::network::MotionStream motion;
  std::vector<char> is_upper;        // of each curve
  std::vector<float> mouths, faces;  // (frames, C) that wait for each other
};

}  // namespace

struct facetalk_stream {
  facetalk_stream(const facetalk_model& of, const facetalk_stream_options& asked)
      : context(of.context), model(of), options(asked) {
    facetalk_style_default(&sliders, sizeof sliders);
    start();
  }

  void start() {
    const bool own = options.guidance == kOwnGuidance;
    const double guidance = own ? model.motion.default_guidance() : options.guidance;
    // By Whisper little is left to guess, and mouths may differ as people's do.
    const double of_whisper = own && model.whisper ? model.whisper->adapter.guidance() : 0.0;
    const double of_mouth = of_whisper > 0.0 ? of_whisper : guidance;
    motion.emplace(model.motion, options.steps, of_mouth, options.seed);
    ear.emplace(model, model.whisper.has_value(), options.look_ahead_s);
    upper.reset();
    if (model.whisper) upper.emplace(model, options, guidance);
    resampler.reset();
    if (options.sample_rate != kSampleRate) resampler.emplace(options.sample_rate);
    style = filter_of(sliders);
    heard = 0;
    curves.clear();
    contacts.clear();
    pose.emplace(model.fps, options, sliders.head_motion);
    given = expected = 0;
    begun = finished = false;
  }

  std::optional<facetalk::network::StyleFilter> filter_of(const facetalk_style& asked) const {
    const facetalk::network::Sliders moved = sliders_of(asked);
    if (moved == facetalk::network::Sliders()) return std::nullopt;
    return facetalk::network::StyleFilter(moved, model.motion.names(), model.fps, options.seed);
  }

  void set_style(const facetalk_style& asked) {
    style = filter_of(asked);  // first: it may refuse them
    sliders = asked;
    pose.emplace(model.fps, options, sliders.head_motion);
  }

  void take(const float* features, int64_t frames) {
    // First: a call that fails in between leaves contacts of frames that are not there, and no frame without any.
    if (model.touch) {
      const size_t known = contacts.size();
      contacts.resize(known + static_cast<size_t>(frames * kContacts));
      model.touch->run(features, frames, contacts.data() + known);
    }
    motion->push(features, frames, upper ? upper->mouths : curves);
    if (upper) upper->join(curves);
    if (progress != nullptr && expected > 0 && progress(user, ready(), expected) != 0)
      throw facetalk::capi::Stopped("stopped by the caller");
  }

  void hear(const float* samples, int64_t count) {
    pose->hear(samples, count);
    heard += count;
    if (upper) upper->hear(samples, count);
    ear->push(samples, count, [this](const float* features, int64_t frames) { take(features, frames); });
  }

  void push(const float* samples, int64_t count) {
    if (!resampler) return hear(samples, count);
    resampled.clear();
    resampler->push(samples, count, resampled);
    hear(resampled.data(), static_cast<int64_t>(resampled.size()));
  }

  void finish() {
    if (resampler) {
      resampled.clear();
      resampler->finish(resampled);
      hear(resampled.data(), static_cast<int64_t>(resampled.size()));
    }
    if (std::isinf(options.look_ahead_s) && heard > 0)
      expected = facetalk::network::frame_count(heard, model.fps);
    if (upper) upper->finish();
    ear->finish([this](const float* features, int64_t frames) { take(features, frames); });
    expected = 0;
    motion->finish(upper ? upper->mouths : curves);
    if (upper) upper->join(curves);
    pose->finish(static_cast<int64_t>(curves.size()) / width());
    finished = true;
  }

  int64_t width() const { return static_cast<int64_t>(model.motion.names().size()); }
  int64_t ready() const { return static_cast<int64_t>(curves.size()) / width() - given; }

  // Writes the oldest frames, up to `most`, to what of `into` is not null; says how many.
  int64_t pull(const facetalk_frames& into, int64_t most) {
    if (into.pose != nullptr) pose->want();
    const int64_t count = std::min(most, ready()), columns = width();
    float* first = curves.data() + given * columns;
    // Here a frame comes by once, and in order.
    if (style) style->apply(first, count);
    const float* touched = model.touch ? contacts.data() + given * kContacts : nullptr;
    if (into.curves != nullptr) std::copy_n(first, count * columns, into.curves);
    if (into.contacts != nullptr) std::copy_n(touched, count * kContacts, into.contacts);
    if (into.tongue != nullptr) {
      for (int64_t frame = 0; frame < count; ++frame)
        model.reach->weights(touched + frame * kContacts, first + frame * columns,
                             into.tongue + frame * static_cast<int64_t>(facetalk::head::kTongueShapes));
    }
    if (into.pose != nullptr) pose->write(given, count, into.pose);
    pose->pass(count);
    given += count;
    // What was pulled is let go of now and then.
    if (ready() == 0 || given > 1024) {
      curves.erase(curves.begin(), curves.begin() + given * columns);
      if (model.touch) contacts.erase(contacts.begin(), contacts.begin() + given * kContacts);
      pose->forget(given);
      given = 0;
    }
    return count;
  }

  Context context;  // the model's
  const facetalk_model& model;
  facetalk_stream_options options;
  facetalk_style sliders;
  std::optional<facetalk::network::MotionStream> motion;
  std::optional<facetalk::capi::Ear> ear;
  std::optional<UpperFace> upper;  // where Whisper hears
  std::optional<facetalk::network::Resampler> resampler;
  std::optional<facetalk::network::StyleFilter> style;  // where a slider was moved
  std::optional<facetalk::capi::StreamPose> pose;
  std::vector<float> resampled, curves;  // curves: (frames, C), the first `given` of which were pulled
  std::vector<float> contacts;  // of the same frames and of those that follow, where there is a tongue
  int64_t given = 0, heard = 0, expected = 0;  // expected: frames that finish() works on
  facetalk_progress progress = nullptr;
  void* user = nullptr;
  bool begun = false, finished = false, broken = false;  // begun: there was sound
  std::atomic<bool> at_work{false};                      // in a call that changes it
};

namespace {

void require_room(int64_t max_frames) {
  if (max_frames < 0) throw ArgumentError("max_frames", "0 or more", std::to_string(max_frames));
}

// The body of a call that changes a stream. Its own callback cannot make another one meanwhile, nor can another thread,
// which should not try.
template <typename Body>
facetalk_status alone(facetalk_stream* stream, Body&& body) {
  return guarded(context_of(stream), [&] {
    require(stream, "stream");
    if (stream->at_work.exchange(true, std::memory_order_acquire))
      throw WrongState("the stream is at work: in the callback of its progress, or in another thread");
    const std::unique_ptr<std::atomic<bool>, void (*)(std::atomic<bool>*)> turn(
        &stream->at_work,
        [](std::atomic<bool>* at_work) { at_work->store(false, std::memory_order_release); });
    body();
  });
}

// A call that failed in the middle leaves a stream that is neither here nor there.
template <typename Body>
facetalk_status on_stream(facetalk_stream* stream, Body&& body) {
  return alone(stream, [&] {
    if (stream->broken) throw WrongState("the stream failed before; reset it");
    stream->broken = true;
    body();
    stream->broken = false;
  });
}

}  // namespace

facetalk_status facetalk_stream_create(const facetalk_model* model, const facetalk_stream_options* options,
                                       facetalk_stream** stream) {
  if (stream != nullptr) *stream = nullptr;
  return guarded(context_of(model), [&] {
    require(model, "model");
    require(stream, "stream");
    *stream = new facetalk_stream(*model, checked(options));
    model->is_used.store(true, std::memory_order_relaxed);
  });
}

facetalk_status facetalk_stream_set_style(facetalk_stream* stream, const facetalk_style* style) {
  return alone(stream, [&] {
    if (stream->begun || stream->finished)
      throw WrongState("the clip has begun; set its style before its first sound, or reset the stream");
    stream->set_style(checked(style));
  });
}

facetalk_status facetalk_stream_push(facetalk_stream* stream, const float* samples, size_t count) {
  const facetalk_status status = guarded(context_of(stream), [&] {
    require(stream, "stream");
    if (stream->finished) throw WrongState("the sound was finished; reset the stream for another clip");
    facetalk::capi::require_samples(samples, count);
  });
  if (status != FACETALK_OK) return status;
  return on_stream(stream, [&] {
    stream->begun = stream->begun || count > 0;
    stream->push(samples, static_cast<int64_t>(count));
  });
}

facetalk_status facetalk_stream_finish(facetalk_stream* stream) {
  return on_stream(stream, [&] {
    if (!stream->finished) stream->finish();
  });
}

int64_t facetalk_stream_ready(const facetalk_stream* stream) {
  return stream == nullptr ? 0 : stream->ready();
}

facetalk_status facetalk_stream_pull(facetalk_stream* stream, float* curves, int64_t max_frames,
                                     int64_t* frames) {
  return alone(stream, [&] {
    require(frames, "frames");
    require_room(max_frames);
    if (max_frames > 0) require(curves, "curves");
    *frames = stream->pull({sizeof(facetalk_frames), curves, nullptr, nullptr, nullptr}, max_frames);
  });
}

facetalk_status facetalk_stream_pull_frames(facetalk_stream* stream, const facetalk_frames* into,
                                            int64_t max_frames, int64_t* frames) {
  return alone(stream, [&] {
    require(into, "into");
    require(frames, "frames");
    require_room(max_frames);
    const facetalk_frames wanted = checked(*into);
    if (wanted.tongue != nullptr || wanted.contacts != nullptr) require_tongue(stream->model);
    if (max_frames > 0 && wanted.curves == nullptr && wanted.tongue == nullptr &&
        wanted.contacts == nullptr && wanted.pose == nullptr)
      throw ArgumentError("into: asks for nothing, all of its pointers are NULL");
    *frames = stream->pull(wanted, max_frames);
  });
}

facetalk_status facetalk_stream_reset(facetalk_stream* stream) {
  return alone(stream, [&] {
    stream->broken = true;
    stream->start();
    stream->broken = false;
  });
}

facetalk_status facetalk_stream_on_progress(facetalk_stream* stream, facetalk_progress progress, void* user) {
  return guarded(context_of(stream), [&] {
    require(stream, "stream");
    stream->progress = progress;
    stream->user = user;
  });
}

int32_t facetalk_stream_steps(const facetalk_stream* stream) {
  return stream == nullptr || !stream->motion ? 0 : stream->motion->steps();
}

double facetalk_stream_guidance(const facetalk_stream* stream) {
  return stream == nullptr || !stream->motion ? 0.0 : stream->motion->guidance();
}

double facetalk_stream_latency_s(const facetalk_stream* stream) {
  // There is none where a reset ended for want of memory.
  if (stream == nullptr || !stream->motion) return 0.0;
  const double window = stream->motion->window_right() / stream->model.fps;
  return stream->options.look_ahead_s + window + (stream->resampler ? stream->resampler->delay_s() : 0.0);
}

void facetalk_stream_free(facetalk_stream* stream) { delete stream; }
