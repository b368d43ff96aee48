#include "capi/guard.h"

#include <atomic>
#include <cmath>
#include <cstring>

#include "core/number_text.h"
#include "cpu/threads.h"

namespace facetalk::capi {
namespace {

// Plain memory: nothing that could fail, or that has to be destroyed with its thread.
thread_local char t_error[2048] = "";

std::atomic<bool> g_threads_told{false};

}  // namespace

facetalk_status fail(const Context& context, facetalk_status status, const char* message) noexcept {
  size_t length = std::strlen(message);
  if (length >= sizeof t_error) {
    // Between two letters of UTF-8, whose second bytes and later ones begin with the bits 10.
    for (length = sizeof t_error - 1; length > 0 && (message[length] & 0xC0) == 0x80;) --length;
  }
  std::memmove(t_error, message, length);
  t_error[length] = '\0';
  for (char* c = t_error; *c != '\0'; ++c) {
    if (*c == '\n' || *c == '\r') *c = ' ';
  }
  context.log(FACETALK_LOG_ERROR, t_error);
  return status;
}

void one_thread_unless_told() {
  if (!g_threads_told.exchange(true)) cpu::set_threads(1);
}

void require_finite(const float* values, size_t count, const char* name) {
  for (size_t i = 0; i < count; ++i) {
    if (!std::isfinite(values[i]))
      throw ArgumentError(std::string(name) + ": value " + std::to_string(i) + " is not finite");
  }
}

void require_samples(const float* samples, size_t count) {
  constexpr size_t kMostSamples = size_t{1} << (sizeof(size_t) > 4 ? 40 : 28);
  constexpr float kMostSample = 1e30f;  // far beyond sound at any scale, and before float32 overflows
  if (count == 0) return;
  require(samples, "samples");
  if (count > kMostSamples)
    throw ArgumentError("count", "at most " + std::to_string(kMostSamples) + " samples",
                        std::to_string(count));
  require_finite(samples, count, "samples");
  for (size_t i = 0; i < count; ++i) {
    if (std::abs(samples[i]) > kMostSample)
      throw ArgumentError("samples: value " + std::to_string(i) + " is " + number_text(samples[i]) +
                          "; sound lies in -1..1");
  }
}

std::vector<float> checked_code(const float* values, int32_t count, int expected, const char* name) {
  constexpr float kMostCode = 1000.0f;  // beyond anything that is a head, and far below what overflows
  if (count < 0) throw ArgumentError(std::string(name) + ": a negative count");
  if (count == 0) return {};
  require(values, name);
  if (count != expected)
    throw ArgumentError(name, std::to_string(expected) + " values", std::to_string(count));
  require_finite(values, static_cast<size_t>(count), name);
  for (int32_t i = 0; i < count; ++i) {
    if (std::abs(values[i]) > kMostCode)
      throw ArgumentError(name, "values up to 1000", number_text(values[i]));
  }
  return {values, values + count};
}

}  // namespace facetalk::capi

const char* facetalk_version(void) { return FACETALK_VERSION; }

const char* facetalk_last_error(void) { return facetalk::capi::t_error; }

facetalk_status facetalk_set_threads(int32_t count) {
  return facetalk::capi::guarded([&] {
    facetalk::cpu::set_threads(count);
    facetalk::capi::g_threads_told.store(true);
  });
}
