#include "cpu/network/features.h"

#include <algorithm>
#include <cmath>

namespace facetalk::network {
namespace {

constexpr double kWindowSeconds = 20.0, kContextSeconds = 2.0;  // as facetalk/audio/encoder.py

// Number of frames whose centre lies before a sample.
int64_t frames_before(int64_t sample, double fps) {
  return std::max<int64_t>(
      0, static_cast<int64_t>(std::ceil(static_cast<double>(sample) / kSampleRate * fps - 0.5)));
}

int64_t round_to(double samples, int64_t stride) {
  return static_cast<int64_t>(std::nearbyint(samples / static_cast<double>(stride))) * stride;
}

// A recording with what its windows share.
struct Recording {
  const Wav2Vec2& encoder;
  const std::vector<float>& wave;  // normalised
  double fps;

  // Features of the frames `first` to `last` from the samples up to `end`.
  void window(int64_t end, int64_t first, int64_t last, EncoderScratch& scratch,
              const TakeFeatures& take) const {
    const int64_t stride = encoder.stride(), field = encoder.field(), margin = encoder.margin();
    const int64_t context = round_to(kContextSeconds * kSampleRate, stride);
    const auto centre = static_cast<int64_t>((static_cast<double>(first) + 0.5) / fps * kSampleRate);
    const int64_t at = std::max<int64_t>(0, centre / stride * stride - context);
    const int64_t length = (std::max<int64_t>(end - at, 1) + stride - 1) / stride * stride;
    const int64_t low = at - margin, high = at + length + field - stride - margin;
    std::vector<float> part(static_cast<size_t>(high - low), 0.0f);
    const int64_t a = std::max<int64_t>(low, 0), b = std::min(high, static_cast<int64_t>(wave.size()));
    std::copy(wave.begin() + a, wave.begin() + b, part.begin() + (a - low));
    const int64_t begin = std::min(first, frames_before(at, fps)),
                  stop = std::max(last, frames_before(end, fps));
    std::vector<float> positions;
    for (int64_t i = begin; i < stop; ++i) {
      const double seconds = (static_cast<double>(i) + 0.5) / fps;
      positions.push_back(static_cast<float>(
          (seconds * kSampleRate - static_cast<double>(at) - static_cast<double>(stride) / 2) /
          static_cast<double>(stride)));
    }
    const float* extracted = encoder.extract(part.data(), high - low, scratch);
    take(encoder.encode(extracted, encoder.extracted_frames(high - low), positions, encoder.span(fps),
                        first - begin, last - begin, scratch),
         last - first);
  }
};

}  // namespace

int64_t frame_count(int64_t samples, double fps) {
  return std::max<int64_t>(
      1, static_cast<int64_t>(std::nearbyint(static_cast<double>(samples) / kSampleRate * fps)));
}

void bring_to_level(std::vector<float>& sound, double floor) {
  const auto count = static_cast<int64_t>(sound.size());
  Level level;
  level.update(sound.data(), count);
  const std::vector<double> curve = level.curve(floor);
  const bool rumbles = level.rumbles();
  const auto mean = static_cast<float>(level.mean());
  HighPass filter(kHighPassHertz);
  constexpr int64_t kPiece = 1 << 14;
  std::vector<float> scale(kPiece);
  for (int64_t first = 0; first < count; first += kPiece) {
    const int64_t last = std::min(count, first + kPiece);
    scale_by(curve, first, last, scale.data());
    for (int64_t i = first; i < last; ++i) {
      float& sample = sound[static_cast<size_t>(i)];
      sample = (rumbles ? static_cast<float>(filter.next(sample)) : sample - mean) *
               scale[static_cast<size_t>(i - first)];
    }
  }
}

void whole_features(const Wav2Vec2& encoder, std::vector<float> sound, double fps, const TakeFeatures& take) {
  const auto count = static_cast<int64_t>(sound.size());
  if (encoder.normalises()) bring_to_level(sound, encoder.floor());
  const Recording recording{encoder, sound, fps};
  EncoderScratch scratch;
  const int64_t stride = encoder.stride();
  const int64_t hop = round_to((kWindowSeconds - 2 * kContextSeconds) * kSampleRate, stride);
  const int64_t context = round_to(kContextSeconds * kSampleRate, stride);
  int64_t start = 0, done = 0;
  while (count > start + hop + context + encoder.field()) {
    const int64_t end = start + hop, last = frames_before(end, fps);
    recording.window(end + context, done, last, scratch, take);
    done = last;
    start = end;
  }
  const int64_t frames = frame_count(count, fps);
  if (frames > done) recording.window(count, done, frames, scratch, take);
}

}  // namespace facetalk::network
