// A stream: pushed sound -> 16 kHz -> features -> curves that wait to be pulled.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "capi/ear.h"
#include "capi/guard.h"
#include "capi/model.h"
#include "capi/stream_pose.h"
#include "core/number_text.h"
#include "cpu/network/motion.h"
#include "cpu/network/resample.h"
#include "cpu/network/style.h"

using facetalk::ArgumentError;
using facetalk::capi::Context;
using facetalk::capi::context_of;
using facetalk::capi::guarded;
using facetalk::capi::require;
using facetalk::capi::require_tongue;
using facetalk::capi::WrongState;
using facetalk::network::kContacts;
using facetalk::network::kSampleRate;

namespace {
constexpr double kOwnGuidance = -1.0;  // asks for the model's own

facetalk::network::Sliders sliders_of(const facetalk_style& style) {
  return {style.intensity,       style.smile, style.brow_activity, style.blink_rate,
          style.gaze_steadiness, style.jaw,   style.lips};
}

void require_range(const char* name, double value, int low, int high) {
  if (!(value >= low && value <= high))
    throw ArgumentError(name, std::to_string(low) + " to " + std::to_string(high), facetalk::number_text(value));
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

  bool is_live() const { return !std::isinf(options.look_ahead_s); }

  void start() {
    const bool own = options.guidance == kOwnGuidance;
    const double guidance = own ? model.motion.default_guidance() : options.guidance;
    // Where Whisper hears a whole recording little is left to guess, and mouths may differ as people's do.
    const double of_whisper = own && model.whisper && !is_live() ? model.whisper->adapter.guidance() : 0.0;
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
    if (!is_live() && heard > 0) expected = facetalk::network::frame_count(heard, model.fps);
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
};

namespace {

facetalk_stream_options checked(const facetalk_stream_options* given) {
  facetalk_stream_options options;
  facetalk_stream_options_default(&options);
  if (given != nullptr) {
    if (given->struct_size < sizeof(size_t) || given->struct_size > (size_t{1} << 20))
      throw ArgumentError("options: struct_size is not that of a facetalk_stream_options");
    std::memcpy(&options, given, std::min(given->struct_size, sizeof options));
    options.struct_size = sizeof options;
  }
  if (options.sample_rate < 1000 || options.sample_rate > 768'000)
    throw ArgumentError("sample_rate", "1000 to 768000 Hz", std::to_string(options.sample_rate));
  facetalk::capi::require_look_ahead(options.look_ahead_s);
  if (std::isnan(options.guidance)) throw ArgumentError("guidance: is not a number");
  if (options.steps < 0) throw ArgumentError("steps", "0 or more", std::to_string(options.steps));
  return options;
}

facetalk_style checked(const facetalk_style* given) {
  facetalk_style style;
  facetalk_style_default(&style, sizeof style);
  if (given != nullptr) {
    if (given->struct_size < sizeof(size_t) || given->struct_size > (size_t{1} << 20))
      throw ArgumentError("style: struct_size is not that of a facetalk_style");
    // Whole fields alone: a size that ends inside a number would leave half of it.
    const size_t whole = given->struct_size - given->struct_size % sizeof(double);
    std::memcpy(&style, given, std::min(whole, sizeof style));
    style.struct_size = sizeof style;
  }
  require_range("intensity", style.intensity, 0, 2);
  require_range("smile", style.smile, -1, 1);
  require_range("brow_activity", style.brow_activity, 0, 3);
  require_range("blink_rate", style.blink_rate, 0, 3);
  require_range("gaze_steadiness", style.gaze_steadiness, 0, 1);
  require_range("head_motion", style.head_motion, 0, 2);
  require_range("jaw", style.jaw, 0, 2);
  require_range("lips", style.lips, 0, 2);
  return style;
}

facetalk_frames checked(const facetalk_frames& given) {
  facetalk_frames frames = {sizeof frames, nullptr, nullptr, nullptr, nullptr};
  if (given.struct_size < sizeof(size_t) || given.struct_size > (size_t{1} << 20))
    throw ArgumentError("into: struct_size is not that of a facetalk_frames");
  // Whole fields alone: a size that ends inside a pointer would leave half of an address.
  const size_t whole = given.struct_size - given.struct_size % sizeof(void*);
  std::memcpy(&frames, &given, std::min(whole, sizeof frames));
  return frames;
}

void require_room(int64_t max_frames) {
  if (max_frames < 0) throw ArgumentError("max_frames", "0 or more", std::to_string(max_frames));
}

// A call that failed in the middle leaves a stream that is neither here nor there.
template <typename Body>
facetalk_status on_stream(facetalk_stream* stream, Body&& body) {
  return guarded(context_of(stream), [&] {
    require(stream, "stream");
    if (stream->broken) throw WrongState("the stream failed before; reset it");
    stream->broken = true;
    body();
    stream->broken = false;
  });
}

}  // namespace

void facetalk_stream_options_default(facetalk_stream_options* options) {
  if (options == nullptr) return;
  *options = {sizeof(facetalk_stream_options), kSampleRate, 0, 0.2, kOwnGuidance, 0};
}

void facetalk_style_default(facetalk_style* style, size_t struct_size) {
  if (style == nullptr) return;
  const size_t known = std::min(struct_size, sizeof *style);
  const facetalk_style still = {known, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0};
  std::memcpy(style, &still, known);
}

facetalk_status facetalk_stream_create(const facetalk_model* model, const facetalk_stream_options* options,
                                       facetalk_stream** stream) {
  if (stream != nullptr) *stream = nullptr;
  return guarded(context_of(model), [&] {
    require(model, "model");
    require(stream, "stream");
    *stream = new facetalk_stream(*model, checked(options));
  });
}

facetalk_status facetalk_stream_set_style(facetalk_stream* stream, const facetalk_style* style) {
  return guarded(context_of(stream), [&] {
    require(stream, "stream");
    if (stream->begun || stream->finished)
      throw WrongState("the clip has begun; set its style before its first sound, or reset the stream");
    stream->set_style(checked(style));
  });
}

facetalk_status facetalk_stream_push(facetalk_stream* stream, const float* samples, size_t count) {
  const facetalk_status status = guarded(context_of(stream), [&] {
    require(stream, "stream");
    if (stream->finished) throw WrongState("the sound was finished; reset the stream for another clip");
    if (count > 0) require(samples, "samples");
    if (count > (size_t{1} << 40))
      throw ArgumentError("count", "at most 2^40 samples", std::to_string(count));
    facetalk::capi::require_finite(samples, count, "samples");
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
  return guarded(context_of(stream), [&] {
    require(stream, "stream");
    require(frames, "frames");
    require_room(max_frames);
    if (max_frames > 0) require(curves, "curves");
    *frames = stream->pull({sizeof(facetalk_frames), curves, nullptr, nullptr, nullptr}, max_frames);
  });
}

facetalk_status facetalk_stream_pull_frames(facetalk_stream* stream, const facetalk_frames* into,
                                            int64_t max_frames, int64_t* frames) {
  return guarded(context_of(stream), [&] {
    require(stream, "stream");
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
  return guarded(context_of(stream), [&] {
    require(stream, "stream");
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
