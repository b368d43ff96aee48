// Triangles to pictures without a GPU or a window system: visibility first, then one shading per visible
// surface.
//
// Camera space has +x right, +y up and looks along -z; all lengths are metres.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/parallel.h"
#include "cpu/raster/vec3.h"

namespace facetalk::cpu {

// Calls work(i) for every i of [begin, end): in this thread, or shared by all threads of the operations.
// Pictures are drawn side by side as well, and then each keeps to the thread that it was asked from.
template <typename Work>
void each(bool alone, int64_t begin, int64_t end, int64_t grain, const Work& work) {
  const auto piece = [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) work(static_cast<int>(begin + i));
  };
  if (begin >= end) return;
  if (alone) {
    piece(0, end - begin);
  } else {
    parallel_for(end - begin, grain, piece);
  }
}

// A vertex on the screen. `near` grows towards the viewer and is linear over the screen: 1 / depth for a
// perspective camera, signed distance along the view for a parallel one. Not positive: behind the viewer,
// never drawn.
struct Projected {
  float x = 0.0f;  // samples, to the right; the centre of sample i is i + 0.5
  float y = 0.0f;  // samples, downwards
  float near = 0.0f;
};

// Which triangle is seen at each sample.
struct Visibility {
  int width = 0, height = 0;           // samples
  int x0 = 0, y0 = 0, x1 = 0, y1 = 0;  // rectangle that is filled; it must hold every triangle
  std::vector<float> near;             // (height, width), 0 where nothing is
  std::vector<int32_t> face;  // (height, width), -1 where nothing is; empty when only `near` is wanted
};

// Draws all triangles, both sides, nearest wins and the lower number wins a tie: the result does not depend
// on the number of threads. `faces` is (face_count, 3).
void rasterize(const std::vector<Projected>& vertices, const int32_t* faces, int64_t face_count, bool alone,
               Visibility* out);

// How a part of the surface answers light.
struct Material {
  float roughness = 0.5f;   // GGX, 0.05 mirror-like to 1 matt
  float specular = 0.04f;   // reflectance at normal incidence
  float subsurface = 0.0f;  // 0 none, 1 skin: light wraps around and reddens where it fades
  float coat = 0.0f;        // weight of a clear wet layer that mirrors the lamps (eyes, teeth)
};

struct Light {
  Vec3 direction;  // unit, camera space, towards the light
  Vec3 color;      // linear radiance
};

struct Scene {
  int64_t vertex_count = 0, face_count = 0;
  const float* positions = nullptr;     // (V, 3) world
  const float* normals = nullptr;       // (V, 3) world, unit
  const float* colors = nullptr;        // (V, 3) linear RGB
  const int32_t* faces = nullptr;       // (F, 3)
  const uint8_t* materials = nullptr;   // (F,) index into `palette`
  const uint8_t* background = nullptr;  // (height, width, 3) sRGB
  std::vector<Material> palette;
  std::vector<Light> lights;  // the first one casts a shadow
  Vec3 sky, ground;           // ambient light from above and below, linear
  float rotation[9] = {};     // world to camera, row major
  Vec3 translation;           // camera = rotation * world + translation
  float focal = 1.0f;         // pixels
  float exposure = 1.0f;
  float occlusion_radius = 0.025f;  // metres
  bool alone = false;               // draw with this thread only
};

// Draws into `out`, (height, width, 3) sRGB, with `samples` x `samples` samples a pixel (1 to 4).
void draw(const Scene& scene, int width, int height, int samples, uint8_t* out);

}  // namespace facetalk::cpu
