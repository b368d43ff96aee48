// Which SIMD code paths this machine may take; chosen at run time, so that one binary serves every x86-64
// CPU.
#pragma once

#include <string>

namespace facetalk {

enum class SimdLevel : int { kBaseline = 0, kAvx2 = 1, kAvx512 = 2 };

// The best level that both the CPU (and its operating system) and this build support.
SimdLevel detected_simd_level();

// The level in use: the detected one, or a lower one that the environment variable FACETALK_SIMD (baseline,
// avx2 or avx512; read once) or set_simd_level asked for. Throws ArgumentError when FACETALK_SIMD has another
// value.
SimdLevel simd_level();

// Asks for a level by name; a level that the machine lacks gives the best one below it. Meant for tests.
void set_simd_level(const std::string& name);

const char* name_of(SimdLevel level);

}  // namespace facetalk
