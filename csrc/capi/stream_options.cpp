#include "capi/stream_options.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "capi/guard.h"
#include "capi/model.h"
#include "core/number_text.h"
#include "cpu/network/level.h"

namespace facetalk::capi {
namespace {

void require_range(const char* name, double value, int low, int high) {
  if (!(value >= low && value <= high))
    throw ArgumentError(name, std::to_string(low) + " to " + std::to_string(high), number_text(value));
}

// Copies the fields that a program's struct has, which is shorter where its header is older. Whole ones alone: a size
// that ends inside a field, which is `field` bytes, would leave half of a number or an address.
template <typename Struct>
void take_fields(Struct& own, const Struct& given, const char* name, const char* type, size_t field) {
  const size_t size = given.struct_size;
  if (size < sizeof(size_t) || size > (size_t{1} << 20))
    throw ArgumentError(std::string(name) + ": struct_size is not that of a " + type);
  std::memcpy(&own, &given, std::min(size - size % field, sizeof own));
  own.struct_size = sizeof own;
}

}  // namespace

facetalk_stream_options checked(const facetalk_stream_options* given) {
  facetalk_stream_options options;
  facetalk_stream_options_default(&options);
  if (given != nullptr) take_fields(options, *given, "options", "facetalk_stream_options", sizeof(void*));
  if (options.sample_rate < 1000 || options.sample_rate > 768'000)
    throw ArgumentError("sample_rate", "1000 to 768000 Hz", std::to_string(options.sample_rate));
  require_look_ahead(options.look_ahead_s);
  if (std::isnan(options.guidance)) throw ArgumentError("guidance: is not a number");
  if (options.steps < 0) throw ArgumentError("steps", "0 or more", std::to_string(options.steps));
  return options;
}

facetalk_style checked(const facetalk_style* given) {
  facetalk_style style;
  facetalk_style_default(&style, sizeof style);
  if (given != nullptr) take_fields(style, *given, "style", "facetalk_style", sizeof(double));
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
  take_fields(frames, given, "into", "facetalk_frames", sizeof(void*));
  return frames;
}

}  // namespace facetalk::capi

void facetalk_stream_options_default(facetalk_stream_options* options) {
  if (options == nullptr) return;
  *options = {sizeof(facetalk_stream_options),
              facetalk::network::kSampleRate,
              0,
              0.2,
              facetalk::capi::kOwnGuidance,
              0};
}

void facetalk_style_default(facetalk_style* style, size_t struct_size) {
  if (style == nullptr) return;
  const size_t known = std::min(struct_size, sizeof *style);
  const facetalk_style still = {known, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0};
  std::memcpy(style, &still, known);
}
