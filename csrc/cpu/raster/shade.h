// The look: how a point of a face answers the lamps, and how light becomes a byte of a picture.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/raster/lanes.h"
#include "cpu/raster/raster.h"

namespace facetalk::cpu {

// Which points the first light reaches, with soft borders: a variance shadow map (Donnelly and Lauritzen,
// "Variance Shadow Maps", I3D 2006), blurred over a few millimetres. Its memory is kept from picture to picture.
class ShadowMap {
 public:
  // `points` are the scene's vertices in camera space, NaN those that are not drawn; the scene has at least
  // one light.
  void draw(const std::vector<Vec3>& points, const Scene& scene, Stop& stop);
  // Share of the light that reaches a camera-space point, 0 to 1.
  float lit(Vec3 point) const;

 private:
  static constexpr int kSize = 512;
  // A scene smaller than the blur (7 mm) is blurred over this much of the map at most: without it the cost
  // would grow as the scene shrinks.
  static constexpr int kMostBlur = kSize / 4;
  Vec3 u_, v_, w_;      // axes of the map; w_ towards the light
  float scale_ = 1.0f;  // texels per metre
  float u0_ = 0.0f, v0_ = 0.0f, w0_ = 0.0f;
  std::vector<Projected> projected_;
  Visibility seen_;
  std::vector<float> other_;          // of a pass of the blur
  std::vector<float> mean_, square_;  // (kSize, kSize) distance towards the light, metres, and its square
};

struct SurfacePoint {
  Vec3 position;  // camera space
  Vec3 normal;    // between those of the face's corners, of any length, on either side
  Vec3 flat;      // of the face, of any length: the side that is its front
  Vec3 albedo;    // linear
  float open;     // share of the surroundings that is not blocked, 0 to 1
  float lit;      // share of the first light that arrives
  float roughness;
  uint8_t material;
};

// Unit normals on the viewer's side of what is seen at `position`, camera space.
Wide visible_side(const Wide& normal, const Wide& flat, const Wide& position);

// Light towards the viewer, exposed and bent by the tone curve: compressed before samples are averaged, since one
// bright sample must not whiten an outline. Several points at a time, each as if it were alone.
void shade(const SurfacePoint* points, size_t count, const Scene& scene, Vec3* out);

// Linear light to a byte and back.
class Encoder {
 public:
  Encoder();
  uint8_t encode(float linear) const { return encode_[static_cast<size_t>(clamp01(linear) * kSteps + 0.5f)]; }
  float decode(uint8_t value) const { return decode_[value]; }

 private:
  static constexpr int kSteps = 8192;
  std::vector<uint8_t> encode_;
  float decode_[256];
};

}  // namespace facetalk::cpu
