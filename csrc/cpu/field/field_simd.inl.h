// Vectors of the instruction set that this file is compiled for. Included by field_<level>.cpp only, once
// each, and everything is in an unnamed namespace: no function of one level may be linked into another.
//
// GCC's and Clang's vector extension carries the arithmetic (`a * b + c` becomes a fused multiply-add where
// the target has one), so the baseline serves any CPU that these compilers know.
#pragma once

#include <cstdint>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
constexpr int kPanel = 12;  // outputs x 2 vectors of points = 24 of 32 registers
#elif defined(__AVX2__)
constexpr int kLanes = 8;
constexpr int kPanel = 6;  // 12 of 16 registers
#else
constexpr int kLanes = 4;
constexpr int kPanel = 6;
#endif
constexpr int kVectors = 2;                  // vectors of points in a column group
constexpr int kColumns = kLanes * kVectors;  // points in a column group

typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef int32_t IVec __attribute__((vector_size(kLanes * 4)));

#define FT_INLINE inline __attribute__((always_inline))

FT_INLINE Vec load(const float* p) { return *reinterpret_cast<const Vec*>(p); }
FT_INLINE void store(float* p, Vec v) { *reinterpret_cast<Vec*>(p) = v; }
FT_INLINE Vec splat(float s) { return s - Vec{}; }
FT_INLINE IVec bits(Vec v) { return reinterpret_cast<IVec>(v); }
FT_INLINE Vec value(IVec v) { return reinterpret_cast<Vec>(v); }

#if defined(__AVX512F__)
FT_INLINE Vec max(Vec a, Vec b) { return reinterpret_cast<Vec>(_mm512_max_ps(a, b)); }
FT_INLINE Vec min(Vec a, Vec b) { return reinterpret_cast<Vec>(_mm512_min_ps(a, b)); }
FT_INLINE bool any(IVec mask) { return _mm512_movepi32_mask(reinterpret_cast<__m512i>(mask)) != 0; }
#elif defined(__AVX2__)
FT_INLINE Vec max(Vec a, Vec b) { return reinterpret_cast<Vec>(_mm256_max_ps(a, b)); }
FT_INLINE Vec min(Vec a, Vec b) { return reinterpret_cast<Vec>(_mm256_min_ps(a, b)); }
FT_INLINE bool any(IVec mask) { return _mm256_movemask_ps(reinterpret_cast<__m256>(mask)) != 0; }
#elif defined(__SSE2__)
FT_INLINE Vec max(Vec a, Vec b) { return reinterpret_cast<Vec>(_mm_max_ps(a, b)); }
FT_INLINE Vec min(Vec a, Vec b) { return reinterpret_cast<Vec>(_mm_min_ps(a, b)); }
FT_INLINE bool any(IVec mask) { return _mm_movemask_ps(reinterpret_cast<__m128>(mask)) != 0; }
#else
FT_INLINE Vec max(Vec a, Vec b) { return a > b ? a : b; }
FT_INLINE Vec min(Vec a, Vec b) { return a < b ? a : b; }
FT_INLINE bool any(IVec mask) {
  int32_t all = 0;
  for (int i = 0; i < kLanes; ++i) all |= mask[i];
  return all != 0;
}
#endif

FT_INLINE Vec negative_abs(Vec v) { return value(bits(v) | IVec(bits(splat(-0.0f)))); }

// 2^x for x <= 0; degree 5 on the fraction, relative error 1e-7. Nothing goes below 2^-125: subnormal numbers
// cost a hundred times a normal operation on many CPUs.
FT_INLINE Vec exp2_accurate(Vec x) {
  x = max(x, splat(-125.0f));
  const Vec shifted = x + splat(12582912.0f);  // 1.5 * 2^23: rounds to an integer in the low bits
  const Vec r = x - (shifted - splat(12582912.0f));
  Vec p = splat(0.001327647129073739f);
  p = p * r + splat(0.009675540961325169f);
  p = p * r + splat(0.05550713092088699f);
  p = p * r + splat(0.24022120237350464f);
  p = p * r + splat(0.6931469440460205f);
  p = p * r + splat(1.0f);
  return value(bits(p) + (bits(shifted) << 23));
}

// 2^-|z| with a relative error of 2.6e-6 (minimax polynomial of degree 4 on the fraction), and 2^-64 where it
// is less: there it vanishes beside anything that it is added to.
FT_INLINE Vec exp2_negative_abs(Vec z) {
  const Vec x = max(negative_abs(z), splat(-64.0f));
#if defined(__AVX512DQ__)
  const Vec r = _mm512_reduce_ps(x, 0);  // x - round(x)
#else
  const Vec shifted = x + splat(12582912.0f);
  const Vec r = x - (shifted - splat(12582912.0f));
#endif
  Vec p = splat(0.009570101276040077f);
  p = p * r + splat(0.05591785907745361f);
  p = p * r + splat(0.240247443318367f);
  p = p * r + splat(0.6931217908859253f);
  p = p * r + splat(0.9999992847442627f);
#if defined(__AVX512DQ__)
  return _mm512_scalef_ps(p, x - r);
#else
  return value(bits(p) + (bits(shifted) << 23));
#endif
}

// log2(1 + e) for e in [0, 1]: minimax polynomial of degree 6 without constant term, absolute error 2.1e-6.
FT_INLINE Vec log2_one_plus(Vec e) {
  Vec p = splat(-0.026457414031028748f);
  p = p * e + splat(0.12345138192176819f);
  p = p * e + splat(-0.27953803539276123f);
  p = p * e + splat(0.45827075839042664f);
  p = p * e + splat(-0.7182819247245789f);
  p = p * e + splat(1.442553162574768f);
  return p * e;
}

// Base-2 softplus, max(z, 0) + log2(1 + 2^-|z|); the error of 4e-6 is 3e-8 in the network's own units.
FT_INLINE Vec softplus2(Vec z) { return max(z, Vec{}) + log2_one_plus(exp2_negative_abs(z)); }

// Its derivative 1 / (1 + 2^-z).
FT_INLINE Vec softplus2_slope(Vec z) {
  const Vec e = exp2_negative_abs(z);
  const Vec inverse = splat(1.0f) / (splat(1.0f) + e);
  return z < Vec{} ? e * inverse : inverse;
}

}  // namespace
