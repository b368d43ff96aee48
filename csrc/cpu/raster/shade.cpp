#include "cpu/raster/shade.h"

#include <algorithm>
#include <cmath>

namespace facetalk::cpu {
namespace {

constexpr float kPi = 3.14159265f;

// One pass of a running box average along the rows, written transposed: two calls blur along both axes.
void box_blur(const std::vector<float>& in, int size, int radius, bool alone, std::vector<float>* out) {
  // Rows side by side: each one's sum waits for the one before, and what is written lies together.
  constexpr int kRows = 8;
  const float weight = 1.0f / static_cast<float>(2 * radius + 1);
  each(alone, 0, size / kRows, 2, [&](int block) {
    const float* rows = in.data() + static_cast<size_t>(block) * kRows * size;
    float* to = out->data() + block * kRows;
    double sum[kRows] = {};
    const auto at = [&](int row, int x) { return rows[static_cast<size_t>(row) * size + x]; };
    for (int i = -radius; i <= radius; ++i)
      for (int row = 0; row < kRows; ++row) sum[row] += at(row, std::clamp(i, 0, size - 1));
    for (int x = 0; x < size; ++x, to += size) {
      const int enters = std::min(x + radius + 1, size - 1), leaves = std::max(x - radius, 0);
      for (int row = 0; row < kRows; ++row) {
        to[row] = static_cast<float>(sum[row]) * weight;
        sum[row] += at(row, enters) - at(row, leaves);
      }
    }
  });
}

// GGX lobe times visibility over 4 (n.l)(n.v), in the form of Karis, "Real Shading in Unreal Engine 4", 2013.
Lanes specular_lobe(Lanes nl, Lanes nv, Lanes nh, Lanes roughness) {
  const Lanes a = roughness * roughness, a2 = a * a;
  const Lanes d = nh * nh * (a2 - 1.0f) + 1.0f;
  const Lanes k = (roughness + 1.0f) * (roughness + 1.0f) * 0.125f;
  return a2 * 0.25f / (kPi * d * d * (nl * (1.0f - k) + k) * (nv * (1.0f - k) + k));
}

Lanes fresnel(Lanes f0, Lanes cosine) {
  const Lanes m = 1.0f - unit(cosine), m2 = m * m;
  return f0 + (1.0f - f0) * m2 * m2 * m;
}

// Straight up to 0.6, then bends so that light of 4 just reaches white.
Lanes tone_curve(Lanes v) {
  constexpr float kKnee = 0.6f, kWhite = 4.0f, kWide = (kWhite - kKnee) / (1.0f - kKnee);
  const Lanes t = (v - kKnee) / splat(1.0f - kKnee);
  const Lanes bent = kKnee + (1.0f - kKnee) * t * (1.0f + t / splat(kWide * kWide)) / (1.0f + t);
  return v <= kKnee ? v : (bent < 1.0f ? bent : splat(1.0f));
}

struct WidePoint {
  Wide position, normal, flat, albedo;
  Lanes open, lit;
  Lanes roughness, specular, subsurface, coat;
};

Wide radiance(const WidePoint& p, const Scene& scene) {
  const Wide white = splat(Vec3{1.0f, 1.0f, 1.0f}), sky = splat(scene.sky), ground = splat(scene.ground);
  const Wide view = unit_vector(p.position * splat(-1.0f)), n = visible_side(p.normal, p.flat, p.position);
  const Lanes facing = dot(n, view), nv = most(facing, 1e-3f);
  // Light bounces within bright surfaces, so blocked places keep their colour (Jimenez et al., "Practical
  // Realtime Strategies for Accurate Indirect Occlusion", 2016, in its simplest form).
  const auto bounced = [&](Lanes albedo) { return p.open / (1.0f - 0.6f * albedo * (1.0f - p.open)); };
  const Wide open = {bounced(p.albedo.x), bounced(p.albedo.y), bounced(p.albedo.z)};
  // What blocks the light is flesh, so what still arrives is tinted by it.
  const Wide flesh = between(splat(Vec3{1.0f, 0.70f, 0.62f}), white, p.open);
  Wide diffuse = between(ground, sky, 0.5f + 0.5f * n.y) * open * flesh, gloss = splat(Vec3{});
  const Wide mirror = n * (2.0f * facing) - view;
  // Skin scatters red farthest: the wrap of each channel follows the mean free path.
  const Wide wrap = splat(Vec3{0.20f, 0.10f, 0.07f}) * p.subsurface;
  const Wide slope = {1.0f / (1.0f + wrap.x), 1.0f / (1.0f + wrap.y), 1.0f / (1.0f + wrap.z)};
  const auto skin = p.subsurface > 0.0f;
  for (size_t l = 0; l < scene.lights.size(); ++l) {
    const Light& light = scene.lights[l];
    const Wide direction = splat(light.direction), color = splat(light.color);
    const Lanes nl = dot(n, direction);
    const auto dark = nl <= -0.2f;  // beyond every wrap
    if (!any(~dark)) continue;
    // Only the first light has a shadow map; the others at least do not reach into closed places, and those
    // from behind not into a mouth, whose walls would stand in their way.
    Lanes arrives = l == 0 ? p.lit * between(p.open, splat(1.0f), splat(0.4f)) : p.open * p.open;
    if (l > 0 && light.direction.z < 0.0f) arrives *= step(0.45f, 0.9f, p.open);
    const Lanes softened = root(arrives);
    const auto wrapped = [&](Lanes w, Lanes s) {
      return unit((nl + w) * s) * between(arrives, softened, w) * (1.0f - 0.4f * w);
    };
    const Wide soft = {wrapped(wrap.x, slope.x), wrapped(wrap.y, slope.y), wrapped(wrap.z, slope.z)};
    diffuse = choose(dark, diffuse, diffuse + color * soft);
    const auto shines = nl > 0.0f;
    if (!any(shines)) continue;
    const Wide half = unit_vector(direction + view);
    const Lanes nh = unit(dot(n, half)), f = fresnel(p.specular, dot(view, half));
    const Lanes lobe = specular_lobe(nl, nv, nh, p.roughness);
    // Skin has a second, sharper lobe from its oily film.
    const Lanes film = 0.75f * lobe + 0.25f * specular_lobe(nl, nv, nh, p.roughness * 0.6f);
    gloss = choose(shines, gloss + color * (f * (skin ? film : lobe) * nl * arrives), gloss);
  }
  const auto wet = p.coat > 0.0f;
  if (any(wet)) {
    // A small soft box close to the camera, as portrait photographers use, so that eyes have a light in them:
    // the key is too high to be mirrored below the upper lid.
    const Wide lamp = splat(normalized({-0.27f, 0.36f, 0.90f}));
    const Lanes box = step(0.972f, 0.986f, dot(mirror, lamp));
    gloss = choose(wet, gloss + white * (box * p.coat * p.open * 1.1f), gloss);
  }
  const Wide around = between(ground, sky, 0.5f + 0.5f * mirror.y);
  gloss = gloss + around * (fresnel(p.specular, nv) * p.open * p.open * (1.0f - 0.7f * p.roughness));
  return diffuse * p.albedo + gloss;
}

}  // namespace

void ShadowMap::draw(const std::vector<Vec3>& points, const Scene& scene, Stop& stop) {
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
  projected_.assign(points.size(), Projected{});
  for (size_t i = 0; i < points.size(); ++i) {
    if (std::isnan(points[i].x)) continue;  // its `near` stays 0: not drawn
    projected_[i] = {(dot(points[i], u_) - u0_) * scale_, (dot(points[i], v_) - v0_) * scale_,
                     dot(points[i], w_) - w0_};
  }
  seen_.width = seen_.height = seen_.x1 = seen_.y1 = kSize;
  seen_.near.resize(static_cast<size_t>(kSize) * kSize);
  rasterize(projected_, scene.faces, scene.face_count, scene.alone, stop, &seen_);
  mean_.swap(seen_.near);
  square_.resize(mean_.size()), other_.resize(mean_.size());
  for (size_t i = 0; i < mean_.size(); ++i) square_[i] = mean_[i] * mean_[i];
  const int radius = static_cast<int>(std::lround(within(kBlur * scale_ * 0.5f, 1.0f, kMostBlur)));
  // Twice along each axis: a triangle filter.
  for (std::vector<float>* image : {&mean_, &square_}) {
    for (int pass = 0; pass < 2; ++pass) {
      box_blur(*image, kSize, radius, scene.alone, &other_);
      box_blur(other_, kSize, radius, scene.alone, image);
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

Wide visible_side(const Wide& normal, const Wide& flat, const Wide& position) {
  const Wide n = unit_vector(normal);
  // Seen from behind (an open neck, say), the surface has its other side's normal.
  const Wide side = choose(dot(flat, position) > 0.0f, n * splat(-1.0f), n);
  // Near outlines an interpolated normal can point away from the eye, which would light it from behind.
  const Wide view = unit_vector(position * splat(-1.0f));
  const Lanes away = dot(side, view);
  const Marks beyond = away < 0.02f;
  return any(beyond) ? choose(beyond, unit_vector(side + view * (0.02f - away)), side) : side;
}

void shade(const SurfacePoint* points, size_t count, const Scene& scene, Vec3* out) {
  for (size_t first = 0; first < count; first += kLanes) {
    const int known = static_cast<int>(std::min<size_t>(kLanes, count - first));
    WidePoint wide;
    for (int i = 0; i < kLanes; ++i) {
      const SurfacePoint& p = points[first + static_cast<size_t>(std::min(i, known - 1))];
      const Material& m = scene.palette[p.material];
      const auto put = [i](Wide& to, Vec3 v) { to.x[i] = v.x, to.y[i] = v.y, to.z[i] = v.z; };
      put(wide.position, p.position), put(wide.normal, p.normal), put(wide.flat, p.flat);
      put(wide.albedo, p.albedo);
      wide.open[i] = p.open, wide.lit[i] = p.lit;
      wide.roughness[i] = p.roughness, wide.specular[i] = m.specular;
      wide.subsurface[i] = m.subsurface, wide.coat[i] = m.coat;
    }
    const Wide light = radiance(wide, scene) * splat(scene.exposure);
    const Wide tone = {tone_curve(light.x), tone_curve(light.y), tone_curve(light.z)};
    for (int i = 0; i < known; ++i) out[first + static_cast<size_t>(i)] = {tone.x[i], tone.y[i], tone.z[i]};
  }
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

}  // namespace facetalk::cpu
