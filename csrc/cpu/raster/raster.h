// Triangles to pictures without a GPU or a window system: visibility first, then one shading per visible
// surface.
//
// Camera space has +x right, +y up and looks along -z; all lengths are metres.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "cpu/parallel.h"
#include "cpu/raster/texture.h"
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

// Lets a drawing end early: what overlaps itself a million times can take hours, and somebody may want out.
class Stop {
 public:
  // `ask` is called a few times a second, by the thread that made this object only.
  explicit Stop(std::function<bool()> ask) : ask_(std::move(ask)) {}

  // Whether to give up. Cheap enough for every few hundred triangles.
  bool now() {
    if (stopped_.load(std::memory_order_relaxed)) return true;
    if (std::this_thread::get_id() != caller_) return false;
    const auto time = std::chrono::steady_clock::now();
    if (time < next_) return false;
    next_ = time + std::chrono::milliseconds(50);
    if (ask_()) stopped_.store(true, std::memory_order_relaxed);
    return stopped_.load(std::memory_order_relaxed);
  }

 private:
  std::function<bool()> ask_;
  const std::thread::id caller_ = std::this_thread::get_id();
  std::chrono::steady_clock::time_point next_ =
      std::chrono::steady_clock::now() + std::chrono::milliseconds(50);
  std::atomic<bool> stopped_{false};
};

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

// Most vertices and faces of a scene: three times as many still count in 32 bits.
constexpr int64_t kMostElements = int64_t{1} << 29;

// Coordinates beyond this, in camera space (metres) or on the screen (samples), are not drawn, nor are the
// faces that use them: products of two still fit a float, and no picture shows anything so far away.
constexpr float kFarthest = 1e9f;

// Draws all triangles, both sides, nearest wins and the lower number wins a tie: the result does not depend
// on the number of threads. `faces` is (face_count, 3); every vertex lies within kFarthest or has `near` 0.
// Memory beside `out` is bounded, however many triangles cover a tile.
void rasterize(const std::vector<Projected>& vertices, const int32_t* faces, int64_t face_count, bool alone,
               Stop& stop, Visibility* out);

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
  bool white = false;                   // whether all colours are 1, as textured surfaces mostly have them
  const float* uv = nullptr;            // (V, 2) places on the texture of the face's material, or null
  const int32_t* faces = nullptr;       // (F, 3)
  const uint8_t* materials = nullptr;   // (F,) index into `palette`
  const uint8_t* background = nullptr;  // (height, width, 3) sRGB
  std::vector<Material> palette;
  std::vector<Texture> textures;  // one for each material where there is `uv`; colours are multiplied by them
  std::vector<Light> lights;      // the first one casts a shadow
  Vec3 sky, ground;               // ambient light from above and below, linear
  float rotation[9] = {};         // world to camera, row major
  Vec3 translation;               // camera = rotation * world + translation
  float focal = 1.0f;             // pixels
  float exposure = 1.0f;
  float occlusion_radius = 0.025f;  // metres
  bool alone = false;               // draw with this thread only
};

// Draws into `out`, (height, width, 3) sRGB, with `samples` x `samples` samples a pixel (1 to 4). Takes any
// finite numbers in the scene. False when it was stopped, and then `out` means nothing.
bool draw(const Scene& scene, int width, int height, int samples, Stop& stop, uint8_t* out);

}  // namespace facetalk::cpu
