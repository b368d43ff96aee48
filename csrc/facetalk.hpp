// facetalk.h for C++11 and newer: handles that free themselves, errors as exceptions. Header only.
//
// Where exceptions are off (-fno-exceptions, as in Unreal) nothing is thrown: an object that could not be made tests
// false, status() has the reason and facetalk_last_error() says it in words; calls return their status, and what is
// pulled is empty where they fail. All calls on an object that could not be made fail.
#ifndef FACETALK_HPP
#define FACETALK_HPP

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "facetalk.h"

// Unreal has a macro of this name.
#pragma push_macro("check")
#undef check

#ifndef FACETALK_EXCEPTIONS
#if defined(__cpp_exceptions) || defined(__EXCEPTIONS) || defined(_CPPUNWIND)
#define FACETALK_EXCEPTIONS 1
#else
#define FACETALK_EXCEPTIONS 0
#endif
#endif

namespace facetalk {

#if FACETALK_EXCEPTIONS
class Error : public std::runtime_error {
 public:
  explicit Error(facetalk_status code) : std::runtime_error(facetalk_last_error()), status(code) {}
  const facetalk_status status;
};

inline facetalk_status check(facetalk_status status) {
  if (status != FACETALK_OK) throw Error(status);
  return status;
}
#else
// A namespace of its own, so that a program may have files of both kinds.
inline namespace without_exceptions {

inline facetalk_status check(facetalk_status status) { return status; }
#endif

struct Deleter {
  void operator()(facetalk_model* handle) const { facetalk_model_free(handle); }
  void operator()(facetalk_stream* handle) const { facetalk_stream_free(handle); }
  void operator()(facetalk_rig* handle) const { facetalk_rig_free(handle); }
};

// Options whose log is log(level, line), anything that is called so; it has to be there as long as the model.
template <class Log>
facetalk_options log_to(Log& log) {
  facetalk_options options;
  facetalk_options_default(&options);
  options.log_user = const_cast<void*>(static_cast<const void*>(&log));
  options.log = [](void* user, int32_t level, const char* line) { (*static_cast<Log*>(user))(level, line); };
  return options;
}

class Model {
 public:
  // options: null for the defaults; what they point at has to be there as long as the model.
  explicit Model(const std::string& folder, const facetalk_options* options = nullptr) {
    facetalk_model* handle = nullptr;
    status_ = check(facetalk_model_load_with(folder.c_str(), options, &handle));
    handle_.reset(handle, Deleter());
  }
  explicit operator bool() const { return handle_ != nullptr; }
  facetalk_status status() const { return status_; }  // of loading it, and of use_whisper()
  // Before the first stream. listener: a file with Whisper's weights; empty: the one in the model's folder.
  facetalk_status use_whisper(const std::string& listener = std::string()) {
    const char* file = listener.empty() ? nullptr : listener.c_str();
    return check(status_ = facetalk_model_use_whisper(handle_.get(), file));
  }
  double fps() const { return facetalk_model_fps(get()); }
  std::vector<std::string> curves() const {
    std::vector<std::string> names;
    for (int32_t i = 0; i < facetalk_model_curve_count(get()); ++i)
      names.push_back(facetalk_model_curve_name(get(), i));
    return names;
  }
  // Names of the tongue's weights, none of a model without a tongue that moves.
  std::vector<std::string> tongue() const {
    std::vector<std::string> names;
    for (int32_t i = 0; i < facetalk_model_tongue_count(get()); ++i)
      names.push_back(facetalk_model_tongue_name(get(), i));
    return names;
  }
  const facetalk_model* get() const { return handle_.get(); }

 private:
  friend class Stream;
  std::shared_ptr<facetalk_model> handle_;
  facetalk_status status_ = FACETALK_OK;
};

// What a stream takes where nothing is asked of it; change what is wanted.
inline facetalk_stream_options default_options() {
  facetalk_stream_options options;
  facetalk_stream_options_default(&options);
  return options;
}

// Sliders that change nothing, for Stream::set_style.
inline facetalk_style default_style() {
  facetalk_style style;
  facetalk_style_default(&style, sizeof style);
  return style;
}

// Of the same frames: (frames, curves) values; (frames, tongue weights), empty of a model without any; and
// (frames, 6) where the head is, as facetalk_frames has it, empty where it was not asked for.
struct Frames {
  std::vector<float> curves, tongue, pose;
};

// Keeps its model alive.
class Stream {
 public:
  explicit Stream(const Model& model, const facetalk_stream_options& options = default_options())
      : model_(model.handle_),
        width_(static_cast<size_t>(facetalk_model_curve_count(model.get()))),
        tongue_(static_cast<size_t>(facetalk_model_tongue_count(model.get()))) {
    facetalk_stream* handle = nullptr;
    // Of a model that could not be loaded the reason is that one's.
    check(model.status() ? model.status() : facetalk_stream_create(model.get(), &options, &handle));
    handle_.reset(handle);
  }
  // Whether the last call went well, the making of it among them.
  explicit operator bool() const { return status_ == FACETALK_OK; }
  facetalk_status status() const { return status_; }
  // Before the clip's first sound.
  facetalk_status set_style(const facetalk_style& style) {
    return check(facetalk_stream_set_style(handle_.get(), &style));
  }
  facetalk_status push(const float* samples, size_t count) {
    return check(facetalk_stream_push(handle_.get(), samples, count));
  }
  facetalk_status finish() { return check(facetalk_stream_finish(handle_.get())); }
  facetalk_status reset() { return check(facetalk_stream_reset(handle_.get())); }
  double latency_s() const { return facetalk_stream_latency_s(handle_.get()); }

  // Every frame that is ready, (frames, curves) values.
  std::vector<float> pull() {
    int64_t frames = facetalk_stream_ready(handle_.get());
    std::vector<float> curves(static_cast<size_t>(frames) * width_);
    check(facetalk_stream_pull(handle_.get(), curves.data(), frames, &frames));
    if (status_ != FACETALK_OK) curves.clear();
    return curves;
  }

  // The same with the tongue and, if it is asked for from the first call on, the pose.
  Frames pull_frames(bool with_pose = false) {
    int64_t count = facetalk_stream_ready(handle_.get());
    Frames frames;
    frames.curves.resize(static_cast<size_t>(count) * width_);
    frames.tongue.resize(static_cast<size_t>(count) * tongue_);
    frames.pose.resize(with_pose ? static_cast<size_t>(count) * 6 : 0);
    const facetalk_frames into = {sizeof into, frames.curves.data(),
                                  tongue_ == 0 ? nullptr : frames.tongue.data(), nullptr,
                                  with_pose ? frames.pose.data() : nullptr};
    check(facetalk_stream_pull_frames(handle_.get(), &into, count, &count));
    if (status_ != FACETALK_OK) frames = Frames();
    return frames;
  }

 private:
  facetalk_status check(facetalk_status status) { return facetalk::check(status_ = status); }

  std::shared_ptr<facetalk_model> model_;
  std::unique_ptr<facetalk_stream, Deleter> handle_;
  size_t width_, tongue_;
  facetalk_status status_ = FACETALK_OK;
};

class Rig {
 public:
  explicit Rig(const Model& model, const std::vector<float>& identity = {}) {
    facetalk_rig* handle = nullptr;
    const int32_t count = static_cast<int32_t>(identity.size());
    status_ = check(model.status() ? model.status()
                                   : facetalk_rig_create(model.get(), identity.data(), count, &handle));
    handle_.reset(handle);
  }
  explicit operator bool() const { return handle_ != nullptr; }
  facetalk_status status() const { return status_; }  // of making it; calls from many threads have their own
  size_t vertices() const { return static_cast<size_t>(facetalk_rig_vertex_count(handle_.get())); }
  size_t faces() const { return static_cast<size_t>(facetalk_rig_face_count(handle_.get())); }
  const int32_t* face_data() const { return facetalk_rig_faces(handle_.get()); }
  // positions: (vertices, 3); normals: the same, or null.
  facetalk_status pose(const float* curves, float* positions, float* normals = nullptr) const {
    return check(facetalk_rig_pose(handle_.get(), curves, positions, normals));
  }
  size_t tongue() const { return static_cast<size_t>(facetalk_rig_tongue_count(handle_.get())); }
  // tongue: that many weights, or null for one that rides on the jaw.
  facetalk_status pose_with_tongue(const float* curves, const float* tongue, float* positions,
                                   float* normals = nullptr) const {
    return check(facetalk_rig_pose_with_tongue(handle_.get(), curves, tongue, positions, normals));
  }

 private:
  std::unique_ptr<facetalk_rig, Deleter> handle_;
  facetalk_status status_ = FACETALK_OK;
};

#if !FACETALK_EXCEPTIONS
}  // namespace without_exceptions
#endif
}  // namespace facetalk

#pragma pop_macro("check")

#endif
