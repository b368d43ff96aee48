#include "cpu/raster/shade.h"

#include <algorithm>
#include <cmath>

namespace facetalk::cpu {
namespace {

constexpr float kPi = 3.14159265f;

// One pass of a running box average along the rows, written transposed: two calls blur along both axes.
void box_blur(const std::vector<float>& in, int size, int radius, bool alone, std::vector<float>* out) {
  const float weight = 1.0f / static_cast<float>(2 * radius + 1);
  each(alone, 0, size, 16, [&](int y) {
    const float* row = in.data() + static_cast<size_t>(y) * size;
    double sum = 0.0;
    for (int i = -radius; i <= radius; ++i) sum += row[std::clamp(i, 0, size - 1)];
    for (int x = 0; x < size; ++x) {
      (*out)[static_cast<size_t>(x) * size + y] = static_cast<float>(sum) * weight;
      sum += row[std::min(x + radius + 1, size - 1)] - row[std::max(x - radius, 0)];
    }
  });
}

// GGX lobe times visibility over 4 (n.l)(n.v), in the form of Karis, "Real Shading in Unreal Engine 4", 2013.
float specular_lobe(float nl, float nv, float nh, float roughness) {
  const float a = roughness * roughness, a2 = a * a;
  const float d = nh * nh * (a2 - 1.0f) + 1.0f;
  const float k = (roughness + 1.0f) * (roughness + 1.0f) * 0.125f;
  return a2 * 0.25f / (kPi * d * d * (nl * (1.0f - k) + k) * (nv * (1.0f - k) + k));
}

float fresnel(float f0, float cosine) {
  const float m = 1.0f - clamp01(cosine), m2 = m * m;
  return f0 + (1.0f - f0) * m2 * m2 * m;
}

}  // namespace

ShadowMap::ShadowMap(const std::vector<Vec3>& points, const Scene& scene, Stop& stop) {
  constexpr float kBlur = 0.0035f;  // metres
  w_ = scene.lights[0].direction;
  u_ = normalized(cross(std::fabs(w_.y) < 0.9f ? Vec3{0, 1, 0} : Vec3{1, 0, 0}, w_));
  v_ = cross(w_, u_);
  float low[3] = {kFarthest, kFarthest, kFarthest}, high[3] = {-kFarthest, -kFarthest, -kFarthest};
  for (const Vec3& p : points) {
    if (std::isnan(p.x)) continue;
    const float c[3] = {dot(p, u_), dot(p, v_), dot(p, w_)};
    for (int a = 0; a < 3; ++a) low[a] = std::min(low[a], c[a]), high[a] = std::max(high[a], c[a]);
  }
  const float size = std::max({high[0] - low[0], high[1] - low[1], 1e-6f}) * 1.08f;
  scale_ = kSize / size;
  u0_ = 0.5f * (low[0] + high[0] - size);
  v0_ = 0.5f * (low[1] + high[1] - size);
  w0_ = low[2] - 0.05f * size;  // keeps every distance positive, as the rasteriser wants
  std::vector<Projected> projected(points.size());
  for (size_t i = 0; i < points.size(); ++i) {
    if (std::isnan(points[i].x)) continue;  // its `near` stays 0: not drawn
    projected[i] = {(dot(points[i], u_) - u0_) * scale_, (dot(points[i], v_) - v0_) * scale_,
                    dot(points[i], w_) - w0_};
  }
  Visibility seen{kSize, kSize, 0, 0, kSize, kSize, std::vector<float>(static_cast<size_t>(kSize) * kSize),
                  {}};
  rasterize(projected, scene.faces, scene.face_count, scene.alone, stop, &seen);
  mean_ = std::move(seen.near);
  square_.resize(mean_.size());
  for (size_t i = 0; i < mean_.size(); ++i) square_[i] = mean_[i] * mean_[i];
  const int radius = static_cast<int>(std::lround(within(kBlur * scale_ * 0.5f, 1.0f, kMostBlur)));
  // Twice along each axis: a triangle filter.
  std::vector<float> other(mean_.size());
  for (std::vector<float>* image : {&mean_, &square_}) {
    for (int pass = 0; pass < 2; ++pass) {
      box_blur(*image, kSize, radius, scene.alone, &other);
      box_blur(other, kSize, radius, scene.alone, image);
    }
  }
}

float ShadowMap::lit(Vec3 point) const {
  constexpr float kBias = 0.0012f, kSpread = 0.0012f;  // metres
  const float x = within((dot(point, u_) - u0_) * scale_ - 0.5f, 0.0f, kSize - 1.001f);
  const float y = within((dot(point, v_) - v0_) * scale_ - 0.5f, 0.0f, kSize - 1.001f);
  const int ix = static_cast<int>(x), iy = static_cast<int>(y);
  const float fx = x - ix, fy = y - iy;
  const size_t i = static_cast<size_t>(iy) * kSize + ix;
  const auto at = [&](const std::vector<float>& m) {
    return mix(mix(m[i], m[i + 1], fx), mix(m[i + kSize], m[i + kSize + 1], fx), fy);
  };
  const float mean = at(mean_), here = dot(point, w_) - w0_ + kBias;
  if (here >= mean) return 1.0f;
  const float variance = std::max(at(square_) - mean * mean, kSpread * kSpread), d = mean - here;
  // The lowest part of Chebyshev's bound is cut off: it is where light leaks through.
  return smoothstep(0.15f, 1.0f, variance / (variance + d * d));
}

Vec3 shade(const SurfacePoint& p, const Material& m, const Scene& scene) {
  const Vec3 view = normalized(p.position * -1.0f), n = p.normal;
  const float nv = std::max(dot(n, view), 1e-3f);
  // Light bounces within bright surfaces, so blocked places keep their colour (Jimenez et al., "Practical
  // Realtime Strategies for Accurate Indirect Occlusion", 2016, in its simplest form).
  const auto bounced = [&](float albedo) { return p.open / (1.0f - 0.6f * albedo * (1.0f - p.open)); };
  const Vec3 open = {bounced(p.albedo.x), bounced(p.albedo.y), bounced(p.albedo.z)};
  // What blocks the light is flesh, so what still arrives is tinted by it.
  const Vec3 flesh = mix(Vec3{1.0f, 0.70f, 0.62f}, Vec3{1.0f, 1.0f, 1.0f}, p.open);
  Vec3 diffuse = mix(scene.ground, scene.sky, 0.5f + 0.5f * n.y) * open * flesh, gloss;
  const Vec3 mirror = n * (2.0f * dot(n, view)) - view;
  // Skin scatters red farthest: the wrap of each channel follows the mean free path.
  const Vec3 wrap = Vec3{0.20f, 0.10f, 0.07f} * m.subsurface;
  const Vec3 slope = {1.0f / (1.0f + wrap.x), 1.0f / (1.0f + wrap.y), 1.0f / (1.0f + wrap.z)};
  for (size_t l = 0; l < scene.lights.size(); ++l) {
    const Light& light = scene.lights[l];
    const float nl = dot(n, light.direction);
    if (nl <= -0.2f) continue;  // beyond every wrap
    // Only the first light has a shadow map; the others at least do not reach into closed places, and those
    // from behind not into a mouth, whose walls would stand in their way.
    float arrives = l == 0 ? p.lit * mix(p.open, 1.0f, 0.4f) : p.open * p.open;
    if (l > 0 && light.direction.z < 0.0f) arrives *= smoothstep(0.45f, 0.9f, p.open);
    const float softened = std::sqrt(arrives);
    const auto wrapped = [&](float w, float s) {
      return clamp01((nl + w) * s) * mix(arrives, softened, w) * (1.0f - 0.4f * w);
    };
    diffuse = diffuse + light.color * Vec3{wrapped(wrap.x, slope.x), wrapped(wrap.y, slope.y),
                                           wrapped(wrap.z, slope.z)};
    if (nl > 0.0f) {
      const Vec3 half = normalized(light.direction + view);
      const float nh = clamp01(dot(n, half)), f = fresnel(m.specular, dot(view, half));
      float lobe = specular_lobe(nl, nv, nh, m.roughness);
      // Skin has a second, sharper lobe from its oily film.
      if (m.subsurface > 0.0f) lobe = 0.75f * lobe + 0.25f * specular_lobe(nl, nv, nh, m.roughness * 0.6f);
      gloss = gloss + light.color * (f * lobe * nl * arrives);
    }
  }
  if (m.coat > 0.0f) {
    // A small soft box close to the camera, as portrait photographers use, so that eyes have a light in them:
    // the key is too high to be mirrored below the upper lid.
    const Vec3 lamp = normalized({-0.27f, 0.36f, 0.90f});
    const float box = smoothstep(0.972f, 0.986f, dot(mirror, lamp));
    gloss = gloss + Vec3{1.0f, 1.0f, 1.0f} * (box * m.coat * p.open * 1.1f);
  }
  const Vec3 around = mix(scene.ground, scene.sky, 0.5f + 0.5f * mirror.y);
  gloss = gloss + around * (fresnel(m.specular, nv) * p.open * p.open * (1.0f - 0.7f * m.roughness));
  return diffuse * p.albedo + gloss;
}

// Straight up to 0.6, then bends so that light of 4 just reaches white.
float tone_curve(float v) {
  constexpr float kKnee = 0.6f, kWhite = 4.0f;
  if (v <= kKnee) return v;
  const float t = (v - kKnee) / (1.0f - kKnee), w = (kWhite - kKnee) / (1.0f - kKnee);
  return std::min(1.0f, kKnee + (1.0f - kKnee) * t * (1.0f + t / (w * w)) / (1.0f + t));
}

Encoder::Encoder() : encode_(kSteps + 1) {
  // IEC 61966-2-1.
  for (int i = 0; i <= kSteps; ++i) {
    const double v = static_cast<double>(i) / kSteps;
    const double s = v <= 0.0031308 ? 12.92 * v : 1.055 * std::pow(v, 1.0 / 2.4) - 0.055;
    encode_[i] = static_cast<uint8_t>(std::lround(255.0 * std::min(1.0, s)));
  }
  for (int i = 0; i < 256; ++i) {
    const double s = i / 255.0;
    decode_[i] = static_cast<float>(s <= 0.04045 ? s / 12.92 : std::pow((s + 0.055) / 1.055, 2.4));
  }
}

uint8_t Encoder::encode(float linear) const {
  return encode_[static_cast<int>(clamp01(linear) * kSteps + 0.5f)];
}

}  // namespace facetalk::cpu
