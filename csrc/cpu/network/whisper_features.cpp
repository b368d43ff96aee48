#include "cpu/network/whisper_features.h"

#include <algorithm>
#include <cmath>

#include "core/number_text.h"
#include "core/status.h"

namespace facetalk::network {
namespace {

// As facetalk/audio/whisper.py and whisper_encoder.py, which say why.
constexpr float kLoudness = 0.05f;
constexpr int64_t kHop = 20 * kSampleRate, kContext = 4 * kSampleRate;  // of a long recording
constexpr int64_t kPad = kSampleRate, kGrain = 3 * kSampleRate;
constexpr double kRate = 50.0;

constexpr int64_t kMost = 30 * kSampleRate;  // that Whisper hears at once

// Samples that are heard of a recording of `count`.
int64_t rounded(int64_t count) { return std::min((count + kPad + kGrain - 1) / kGrain * kGrain, kMost); }

// Rows (rows, width) at 50 Hz, the first centred at 10 ms, at a moment in seconds.
void at_time(const float* rows, int64_t count, int64_t width, double seconds, float* out) {
  const float position = std::clamp(static_cast<float>(seconds) * static_cast<float>(kRate) - 0.5f, 0.0f,
                                    static_cast<float>(count - 1));
  const auto low = static_cast<int64_t>(position);
  const int64_t high = std::min(low + 1, count - 1);
  const float share = position - static_cast<float>(low);
  for (int64_t i = 0; i < width; ++i)
    out[i] = rows[low * width + i] * (1.0f - share) + rows[high * width + i] * share;
}

}  // namespace

WhisperEar::WhisperEar(const std::string& listener, const std::string& folder)
    : whisper(listener), adapter(folder, whisper.width(), whisper.depth()) {
  if (whisper.most_samples() < kMost) throw FileError(listener + ": hears less than 30 s at once");
  if (!whisper.named().empty() && !adapter.listener().empty() && whisper.named() != adapter.listener())
    throw FileError(listener + ": holds another Whisper than the adapter in " + folder + " was made for");
}

void whole_features(const WhisperEar& ear, std::vector<float> sound, double fps, const TakeFeatures& take) {
  bring_to_level(sound, ear.adapter.floor());
  const auto total = static_cast<int64_t>(sound.size());
  const int64_t width = ear.adapter.features();
  WhisperScratch scratch;
  std::vector<float> window, states, rows, features;
  // Frames `first` to `last` from the samples `origin` to `end`.
  const auto hear = [&](int64_t origin, int64_t end, int64_t first, int64_t last) {
    const int64_t count = end - origin;
    window.assign(static_cast<size_t>(rounded(count)), 0.0f);
    for (int64_t i = 0; i < count; ++i)
      window[static_cast<size_t>(i)] = kLoudness * sound[static_cast<size_t>(origin + i)];
    const int64_t seen = (count + Whisper::kRow - 1) / Whisper::kRow;
    states.resize(static_cast<size_t>(seen * 2 * ear.whisper.width()));
    ear.whisper.hear(window.data(), static_cast<int64_t>(window.size()), 0, seen, scratch, states.data());
    rows.resize(static_cast<size_t>(seen * width));
    ear.adapter.run(states.data(), seen, false, rows.data());
    features.resize(static_cast<size_t>((last - first) * width));
    for (int64_t frame = first; frame < last; ++frame) {
      const double seconds =
          (static_cast<double>(frame) + 0.5) / fps - static_cast<double>(origin) / kSampleRate;
      at_time(rows.data(), seen, width, seconds, features.data() + (frame - first) * width);
    }
    take(features.data(), last - first);
  };
  int64_t start = 0, done = 0;
  for (; total > start + kHop + kContext; start += kHop) {
    const auto last =
        static_cast<int64_t>(std::nearbyint(static_cast<double>(start + kHop) / kSampleRate * fps));
    hear(std::max<int64_t>(0, start - kContext), start + kHop + kContext, done, last);
    done = last;
  }
  const int64_t frames = frame_count(total, fps);
  if (frames > done) hear(std::max<int64_t>(0, start - kContext), total, done, frames);
}

LiveWhisper::LiveWhisper(const WhisperEar& ear, double fps, double look_ahead_s)
    : ear_(ear), fps_(fps), look_ahead_s_(look_ahead_s), sound_(true, ear.adapter.floor()) {
  if (!ear.adapter.hears_live())
    throw Unsupported(
        "this model's adapter for Whisper hears whole recordings alone; facetalk train whisper --live makes "
        "one that hears live sound");
  if (look_ahead_s > kMostAhead)
    throw ArgumentError("look_ahead_s", "0 to 1 s where Whisper hears, or infinity",
                        number_text(look_ahead_s));
  window_.resize(static_cast<size_t>(ear.adapter.window()));
}

// The next frame, of the sound up to `known`, or up to its end with silence after it.
void LiveWhisper::give(int64_t known, int64_t end, const TakeFeatures& take) {
  const auto length = static_cast<int64_t>(window_.size());
  const int64_t total = length / Whisper::kRow, width = ear_.adapter.features();
  std::fill(window_.begin(), window_.end(), 0.0f);
  const int64_t from = known - length;
  if (end > from) sound_.copy(from, std::min(known, end), window_.data());
  for (float& sample : window_) sample *= kLoudness;
  const double seconds = (static_cast<double>(done_) + 0.5) / fps_ - static_cast<double>(from) / kSampleRate;
  // The rows around the frame, and those that they depend on.
  const auto middle = static_cast<int64_t>(seconds * kRate - 0.5);
  const int64_t first = std::clamp<int64_t>(middle - Adapter::kReach, 0, total - 1);
  const int64_t last = std::clamp<int64_t>(middle + 2 + Adapter::kReach, first + 1, total),
                count = last - first;
  states_.resize(static_cast<size_t>(count * 2 * ear_.whisper.width()));
  ear_.whisper.hear(window_.data(), length, first, last, scratch_, states_.data());
  rows_.resize(static_cast<size_t>(count * width));
  ear_.adapter.run(states_.data(), count, true, rows_.data());
  feature_.resize(static_cast<size_t>(width));
  at_time(rows_.data(), count, width, seconds - static_cast<double>(first) / kRate, feature_.data());
  take(feature_.data(), 1);
  ++done_;
  sound_.forget(from);
}

void LiveWhisper::push(const float* samples, int64_t count, const TakeFeatures& take) {
  constexpr int64_t kPiece = 10 * kSampleRate;  // bounds the memory of a large push
  for (int64_t from = 0; from < count; from += kPiece) {
    sound_.push(samples + from, std::min(kPiece, count - from));
    while (is_due(done_, sound_.heard(), fps_, look_ahead_s_)) {
      const int64_t until = samples_until(done_, fps_, look_ahead_s_);
      give(until / kLevelHop * kLevelHop, until, take);
    }
  }
}

void LiveWhisper::finish(const TakeFeatures& take) {
  const int64_t total = sound_.heard();
  const int64_t frames = total == 0 ? 0 : frame_count(total, fps_);
  if (frames <= done_) return;
  sound_.fill_hop();
  while (done_ < frames) give(samples_until(done_, fps_, look_ahead_s_) / kLevelHop * kLevelHop, total, take);
}

}  // namespace facetalk::network
