#include "capi/model.h"

#include <cmath>
#include <cstring>
#include <memory>

#include "capi/ear.h"
#include "capi/guard.h"
#include "core/cpu_features.h"
#include "core/number_text.h"
#include "core/platform/files.h"
#include "cpu/network/noise.h"

using facetalk::capi::Context;
using facetalk::capi::context_of;
using facetalk::capi::guarded;
using facetalk::capi::require;
using facetalk::capi::with_options;
using facetalk::head::kTongueShapes;
using facetalk::network::FileError;
using facetalk::network::Json;

namespace {

void read_vector(const Json& value, int count, double* out) {
  const std::vector<Json>& list = value.list();
  if (list.size() != static_cast<size_t>(count)) throw FileError("geometry has a vector of another length");
  for (int i = 0; i < count; ++i) out[i] = list[static_cast<size_t>(i)].number(-100.0, 100.0);
}

// Refuses a part of a model that gives or takes, as `does` says, the features of another encoder than the model's
// own. Encoders with the same name of features stand for each other; who says none is believed.
void require_space(const std::string& part, const char* does, const std::string& told,
                   const facetalk_model& model, const char* advice) {
  const std::string& own =
      model.encoder.feature_space().empty() ? model.motion.feature_space() : model.encoder.feature_space();
  if (!told.empty() && !own.empty() && told != own)
    throw FileError(part + " " + does + " the features of another encoder than " + model.folder + "/audio; " +
                    advice);
}

}  // namespace

void facetalk::capi::require_tongue(const facetalk_model& model) {
  if (!model.reach)
    throw Unsupported("this model has no tongue that moves: facetalk_model_tongue_count() is 0");
}

void facetalk::capi::require_look_ahead(double seconds) {
  if (!(seconds >= 0.0) || (seconds > 60.0 && !std::isinf(seconds)))
    throw ArgumentError("look_ahead_s", "0 to 60 seconds, or infinity", number_text(seconds));
}

facetalk_model::facetalk_model(const std::string& path, const Context& options)
    : context(options), folder(path), encoder(path + "/audio"), motion(path + "/motion") {
  const std::string where = path + "/config.json";
  const Json config = facetalk::network::read_json(where);
  if (config.at("format").text() != "facetalk-model" || config.at("version").whole(0, 1000) != 1)
    throw FileError(where + ": does not describe a facetalk model of version 1");
  fps = config.at("fps").number(1.0, 1000.0);
  const Json& geometry = config.at("geometry");
  const std::vector<Json>& corners = geometry.at("bounds").list();
  if (corners.size() != 2) throw FileError(where + ": bounds has no two corners");
  for (int corner = 0; corner < 2; ++corner) {
    double values[3];
    read_vector(corners[static_cast<size_t>(corner)], 3, values);
    for (int i = 0; i < 3; ++i) bounds[3 * corner + i] = static_cast<float>(values[i]);
  }
  read_vector(geometry.at("mouth_centre"), 3, mouth_centre);
  read_vector(geometry.at("mouth_sigma"), 3, mouth_sigma);
  for (int i = 0; i < 3; ++i) {
    if (!(mouth_sigma[i] > 0.0) || !(bounds[i] < bounds[3 + i]))
      throw FileError(where + ": geometry has an empty box or no width");
  }
  if (encoder.width() != motion.audio_width())
    throw FileError(path + ": audio encoder and motion model do not belong together");
  require_space(path + "/motion", "was trained on", motion.feature_space(), *this,
                "give the encoder that it was trained with");
  const std::string heard = path + "/tongue";
  if (facetalk::platform::is_folder(heard)) {
    const facetalk::network::TongueNetwork network(heard);
    if (network.width() != encoder.width())
      throw FileError(heard + " takes " + std::to_string(network.width()) +
                      " audio features a frame, the encoder gives " + std::to_string(encoder.width()) +
                      "; train it again with facetalk train tongue");
    require_space(heard, "was trained on", network.feature_space(), *this,
                  "train it again with facetalk train tongue");
    reach = facetalk::head::Reach::read(path + "/head", motion.names());
    if (reach) touch = network;
  }
  if (context.is_logging()) {
    const std::string what = path + ": " + std::to_string(motion.names().size()) + " curves, SIMD " +
                             facetalk::name_of(facetalk::simd_level());
    context.log(FACETALK_LOG_INFO, what.c_str());
  }
}

facetalk_status facetalk_model_load(const char* folder, facetalk_model** model) {
  return facetalk_model_load_with(folder, nullptr, model);
}

facetalk_status facetalk_model_load_with(const char* folder, const facetalk_options* options,
                                         facetalk_model** model) {
  if (model != nullptr) *model = nullptr;
  return with_options(options, [&](const Context& context) {
    facetalk::capi::require_cpu(context, "speech and rigs run");
    require(folder, "folder");
    require(model, "model");
    facetalk::capi::one_thread_unless_told();
    *model = new facetalk_model(folder, context);
  });
}

