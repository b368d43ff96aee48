#include "core/cpu_features.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "core/status.h"

namespace facetalk {
namespace {

SimdLevel parse(const std::string& name, const char* argument) {
  for (SimdLevel level : {SimdLevel::kBaseline, SimdLevel::kAvx2, SimdLevel::kAvx512}) {
    if (name == name_of(level)) return level;
  }
  throw ArgumentError(argument, "baseline, avx2 or avx512", "'" + name + "'");
}

std::atomic<int> g_level{-1};

}  // namespace

const char* name_of(SimdLevel level) {
  constexpr const char* kNames[] = {"baseline", "avx2", "avx512"};
  return kNames[static_cast<int>(level)];
}

SimdLevel detected_simd_level() {
#if defined(__x86_64__)
  // The compiler's built-in also asks whether the operating system saves the wide registers.
  __builtin_cpu_init();
  const bool avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return avx512 ? SimdLevel::kAvx512 : avx2 ? SimdLevel::kAvx2 : SimdLevel::kBaseline;
#else
  return SimdLevel::kBaseline;
#endif
}

SimdLevel simd_level() {
  int level = g_level.load(std::memory_order_relaxed);
  if (level < 0) {
    const char* wanted = std::getenv("FACETALK_SIMD");
    level = static_cast<int>(detected_simd_level());
    if (wanted != nullptr && *wanted != '\0')
      level = std::min(level, static_cast<int>(parse(wanted, "FACETALK_SIMD")));
    g_level.store(level, std::memory_order_relaxed);
  }
  return static_cast<SimdLevel>(level);
}

void set_simd_level(const std::string& name) {
  g_level.store(std::min(static_cast<int>(parse(name, "level")), static_cast<int>(detected_simd_level())),
                std::memory_order_relaxed);
}

}  // namespace facetalk
