// Several points of a picture at a time.
#pragma once

#include <cmath>
#include <cstdint>

#include "cpu/raster/vec3.h"

namespace facetalk::cpu {

// What lanes of a vector hold belongs to as many surface points; comparisons give masks, by which the lanes
// choose. Every lane goes through the operations of a single point in their order.
constexpr int kLanes = 4;
typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float))));
typedef int32_t Marks __attribute__((vector_size(kLanes * sizeof(int32_t))));  // -1 where it holds, else 0

inline Lanes splat(float v) { return v - Lanes{}; }
inline Lanes most(Lanes v, float least) { return v < least ? splat(least) : v; }
inline Lanes unit(Lanes v) { return v > 0.0f ? (v < 1.0f ? v : splat(1.0f)) : Lanes{}; }
inline Lanes between(Lanes a, Lanes b, Lanes t) { return a + (b - a) * t; }
inline Lanes step(float a, float b, Lanes v) {
  const Lanes t = unit((v - a) / splat(b - a));
  return t * t * (3.0f - 2.0f * t);
}
inline Lanes root(Lanes v) {
  for (int i = 0; i < kLanes; ++i) v[i] = std::sqrt(v[i]);
  return v;
}
inline bool any(Marks mask) {
  bool found = false;
  for (int i = 0; i < kLanes; ++i) found |= mask[i] != 0;
  return found;
}

struct Wide {
  Lanes x, y, z;
};
inline Wide splat(Vec3 v) { return {splat(v.x), splat(v.y), splat(v.z)}; }
inline Wide operator+(const Wide& a, const Wide& b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
inline Wide operator-(const Wide& a, const Wide& b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
inline Wide operator*(const Wide& a, const Wide& b) { return {a.x * b.x, a.y * b.y, a.z * b.z}; }
inline Wide operator*(const Wide& a, Lanes s) { return {a.x * s, a.y * s, a.z * s}; }
inline Lanes dot(const Wide& a, const Wide& b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
inline Wide between(const Wide& a, const Wide& b, Lanes t) { return a + (b - a) * t; }
template <typename Mask>
inline Wide choose(Mask mask, const Wide& a, const Wide& b) {
  return {mask ? a.x : b.x, mask ? a.y : b.y, mask ? a.z : b.z};
}
inline Wide unit_vector(const Wide& v) {
  const Lanes n = dot(v, v);
  return choose(n > 1e-30f, v * (1.0f / root(n)), splat(Vec3{0.0f, 0.0f, 1.0f}));
}

}  // namespace facetalk::cpu
