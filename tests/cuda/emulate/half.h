// __half and __nv_bfloat16 on the host, under CUDA's names: 16 bits, each operation rounded once to nearest
// even.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "emulate/types.h"

namespace facetalk::emulate {

template <typename To, typename From>
To bits_as(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "sizes differ");
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

struct Fp16 {
  static uint16_t from(float value) {
    const auto bits = bits_as<uint32_t>(value);
    const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
    const uint32_t size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) return 0x7fff;                                 // NaN
    if (size >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00);  // 65520 and more round to infinity
    if (size < 0x38800000u) {  // below 2^-14: a whole number of 2^-24, rounded by the host's own mode
      const float units = std::nearbyint(std::ldexp(bits_as<float>(size), 24));
      return static_cast<uint16_t>(sign | static_cast<uint16_t>(units));
    }
    const uint32_t rounded = size + 0xfffu + (size >> 13 & 1u);
    return static_cast<uint16_t>(sign | (rounded - 0x38000000u) >> 13);
  }
  static float to(uint16_t half) {
    const uint32_t sign = uint32_t{half} << 16 & 0x80000000u;
    const uint32_t exponent = half >> 10 & 31u;
    const uint32_t fraction = half & 0x3ffu;
    if (exponent == 0) {
      const float size = std::ldexp(static_cast<float>(fraction), -24);
      return sign ? -size : size;
    }
    const uint32_t high = exponent == 31 ? 255u : exponent + 112u;
    return bits_as<float>(sign | high << 23 | fraction << 13);
  }
};

struct Bf16 {
  static uint16_t from(float value) {
    const auto bits = bits_as<uint32_t>(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
  }
  static float to(uint16_t bits) { return bits_as<float>(uint32_t{bits} << 16); }
};

template <typename Format>
struct Soft16 {
  uint16_t bits;

  Soft16() = default;
  Soft16(float value) : bits(Format::from(value)) {}
  Soft16(double value) : Soft16(static_cast<float>(value)) {}
  Soft16(int value) : Soft16(static_cast<float>(value)) {}
  operator float() const { return Format::to(bits); }

  static Soft16 of_bits(uint16_t raw) {
    Soft16 value;
    value.bits = raw;
    return value;
  }
  friend Soft16 operator+(Soft16 a, Soft16 b) { return float(a) + float(b); }
  friend Soft16 operator-(Soft16 a, Soft16 b) { return float(a) - float(b); }
  friend Soft16 operator*(Soft16 a, Soft16 b) { return float(a) * float(b); }
  friend Soft16 operator/(Soft16 a, Soft16 b) { return float(a) / float(b); }
  friend Soft16 operator-(Soft16 a) { return of_bits(a.bits ^ 0x8000); }
  friend bool operator<(Soft16 a, Soft16 b) { return float(a) < float(b); }
  friend bool operator>(Soft16 a, Soft16 b) { return float(a) > float(b); }
  friend bool operator==(Soft16 a, Soft16 b) { return float(a) == float(b); }
};

template <typename Format>
struct alignas(4) Soft16x2 {
  Soft16<Format> x, y;
  Soft16x2() = default;
  Soft16x2(Soft16<Format> a, Soft16<Format> b) : x(a), y(b) {}
};

}  // namespace facetalk::emulate

using __half = facetalk::emulate::Soft16<facetalk::emulate::Fp16>;
using __half2 = facetalk::emulate::Soft16x2<facetalk::emulate::Fp16>;
using __nv_bfloat16 = facetalk::emulate::Soft16<facetalk::emulate::Bf16>;
using __nv_bfloat162 = facetalk::emulate::Soft16x2<facetalk::emulate::Bf16>;
using half = __half;
using half2 = __half2;