facetalk_status facetalk_model_use_whisper(facetalk_model* model, const char* listener) {
  return guarded(context_of(model), [&] {
    require(model, "model");
    if (model->whisper) throw facetalk::capi::WrongState("Whisper hears for this model already");
    // Streams hold on to what hears for them, and may be in other threads.
    if (model->is_used.load(std::memory_order_relaxed))
      throw facetalk::capi::WrongState(
          "the model has heard already; let Whisper hear before its first stream is made, or load it again");
    const std::string folder = model->folder + "/whisper";
    if (!facetalk::platform::is_folder(folder))
      throw FileError(folder + ": this model has no adapter for Whisper; facetalk train whisper makes one");
    const std::string file = listener != nullptr ? listener : folder + "/listener.safetensors";
    if (!facetalk::platform::exists(file))
      throw FileError(file +
                      ": no such file; facetalk assemble --whisper --listener writes Whisper's weights");
    facetalk::network::WhisperEar ear(file, folder);
    if (ear.adapter.features() != model->encoder.width())
      throw FileError(folder + " makes " + std::to_string(ear.adapter.features()) +
                      " audio features a frame, the model's encoder " +
                      std::to_string(model->encoder.width()) +
                      "; train it again with facetalk train whisper");
    require_space(folder, "gives", ear.adapter.feature_space(), *model,
                  "train it again with facetalk train whisper");
    model->whisper.emplace(std::move(ear));
  });
}

void facetalk_model_free(facetalk_model* model) { delete model; }

double facetalk_model_fps(const facetalk_model* model) { return model == nullptr ? 0.0 : model->fps; }

int32_t facetalk_model_curve_count(const facetalk_model* model) {
  return model == nullptr ? 0 : static_cast<int32_t>(model->motion.names().size());
}

const char* facetalk_model_curve_name(const facetalk_model* model, int32_t index) {
  if (index < 0 || index >= facetalk_model_curve_count(model)) return nullptr;
  return model->motion.names()[static_cast<size_t>(index)].c_str();
}

int32_t facetalk_model_tongue_count(const facetalk_model* model) {
  return model == nullptr || !model->reach ? 0 : static_cast<int32_t>(kTongueShapes);
}

const char* facetalk_model_tongue_name(const facetalk_model* model, int32_t index) {
  if (index < 0 || index >= facetalk_model_tongue_count(model)) return nullptr;
  return facetalk::head::kTongueNames[static_cast<size_t>(index)];
}

facetalk_status facetalk_model_tongue_weights(const facetalk_model* model, const float* contacts,
                                              const float* curves, int64_t frames, float* tongue) {
  return guarded(context_of(model), [&] {
    require(model, "model");
    facetalk::capi::require_tongue(*model);
    if (frames < 0 || frames > (int64_t{1} << 32))
      throw facetalk::ArgumentError("frames", "0 to 2^32", std::to_string(frames));
    if (frames == 0) return;
    require(contacts, "contacts");
    require(curves, "curves");
    require(tongue, "tongue");
    const size_t width = model->motion.names().size(), count = static_cast<size_t>(frames);
    facetalk::capi::require_finite(contacts, count * facetalk::network::kContacts, "contacts");
    facetalk::capi::require_finite(curves, count * width, "curves");
    for (size_t frame = 0; frame < count; ++frame)
      model->reach->weights(contacts + frame * facetalk::network::kContacts, curves + frame * width,
                            tongue + frame * kTongueShapes);
  });
}

int32_t facetalk_model_feature_count(const facetalk_model* model) {
  return model == nullptr ? 0 : model->encoder.width();
}

facetalk_status facetalk_model_features(const facetalk_model* model, const float* samples, size_t count,
                                        double look_ahead_s, float* features, int64_t* frames) {
  return guarded(context_of(model), [&] {
    require(model, "model");
    require(frames, "frames");
    if (count == 0) throw facetalk::ArgumentError("samples: there are none");
    facetalk::capi::require_look_ahead(look_ahead_s);
    facetalk::capi::require_samples(samples, count);
    model->is_used.store(true, std::memory_order_relaxed);
    const int64_t needed = facetalk::network::frame_count(static_cast<int64_t>(count), model->fps);
    const int64_t room = *frames;
    *frames = needed;
    if (features == nullptr || room < needed)
      throw facetalk::ArgumentError("features: room for " + std::to_string(needed) + " frames is needed");
    const auto width = static_cast<int64_t>(model->encoder.width());
    int64_t done = 0;
    const auto take = [&](const float* values, int64_t more) {
      more = std::min(more, needed - done);
      std::memcpy(features + done * width, values, static_cast<size_t>(more * width) * sizeof(float));
      done += more;
    };
    facetalk::capi::Ear ear(*model, model->whisper.has_value(), look_ahead_s);
    ear.push(samples, static_cast<int64_t>(count), take);
    ear.finish(take);
  });
}

facetalk_status facetalk_frame_noise(uint64_t seed, uint32_t step, int64_t start, int64_t stop,
                                     int32_t channels, float* noise) {
  return guarded([&] {
    if (start < 0 || stop < start || stop > (int64_t{1} << 32) || channels < 0)
      throw facetalk::ArgumentError(
          "frames and channels: expected 0 <= start <= stop <= 2^32, channels >= 0");
    if (stop > start && channels > 0) require(noise, "noise");
    facetalk::network::frame_noise(seed, step, start, stop, channels, noise);
  });
}
