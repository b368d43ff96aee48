// Barriers, warp-wide operations, atomics and the intrinsics of one thread, under CUDA's names.
#pragma once

#include <cmath>

#include "emulate/half.h"
#include "emulate/machine.h"

#define FACETALK_HERE_PARAMETERS const char *file = __builtin_FILE(), int line = __builtin_LINE()

namespace facetalk::emulate {

// Every lane gives a value and takes what `pick(values, lane)` says, where values[i] is null for absent
// lanes.
template <typename T, typename Pick>
T exchange(unsigned mask, T value, const Site& site, Pick pick) {
  struct Operand {
    T given, taken;
  } mine{value, value};
  machine.gather(mask, mine, site, [&](std::array<Operand*, 32>& all, unsigned) {
    std::array<const T*, 32> values{};
    for (size_t lane = 0; lane < 32; ++lane) {
      if (all[lane] != nullptr) values[lane] = &all[lane]->given;
    }
    for (int lane = 0; lane < 32; ++lane) {
      if (Operand* operand = all[static_cast<size_t>(lane)]) operand->taken = pick(values, lane);
    }
  });
  return mine.taken;
}

template <typename T>
T shuffle(unsigned mask, T value, int source_or_step, int width, const Site& site,
          int (*source)(int, int, int)) {
  // The last lane to come picks for all, so each lane brings its own source.
  struct Asked {
    T value;
    int source;
  };
  const int lane = machine.current() % 32;
  int from = source(lane, source_or_step, width);
  if (from < 0) from = lane;
  const Asked got = exchange(mask, Asked{value, from}, site, [&](auto& values, int who) {
    const int wanted = values[static_cast<size_t>(who)]->source;
    const Asked* found = values[static_cast<size_t>(wanted)];
    if (found == nullptr)
      machine.fail(site.text() + " reads lane " + std::to_string(wanted) + ", which is not in it");
    return Asked{found->value, values[static_cast<size_t>(who)]->source};
  });
  return got.value;
}

template <typename T, typename Fold>
T reduce(unsigned mask, T value, const Site& site, Fold fold) {
  return exchange(mask, value, site, [&](auto& values, int) {
    bool first = true;
    T total{};
    for (const T* one : values) {
      if (one == nullptr) continue;
      total = first ? *one : fold(total, *one);
      first = false;
    }
    return total;
  });
}

inline unsigned ballot(unsigned mask, bool predicate, const Site& site) {
  return reduce(mask, predicate ? 1u << machine.current() % 32 : 0u, site,
                [](unsigned a, unsigned b) { return a | b; });
}

// Count of threads of the block whose predicate holds; a barrier before and after keeps calls apart.
inline int block_count(bool predicate, const Site& site) {
  static int count;
  machine.wait_at(0, machine.thread_count(), site, true);
  count = 0;
  machine.wait_at(0, machine.thread_count(), site, true);
  count += predicate;
  machine.wait_at(0, machine.thread_count(), site, true);
  return count;
}

}  // namespace facetalk::emulate

inline void __syncthreads(FACETALK_HERE_PARAMETERS) {
  using facetalk::emulate::machine;
  machine.wait_at(0, machine.thread_count(), {"__syncthreads", file, line}, true);
}
inline int __syncthreads_count(int predicate, FACETALK_HERE_PARAMETERS) {
  return facetalk::emulate::block_count(predicate != 0, {"__syncthreads_count", file, line});
}
inline int __syncthreads_or(int predicate, FACETALK_HERE_PARAMETERS) {
  return facetalk::emulate::block_count(predicate != 0, {"__syncthreads_or", file, line}) != 0;
}
inline int __syncthreads_and(int predicate, FACETALK_HERE_PARAMETERS) {
  return facetalk::emulate::block_count(predicate == 0, {"__syncthreads_and", file, line}) == 0;
}
inline void __syncwarp(unsigned mask = 0xffffffffu, FACETALK_HERE_PARAMETERS) {
  int nothing = 0;
  facetalk::emulate::machine.gather(mask, nothing, {"__syncwarp", file, line}, [](auto&, unsigned) {});
}
inline void __threadfence() {}
inline void __threadfence_block() {}

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, FACETALK_HERE_PARAMETERS) {
  return facetalk::emulate::shuffle(
      mask, value, source, width, {"__shfl_sync", file, line},
      [](int lane, int from, int w) { return lane / w * w + (from & (w - 1)); });
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned step, int width = 32, FACETALK_HERE_PARAMETERS) {
  return facetalk::emulate::shuffle(mask, value, static_cast<int>(step), width,
                                    {"__shfl_up_sync", file, line},
                                    [](int lane, int by, int w) { return lane % w >= by ? lane - by : -1; });
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned step, int width = 32, FACETALK_HERE_PARAMETERS) {
  return facetalk::emulate::shuffle(
      mask, value, static_cast<int>(step), width, {"__shfl_down_sync", file, line},
      [](int lane, int by, int w) { return lane % w + by < w ? lane + by : -1; });
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, FACETALK_HERE_PARAMETERS) {
  return facetalk::emulate::shuffle(
      mask, value, bits, width, {"__shfl_xor_sync", file, line},
      [](int lane, int with, int w) { return (lane ^ with) / w <= lane / w ? lane ^ with : -1; });
}
inline unsigned __ballot_sync(unsigned mask, int predicate, FACETALK_HERE_PARAMETERS) {
  return facetalk::emulate::ballot(mask, predicate != 0, {"__ballot_sync", file, line});
}
inline int __any_sync(unsigned mask, int predicate, FACETALK_HERE_PARAMETERS) {
  return facetalk::emulate::ballot(mask, predicate != 0, {"__any_sync", file, line}) != 0;
}
inline int __all_sync(unsigned mask, int predicate, FACETALK_HERE_PARAMETERS) {
  return facetalk::emulate::ballot(mask, predicate == 0, {"__all_sync", file, line}) == 0;
}
template <typename T>
unsigned __match_any_sync(unsigned mask, T value, FACETALK_HERE_PARAMETERS) {
  struct Result {
    T value;
    unsigned peers;
  };
  return facetalk::emulate::exchange(mask, Result{value, 0}, {"__match_any_sync", file, line},
                                     [](auto& values, int who) {
                                       Result result = *values[static_cast<size_t>(who)];
                                       for (size_t lane = 0; lane < 32; ++lane) {
                                         if (values[lane] && values[lane]->value == result.value) {
                                           result.peers |= 1u << lane;
                                         }
                                       }
                                       return result;
                                     })
      .peers;
}
template <typename T>
T __reduce_add_sync(unsigned mask, T value, FACETALK_HERE_PARAMETERS) {
  return facetalk::emulate::reduce(mask, value, {"__reduce_add_sync", file, line},
                                   [](T a, T b) { return a + b; });
}
template <typename T>
T __reduce_max_sync(unsigned mask, T value, FACETALK_HERE_PARAMETERS) {
  return facetalk::emulate::reduce(mask, value, {"__reduce_max_sync", file, line},
                                   [](T a, T b) { return a > b ? a : b; });
}
template <typename T>
T __reduce_min_sync(unsigned mask, T value, FACETALK_HERE_PARAMETERS) {
  return facetalk::emulate::reduce(mask, value, {"__reduce_min_sync", file, line},
                                   [](T a, T b) { return a < b ? a : b; });
}

inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __ffsll(long long v) { return __builtin_ffsll(v); }
inline int __clz(int v) { return v == 0 ? 32 : __builtin_clz(static_cast<unsigned>(v)); }
inline int __clzll(long long v) { return v == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(v)); }
inline unsigned __brev(unsigned v) {
  unsigned result = 0;
  for (int bit = 0; bit < 32; ++bit) result |= (v >> bit & 1u) << (31 - bit);
  return result;
}
inline unsigned __float_as_uint(float v) { return facetalk::emulate::bits_as<unsigned>(v); }
inline int __float_as_int(float v) { return facetalk::emulate::bits_as<int>(v); }
inline float __uint_as_float(unsigned v) { return facetalk::emulate::bits_as<float>(v); }
inline float __int_as_float(int v) { return facetalk::emulate::bits_as<float>(v); }
inline long long __double_as_longlong(double v) { return facetalk::emulate::bits_as<long long>(v); }
inline double __longlong_as_double(long long v) { return facetalk::emulate::bits_as<double>(v); }

template <typename T>
T __ldg(const T* address) {
  return *address;
}
template <typename T>
T __ldcs(const T* address) {
  return *address;
}
template <typename T>
void __stcs(T* address, T value) {
  *address = value;
}

inline float __expf(float v) { return std::exp(v); }
inline float __logf(float v) { return std::log(v); }
inline float __log2f(float v) { return std::log2(v); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float v) { return 1.0f / v; }
inline float __fsqrt_rn(float v) { return std::sqrt(v); }
inline float rsqrtf(float v) { return 1.0f / std::sqrt(v); }
inline float __saturatef(float v) { return v > 0.0f ? (v < 1.0f ? v : 1.0f) : 0.0f; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
// The following are what keeps nvcc from fusing; the host is compiled with -ffp-contract=off.
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double v) { return std::sqrt(v); }

#define FACETALK_EMULATED_MINMAX(type)                      \
  inline type min(type a, type b) { return b < a ? b : a; } \
  inline type max(type a, type b) { return a < b ? b : a; }
FACETALK_EMULATED_MINMAX(int)
FACETALK_EMULATED_MINMAX(unsigned)
FACETALK_EMULATED_MINMAX(long)
FACETALK_EMULATED_MINMAX(unsigned long)
FACETALK_EMULATED_MINMAX(long long)
FACETALK_EMULATED_MINMAX(unsigned long long)
#undef FACETALK_EMULATED_MINMAX
inline float min(float a, float b) { return std::fmin(a, b); }
inline float max(float a, float b) { return std::fmax(a, b); }
inline double min(double a, double b) { return std::fmin(a, b); }
inline double max(double a, double b) { return std::fmax(a, b); }

// Fibers switch at barriers alone, so plain memory operations are atomic.
#define FACETALK_EMULATED_ATOMIC(name, expression) \
  template <typename T, typename V>                \
  T name(T* address, V operand) {                  \
    const T old = *address;                        \
    const T value = static_cast<T>(operand);       \
    *address = static_cast<T>(expression);         \
    return old;                                    \
  }
FACETALK_EMULATED_ATOMIC(atomicAdd, old + value)
FACETALK_EMULATED_ATOMIC(atomicSub, old - value)
FACETALK_EMULATED_ATOMIC(atomicMax, old > value ? old : value)
FACETALK_EMULATED_ATOMIC(atomicMin, old < value ? old : value)
FACETALK_EMULATED_ATOMIC(atomicOr, old | value)
FACETALK_EMULATED_ATOMIC(atomicAnd, old& value)
FACETALK_EMULATED_ATOMIC(atomicExch, value)
#undef FACETALK_EMULATED_ATOMIC
template <typename T>
T atomicCAS(T* address, T expected, T desired) {
  const T old = *address;
  if (old == expected) *address = desired;
  return old;
}
#undef FACETALK_HERE_PARAMETERS