inline __half __float2half(float v) { return v; }
inline __half __float2half_rn(float v) { return v; }
inline float __half2float(__half v) { return v; }
inline __half2 __floats2half2_rn(float a, float b) { return {a, b}; }
inline __half2 __float22half2_rn(float2 v) { return {v.x, v.y}; }
inline __half2 __float2half2_rn(float v) { return {v, v}; }
inline float2 __half22float2(__half2 v) { return {v.x, v.y}; }
inline __half2 __halves2half2(__half a, __half b) { return {a, b}; }
inline __half2 __half2half2(__half v) { return {v, v}; }
inline __half __ushort_as_half(unsigned short v) { return __half::of_bits(v); }
inline unsigned short __half_as_ushort(__half v) { return v.bits; }

inline __nv_bfloat16 __float2bfloat16(float v) { return v; }
inline __nv_bfloat16 __float2bfloat16_rn(float v) { return v; }
inline float __bfloat162float(__nv_bfloat16 v) { return v; }
inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b) { return {a, b}; }
inline __nv_bfloat162 __float22bfloat162_rn(float2 v) { return {v.x, v.y}; }
inline float2 __bfloat1622float2(__nv_bfloat162 v) { return {v.x, v.y}; }
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 a, __nv_bfloat16 b) { return {a, b}; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short v) { return __nv_bfloat16::of_bits(v); }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 v) { return v.bits; }

// Overloaded for both formats, as in CUDA.
#define FACETALK_SOFT16 template <typename F>
FACETALK_SOFT16 facetalk::emulate::Soft16<F> __hadd(facetalk::emulate::Soft16<F> a,
                                                    facetalk::emulate::Soft16<F> b) {
  return a + b;
}
FACETALK_SOFT16 facetalk::emulate::Soft16<F> __hmul(facetalk::emulate::Soft16<F> a,
                                                    facetalk::emulate::Soft16<F> b) {
  return a * b;
}
FACETALK_SOFT16 facetalk::emulate::Soft16<F> __hfma(facetalk::emulate::Soft16<F> a,
                                                    facetalk::emulate::Soft16<F> b,
                                                    facetalk::emulate::Soft16<F> c) {
  // The product is exact in double, and so is the sum for all but far exponents: one rounding, as in a fused
  // one.
  return static_cast<double>(float(a)) * float(b) + static_cast<double>(float(c));
}
FACETALK_SOFT16 facetalk::emulate::Soft16<F> __hmax(facetalk::emulate::Soft16<F> a,
                                                    facetalk::emulate::Soft16<F> b) {
  return std::fmax(float(a), float(b));
}
FACETALK_SOFT16 facetalk::emulate::Soft16<F> __hmin(facetalk::emulate::Soft16<F> a,
                                                    facetalk::emulate::Soft16<F> b) {
  return std::fmin(float(a), float(b));
}
#define FACETALK_SOFT16_PAIR(name)                                                           \
  FACETALK_SOFT16 facetalk::emulate::Soft16x2<F> name##2(facetalk::emulate::Soft16x2<F> a,   \
                                                         facetalk::emulate::Soft16x2<F> b) { \
    return {name(a.x, b.x), name(a.y, b.y)};                                                 \
  }
FACETALK_SOFT16_PAIR(__hadd)
FACETALK_SOFT16_PAIR(__hmul)
FACETALK_SOFT16_PAIR(__hmax)
FACETALK_SOFT16_PAIR(__hmin)
#undef FACETALK_SOFT16_PAIR
FACETALK_SOFT16 facetalk::emulate::Soft16x2<F> __hfma2(facetalk::emulate::Soft16x2<F> a,
                                                       facetalk::emulate::Soft16x2<F> b,
                                                       facetalk::emulate::Soft16x2<F> c) {
  return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
}
FACETALK_SOFT16 float __low2float(facetalk::emulate::Soft16x2<F> v) { return v.x; }
FACETALK_SOFT16 float __high2float(facetalk::emulate::Soft16x2<F> v) { return v.y; }
#undef FACETALK_SOFT16
