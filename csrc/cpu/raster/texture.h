// Pictures on surfaces: albedo, a factor of the roughness, and normals, with mip-maps.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "cpu/raster/vec3.h"

namespace facetalk::cpu {

// Bytes of a texel: roots of linear red, green and blue, roughness, x and y of the normal in tangent space (127.5 is 0), and two
// for nothing but the alignment.
constexpr int kTexelBytes = 8;

// A picture and all its halves, one after the other, each half as wide and as high as the one before, down to one
// texel. None where `width` is 0.
struct Texture {
  const uint8_t* texels = nullptr;
  int width = 0, height = 0;
};

// Texels of a picture with all its halves.
inline int64_t texels_of(int64_t width, int64_t height) {
  int64_t sum = 0;
  for (;; width = std::max<int64_t>(1, width / 2), height = std::max<int64_t>(1, height / 2)) {
    sum += width * height;
    if (width == 1 && height == 1) return sum;
  }
}

// The half of a picture in which a texel is nearest to a pixel, of which `texels` of the whole picture cover `pixels`.
inline Texture half_for(const Texture& whole, float texels, float pixels) {
  Texture t = whole;
  for (texels *= 2.0f, pixels *= 4.0f; texels >= pixels && (t.width > 1 || t.height > 1); texels *= 0.25f) {
    t.texels += static_cast<int64_t>(t.width) * t.height * kTexelBytes;
    t.width = std::max(1, t.width / 2), t.height = std::max(1, t.height / 2);
  }
  return t;
}

typedef uint8_t Bytes __attribute__((vector_size(kTexelBytes)));
typedef int16_t Shorts __attribute__((vector_size(2 * kTexelBytes)));
typedef float Floats __attribute__((vector_size(4 * kTexelBytes)));

struct Sample {
  float red, green, blue, roughness;  // roots of linear light and the factor, 0 to 1
  float x, y;                         // of the normal, -1 to 1
};

// Between the four texels nearest to a place in texels, to the right and downwards; beyond, the picture's edge goes on.
inline Sample sample(const Texture& t, float u, float v) {
  const float x = within(u - 0.5f, 0.0f, t.width - 1.0f);
  const float y = within(v - 0.5f, 0.0f, t.height - 1.0f);
  const int ix = std::min(static_cast<int>(x), std::max(0, t.width - 2)),
            iy = std::min(static_cast<int>(y), std::max(0, t.height - 2));
  const float fx = x - ix, fy = y - iy;
  const uint8_t* a = t.texels + (static_cast<int64_t>(iy) * t.width + ix) * kTexelBytes;
  const uint8_t* b = a + (t.width > 1 ? kTexelBytes : 0);
  const int64_t down = t.height > 1 ? static_cast<int64_t>(t.width) * kTexelBytes : 0;
  // To the right in 16-bit whole numbers, of which 128 is one, downwards in floats.
  const int16_t share = static_cast<int16_t>(fx * 128.0f + 0.5f);
  Floats c, below;
  const auto row = [share](const uint8_t* left, const uint8_t* right, Floats* out) {
    Bytes l, r;
    std::memcpy(&l, left, sizeof(l)), std::memcpy(&r, right, sizeof(r));
    const Shorts from = __builtin_convertvector(l, Shorts), to = __builtin_convertvector(r, Shorts);
    *out = __builtin_convertvector(from * int16_t{128} + (to - from) * share, Floats);
  };
  row(a, b, &c), row(a + down, b + down, &below);
  c += (below - c) * fy;
  constexpr float kUnit = 1.0f / (128.0f * 127.5f), kByte = 1.0f / (128.0f * 255.0f);
  return {c[0] * kByte, c[1] * kByte, c[2] * kByte, c[3] * kByte, c[4] * kUnit - 1.0f, c[5] * kUnit - 1.0f};
}

}  // namespace facetalk::cpu
