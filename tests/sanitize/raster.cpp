// The rasteriser's last guards, below those that keep such numbers from ever reaching them: an index made from a
// float stays inside its array, whatever the float is. Exits with 1 when a result is wrong; what is read outside
// is the sanitizers' to find.
#include "cpu/raster/raster.h"

#include <cmath>
#include <cstdio>
#include <limits>
#include <vector>

#include "cpu/raster/shade.h"

namespace {

using namespace facetalk::cpu;

int g_wrong = 0;

void expect(bool right, const char* what) {
  if (right) return;
  std::fprintf(stderr, "wrong: %s\n", what);
  ++g_wrong;
}

constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();
const float kNumbers[] = {0.0f,  -0.0f, 1e-30f, 0.5f, 1e5f,  -1e5f, 3e9f,
                          -3e9f, 3e38f, -3e38f, kInf, -kInf, kNan};

void check_within() {
  for (const float v : kNumbers) {
    const float found = within(v, 0.0f, 7.5f);
    expect(found >= 0.0f && found <= 7.5f, "within leaves its bounds");
  }
  expect(within(kNan, 2.0f, 3.0f) == 2.0f, "NaN goes through within");
}

// A triangle of `size` metres, and one vertex that is not drawn.
void check_shadow(float size) {
  const std::vector<Vec3> points = {
      {-size, -size, -2.0f}, {size, -size, -2.0f}, {0.0f, size, -2.0f}, {kNan, 0, 0}};
  const int32_t faces[] = {0, 1, 2};
  Scene scene;
  scene.vertex_count = 4, scene.face_count = 1, scene.faces = faces, scene.alone = true;
  scene.lights.resize(1);
  scene.lights[0].direction = {0.0f, 0.0f, 1.0f};
  Stop stop([] { return false; });
  ShadowMap map;
  map.draw(points, scene, stop);
  for (const float x : kNumbers) {
    for (const float y : kNumbers) {
      for (const float z : kNumbers) {
        const float lit = map.lit({x, y, z});
        expect(std::isnan(lit) || (lit >= 0.0f && lit <= 1.0f), "light is no share");
      }
    }
  }
}

void check_textures() {
  for (const int side : {1, 2, 3, 8}) {
    std::vector<uint8_t> texels(static_cast<size_t>(texels_of(side, 2)) * kTexelBytes, 255);
    const Texture whole{texels.data(), side, 2};
    for (const float covered : kNumbers) {
      const Texture half = half_for(whole, covered, 1.0f);
      expect(half.width > 0 && half.height > 0, "no half of a picture");
      for (const float u : kNumbers) {
        for (const float v : kNumbers) {
          const Sample s = sample(half, u, v);
          expect(s.red >= 0.0f && s.red < 1.01f && s.x >= -1.0f && s.x < 1.01f, "a sample is none");
        }
      }
    }
  }
}

void check_boxes() {
  for (const float x : kNumbers) {
    for (const float y : kNumbers) {
      const std::vector<Projected> corners = {{x, y, 1.0f}, {3.0f, 1.0f, 1.0f}, {2.0f, 9.0f, 1.0f}};
      const int32_t faces[] = {0, 1, 2};
      Visibility seen{16, 16, 0, 0, 16, 16, std::vector<float>(256), std::vector<int32_t>(256, -1)};
      Stop stop([] { return false; });
      rasterize(corners, faces, 1, true, stop, &seen);
      for (const int32_t face : seen.face) expect(face == -1 || face == 0, "a face that is none");
    }
  }
}

}  // namespace

int main() {
  check_within();
  for (const float size : {1e-9f, 0.1f, 1e6f, 1e9f}) check_shadow(size);
  check_textures();
  check_boxes();
  std::printf("raster: %d wrong\n", g_wrong);
  return g_wrong != 0;
}
