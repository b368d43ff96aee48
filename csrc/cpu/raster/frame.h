// What one picture needs while it is drawn.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/raster/raster.h"
#include "cpu/raster/shade.h"

namespace facetalk::cpu {

// Samples of one pixel within this depth belong to one surface and are shaded once.
constexpr float kSameSurface = 0.003f;

// One surface that a pixel sees.
struct Fragment {
  int32_t face = -1;
  float x = 0.0f, y = 0.0f;  // mean place of its samples on the screen
  float depth = 0.0f;        // metres before the eye
  float share = 0.0f;        // of the pixel
};

// Ambient occlusion of 2 x 2 pixels; depth 0 where nothing is.
struct Block {
  float open = 0.0f, depth = 0.0f;
};

// What one picture needs. Its memory is kept from picture to picture of a thread: fresh pages cost as much as
// drawing.
struct Frame {
  Scene scene;
  int width = 0, height = 0, samples = 1;
  int x0 = 0, y0 = 0, x1 = 0, y1 = 0;    // pixels that the scene may cover, half open; nothing else is filled
  std::vector<Vec3> positions, normals;  // camera space; positions too far away to draw are NaN
  std::vector<Projected> projected;
  Visibility seen;
  std::vector<Fragment> first;  // (height, width) nearest surface; its face is -1 on the background
  std::vector<float>
      depths;  // (height, width) of `first`, 0 on the background: what the occlusion asks often
  std::vector<Block> blocks;  // of find_open
  std::vector<float> open;    // (height, width) share of the surroundings that is not blocked
  ShadowMap shadow;
};

// Weights of a face's corners at a place of the screen, for values that are linear in space; they add up
// to 1.
inline Vec3 corner_weights(const Frame& f, const int32_t* face, float x, float y) {
  const Projected &a = f.projected[face[0]], &b = f.projected[face[1]], &c = f.projected[face[2]];
  const float bx = b.x - a.x, by = b.y - a.y, cx = c.x - a.x, cy = c.y - a.y, px = x - a.x, py = y - a.y;
  const float inverse = 1.0f / (bx * cy - by * cx);
  // A mean of samples may lie just outside; beyond the edge the values would be extrapolated. A sliver's area
  // may vanish, so there is an upper limit too, far beyond what any other triangle reaches.
  constexpr float kMost = 1e6f;
  float u = within((px * cy - py * cx) * inverse, 0.0f, kMost),
        v = within((bx * py - by * px) * inverse, 0.0f, kMost);
  float t = std::max(0.0f, 1.0f - u - v);
  t *= a.near, u *= b.near, v *= c.near;
  const float sum = 1.0f / (t + u + v);
  return {t * sum, u * sum, v * sum};
}

inline Vec3 blend(const Vec3* values, const int32_t* face, Vec3 w) {
  return values[face[0]] * w.x + values[face[1]] * w.y + values[face[2]] * w.z;
}

inline Vec3 flat_normal(const Frame& f, const int32_t* face) {
  const Vec3 a = f.positions[face[0]];
  return cross(f.positions[face[1]] - a, f.positions[face[2]] - a);
}

// Fills `open` from `first` and `depths`.
void find_open(Frame* f);

}  // namespace facetalk::cpu
