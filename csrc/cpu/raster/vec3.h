// Three floats with the few operations that drawing needs.
#pragma once

#include <cmath>

namespace facetalk::cpu {

struct Vec3 {
  float x = 0.0f, y = 0.0f, z = 0.0f;
};

inline Vec3 operator+(Vec3 a, Vec3 b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
inline Vec3 operator-(Vec3 a, Vec3 b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
inline Vec3 operator*(Vec3 a, Vec3 b) { return {a.x * b.x, a.y * b.y, a.z * b.z}; }
inline Vec3 operator*(Vec3 a, float s) { return {a.x * s, a.y * s, a.z * s}; }
inline float dot(Vec3 a, Vec3 b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
inline Vec3 cross(Vec3 a, Vec3 b) {
  return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
// `v` between two limits; the lower one for NaN, so that what comes out always fits an index.
inline float within(float v, float low, float high) { return v > low ? (v < high ? v : high) : low; }
inline float clamp01(float v) { return within(v, 0.0f, 1.0f); }
inline float mix(float a, float b, float t) { return a + (b - a) * t; }
inline Vec3 mix(Vec3 a, Vec3 b, float t) { return a + (b - a) * t; }
inline float smoothstep(float a, float b, float v) {
  const float t = clamp01((v - a) / (b - a));
  return t * t * (3.0f - 2.0f * t);
}

// Unit vector, or +z for a vector without a direction.
inline Vec3 normalized(Vec3 v) {
  const float n = dot(v, v);
  return n > 1e-30f ? v * (1.0f / std::sqrt(n)) : Vec3{0.0f, 0.0f, 1.0f};
}

}  // namespace facetalk::cpu
