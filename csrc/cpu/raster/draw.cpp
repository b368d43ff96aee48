#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/raster/frame.h"

namespace facetalk::cpu {
namespace {

// Nearest surface that the scene may have, metres before the eye.
constexpr float kNearPlane = 0.01f;
constexpr int kMaxSamples = 16;
Vec3 rotate(const float* r, Vec3 v) {
  return {r[0] * v.x + r[1] * v.y + r[2] * v.z, r[3] * v.x + r[4] * v.y + r[5] * v.z,
          r[6] * v.x + r[7] * v.y + r[8] * v.z};
}

// False for NaN as well.
bool is_drawable(float x, float y, float z) {
  return std::fabs(x) <= kFarthest && std::fabs(y) <= kFarthest && std::fabs(z) <= kFarthest;
}

// Places all vertices, and finds the rectangle that they cover.
void project(Frame* f) {
  const Scene& s = f->scene;
  const int64_t n = s.vertex_count;
  f->positions.resize(n), f->normals.resize(n), f->projected.resize(n);
  const float scale = s.focal * f->samples, cx = 0.5f * f->width * f->samples,
              cy = 0.5f * f->height * f->samples;
  each(f->scene.alone, 0, n, 4096, [&](int i) {
    const float *p = s.positions + 3 * i, *q = s.normals + 3 * i;
    Vec3 c = rotate(s.rotation, {p[0], p[1], p[2]}) + s.translation;
    f->normals[i] = rotate(s.rotation, {q[0], q[1], q[2]});
    Projected at;
    if (is_drawable(c.x, c.y, c.z)) {
      const float near = c.z < -kNearPlane ? -1.0f / c.z : 0.0f;
      at = {cx + c.x * near * scale, cy - c.y * near * scale, near};
      if (!is_drawable(at.x, at.y, 0.0f)) at = {};
    } else {
      constexpr float kNone = std::numeric_limits<float>::quiet_NaN();
      c = {kNone, kNone, kNone};
    }
    f->positions[i] = c;
    f->projected[i] = at;
  });
  float left = 1e9f, top = 1e9f, right = -1e9f, bottom = -1e9f;
  for (const Projected& at : f->projected) {
    if (at.near <= 0.0f) continue;
    left = std::min(left, at.x), right = std::max(right, at.x);
    top = std::min(top, at.y), bottom = std::max(bottom, at.y);
  }
  const auto pixel = [&](float sample, int margin, int limit) {
    const float v = within(sample / f->samples, -8.0f, static_cast<float>(limit) + 8.0f);
    return std::clamp(static_cast<int>(std::floor(v)) + margin, 0, limit);
  };
  f->x0 = pixel(left, -1, f->width), f->x1 = std::max(f->x0, pixel(right, 2, f->width));
  // The pattern of the occlusion starts here; multiples of its size keep it still while the head moves.
  f->x0 -= f->x0 % 4;
  f->y0 = pixel(top, -1, f->height), f->y1 = std::max(f->y0, pixel(bottom, 2, f->height));
  f->y0 -= f->y0 % 4;
}

// Whether all samples of a pixel are of one surface, as inside a face they mostly are.
bool is_one_surface(const Frame& f, int px, int py, Fragment* out) {
  const int s = f.samples;
  const size_t at = static_cast<size_t>(py) * s * f.seen.width + static_cast<size_t>(px) * s;
  const int32_t first = f.seen.face[at];
  if (first < 0) return false;
  const float near = f.seen.near[at], depth = 1.0f / near;
  for (int j = 0; j < s; ++j) {
    for (int i = 0; i < s; ++i) {
      const size_t here = at + static_cast<size_t>(j) * f.seen.width + i;
      const int32_t face = f.seen.face[here];
      if (face < 0 || (face != first && f.scene.materials[face] != f.scene.materials[first])) return false;
      // Depths that are surely close are not divided for.
      const float other = f.seen.near[here], apart = std::fabs(other - near);
      if (apart > 0.99f * kSameSurface * near * other && std::fabs(depth - 1.0f / other) > kSameSurface)
        return false;
    }
  }
  // As below: the sample half-way names the triangle, and the mean place is the middle.
  const int half = (s * s + 1) / 2 - 1;
  const size_t named = at + static_cast<size_t>(half / s) * f.seen.width + half % s;
  *out = {f.seen.face[named], (px + 0.5f) * s, (py + 0.5f) * s, depth, 1.0f};
  return true;
}

// Groups the samples of a pixel into surfaces. Returns how many there are.
int surfaces(const Frame& f, int px, int py, Fragment* out) {
  if (is_one_surface(f, px, py, out)) return 1;
  const int s = f.samples;
  int count = 0, sizes[kMaxSamples];
  for (int j = 0; j < s; ++j) {
    for (int i = 0; i < s; ++i) {
      const int x = px * s + i, y = py * s + j;
      const size_t at = static_cast<size_t>(y) * f.seen.width + x;
      const int32_t face = f.seen.face[at];
      if (face < 0) continue;
      const float depth = 1.0f / f.seen.near[at];
      int k = 0;
      while (k < count && (f.scene.materials[out[k].face] != f.scene.materials[face] ||
                           std::fabs(out[k].depth - depth) > kSameSurface)) {
        ++k;
      }
      if (k == count) out[k] = {face, 0.0f, 0.0f, depth, 0.0f}, sizes[k] = 0, ++count;
      out[k].x += x + 0.5f, out[k].y += y + 0.5f;
      // The sample half-way through the group names its triangle: likely the one under the mean place.
      if (++sizes[k] == (s * s + 1) / 2) out[k].face = face;
    }
  }
  for (int k = 0; k < count; ++k) {
    const float n = static_cast<float>(sizes[k]);
    out[k].x /= n, out[k].y /= n, out[k].share = n / static_cast<float>(s * s);
  }
  return count;
}

// Notes the nearest surface of every pixel.
void resolve(Frame* f) {
  f->first.resize(static_cast<size_t>(f->width) * f->height), f->depths.resize(f->first.size());
  each(f->scene.alone, f->y0, f->y1, 8, [&](int y) {
    for (int x = f->x0; x < f->x1; ++x) {
      Fragment fragments[kMaxSamples];
      const int count = surfaces(*f, x, y, fragments);
      Fragment* first = &f->first[static_cast<size_t>(y) * f->width + x];
      *first = count > 0 ? fragments[0] : Fragment{};
      for (int k = 1; k < count; ++k)
        if (fragments[k].depth < first->depth) *first = fragments[k];
      f->depths[static_cast<size_t>(y) * f->width + x] = first->depth;
    }
  });
}

// What all places of a face have in common when its texture is asked; that of a face is kept for its neighbours.
struct FaceTexture {
  int32_t face = -1;
  Texture half;                // none where the face's material has none
  float u, v, bu, bv, cu, cv;  // place of the first corner, and of the others from there, in texels of `half`
  Vec3 right, up;              // along u, and against v, which counts downwards: the normal's own axes
  bool directed;               // whether these are known
};

void ask_texture(const Frame& f, int32_t number, FaceTexture* out) {
  out->face = number;
  const Texture& whole = f.scene.textures[f.scene.materials[number]];
  if (whole.width == 0) {
    out->half = {};
    return;
  }
  const int32_t* face = f.scene.faces + 3 * static_cast<int64_t>(number);
  const auto uv = [&](int i) { return f.scene.uv + 2 * static_cast<int64_t>(face[i]); };
  const float bu = uv(1)[0] - uv(0)[0], bv = uv(1)[1] - uv(0)[1], cu = uv(2)[0] - uv(0)[0],
              cv = uv(2)[1] - uv(0)[1];
  const Projected &a = f.projected[face[0]], &b = f.projected[face[1]], &c = f.projected[face[2]];
  const float screen = std::fabs((b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x));
  out->half = half_for(whole, std::fabs(bu * cv - bv * cu) * static_cast<float>(whole.width) * whole.height,
                       std::max(screen, 1e-6f) / static_cast<float>(f.samples * f.samples));
  const float wide = static_cast<float>(out->half.width), high = static_cast<float>(out->half.height);
  out->u = uv(0)[0] * wide, out->v = uv(0)[1] * high;
  out->bu = bu * wide, out->bv = bv * high, out->cu = cu * wide, out->cv = cv * high;
  out->directed = false;
}

void direct(const Frame& f, FaceTexture* out) {
  const int32_t* face = f.scene.faces + 3 * static_cast<int64_t>(out->face);
  const Vec3 e1 = f.positions[face[1]] - f.positions[face[0]],
             e2 = f.positions[face[2]] - f.positions[face[0]];
  // A texture may be narrow, and texels then are no squares; the directions are the same.
  const float area = out->bu * out->cv - out->bv * out->cu;
  const float sign = area > 0.0f ? 1.0f : (area < 0.0f ? -1.0f : 0.0f);
  const auto along = [sign](Vec3 v) {
    const float n = dot(v, v);
    return n > 0.0f ? v * (sign / std::sqrt(n)) : Vec3{};
  };
  out->right = along(e1 * out->cv - e2 * out->bv), out->up = along(e1 * out->cu - e2 * out->bu);
  out->directed = true;
}

// Adds the surface that a fragment shows to the points of its row.
void add_point(const Frame& f, const ShadowMap* shadow, FaceTexture& known, const Fragment& fragment,
               float open, std::vector<SurfacePoint>* out) {
  const Scene& s = f.scene;
  const int32_t* face = s.faces + 3 * static_cast<int64_t>(fragment.face);
  const Vec3 w = corner_weights(f, face, fragment.x, fragment.y);
  const Vec3 position = blend(f.positions.data(), face, w);
  const uint8_t material = s.materials[fragment.face];
  Vec3 normal = blend(f.normals.data(), face, w), albedo = {1.0f, 1.0f, 1.0f};
  float roughness = s.palette[material].roughness;
  if (!s.white) {
    const float *a = s.colors + 3 * static_cast<int64_t>(face[0]),
                *b = s.colors + 3 * static_cast<int64_t>(face[1]),
                *c = s.colors + 3 * static_cast<int64_t>(face[2]);
    albedo = Vec3{a[0], a[1], a[2]} * w.x + Vec3{b[0], b[1], b[2]} * w.y + Vec3{c[0], c[1], c[2]} * w.z;
  }
  if (s.uv != nullptr) {
    if (known.face != fragment.face) ask_texture(f, fragment.face, &known);
    if (known.half.width > 0) {
      const Sample at = sample(known.half, known.u + known.bu * w.y + known.cu * w.z,
                               known.v + known.bv * w.y + known.cv * w.z);
      albedo = {albedo.x * at.red * at.red, albedo.y * at.green * at.green, albedo.z * at.blue * at.blue};
      roughness = within(roughness * at.roughness, 0.05f, 1.0f);
      const float slope = at.x * at.x + at.y * at.y;
      constexpr float kFlat = 4e-4f;  // one degree
      if (slope >= kFlat) {
        if (!known.directed) direct(f, &known);
        normal = normal * std::sqrt(std::max(0.05f, 1.0f - slope)) + known.right * at.x + known.up * at.y;
      }
    }
  }
  const float lit = shadow != nullptr ? shadow->lit(position) : 1.0f;
  out->push_back({position, normal, flat_normal(f, face), albedo, open, lit, roughness, material});
}

// The surfaces of a row of pixels, from the left, and what they add to their pixels.
struct Row {
  struct Part {
    int x;
    float share;
  };
  std::vector<SurfacePoint> points;
  std::vector<Part> parts;
  std::vector<Vec3> colors;
};

void draw_row(const Frame& f, const ShadowMap* shadow, const Encoder& encoder, int y, Row& row,
              uint8_t* out) {
  row.points.clear(), row.parts.clear();
  FaceTexture known;
  const size_t start = static_cast<size_t>(y) * f.width;
  const uint8_t* behind = f.scene.background + 3 * start;
  uint8_t* pixels = out + 3 * start;
  std::copy_n(behind, 3 * static_cast<size_t>(f.width), pixels);
  if (y < f.y0 || y >= f.y1) return;
  for (int x = f.x0; x < f.x1; ++x) {
    const Fragment& first = f.first[start + x];
    if (first.face < 0) continue;
    const float open = f.open[start + x];
    if (first.share > 0.999f) {
      add_point(f, shadow, known, first, open, &row.points);
      row.parts.push_back({x, 1.0f});
      continue;
    }
    Fragment fragments[kMaxSamples];
    const int count = surfaces(f, x, y, fragments);
    for (int k = 0; k < count; ++k) {
      add_point(f, shadow, known, fragments[k], open, &row.points);
      row.parts.push_back({x, fragments[k].share});
    }
  }
  row.colors.resize(row.points.size());
  shade(row.points.data(), row.points.size(), f.scene, row.colors.data());
  for (size_t i = 0; i < row.parts.size();) {
    const int x = row.parts[i].x;
    Vec3 sum;
    float covered = 0.0f;
    for (; i < row.parts.size() && row.parts[i].x == x; ++i) {
      sum = sum + row.colors[i] * row.parts[i].share;
      covered += row.parts[i].share;
    }
    const float rest = std::max(0.0f, 1.0f - covered);
    uint8_t* pixel = pixels + 3 * x;
    pixel[0] = encoder.encode(sum.x + encoder.decode(pixel[0]) * rest);
    pixel[1] = encoder.encode(sum.y + encoder.decode(pixel[1]) * rest);
    pixel[2] = encoder.encode(sum.z + encoder.decode(pixel[2]) * rest);
  }
}

}  // namespace

bool draw(const Scene& scene, int width, int height, int samples, Stop& stop, uint8_t* out) {
  static const Encoder encoder;
  static thread_local Frame memory;
  Frame& f = memory;  // the name itself would mean another object in each thread of the loops below
  f.scene = scene, f.width = width, f.height = height, f.samples = samples;
  project(&f);
  const size_t total = static_cast<size_t>(width) * height * samples * samples;
  f.seen.width = width * samples, f.seen.height = height * samples;
  f.seen.x0 = f.x0 * samples, f.seen.x1 = f.x1 * samples, f.seen.y0 = f.y0 * samples,
  f.seen.y1 = f.y1 * samples;
  f.seen.near.resize(total), f.seen.face.resize(total);
  rasterize(f.projected, scene.faces, scene.face_count, scene.alone, stop, &f.seen);
  if (stop.now()) return false;
  resolve(&f);
  find_open(&f);
  const ShadowMap* shadow = nullptr;
  if (!scene.lights.empty() && scene.vertex_count > 0) {
    f.shadow.draw(f.positions, scene, stop);
    shadow = &f.shadow;
  }
  if (stop.now()) return false;
  each(scene.alone, 0, height, 8, [&](int y) {
    if (stop.now()) return;
    static thread_local Row row;
    draw_row(f, shadow, encoder, y, row, out);
  });
  return !stop.now();
}

}  // namespace facetalk::cpu
