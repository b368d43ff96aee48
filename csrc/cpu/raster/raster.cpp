#include "cpu/raster/raster.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/raster/lanes.h"

namespace facetalk::cpu {
namespace {

// A tile's depths and numbers (32 KiB) stay in the first-level cache while its triangles are drawn.
constexpr int kTile = 64;
constexpr Lanes kFirst = {0.0f, 1.0f, 2.0f, 3.0f};
constexpr int kTileSize = kTile * kTile + kLanes;  // the last row's lanes may reach beyond it
// Entries of the tiles' lists at a time (64 MiB): enough for all triangles of a head at once, and a bound where
// a million triangles each cover a large picture.
constexpr int64_t kMostEntries = int64_t{1} << 24;
// Triangles of a tile between two looks at whether to stop.
constexpr int64_t kStride = 256;
// Edges are widened by this many samples, so that rounding never opens a crack between neighbours.
constexpr float kSlack = 1.0f / 1024.0f;

struct Box {
  int x0, y0, x1, y1;  // half open, samples
};

// Samples whose centre may lie in the triangle; empty for a triangle that cannot be seen.
Box bounds_of(const Projected& a, const Projected& b, const Projected& c, int width, int height) {
  if (!(a.near > 0.0f && b.near > 0.0f && c.near > 0.0f)) return {0, 0, 0, 0};
  // Clamped before the conversion: far outside, a float does not fit an int. Without std::ceil, which is a call
  // on processors that need not have an instruction for it.
  const auto sample = [](float v, int limit) {
    const float place = within(v - 0.5f, -1.0f, static_cast<float>(limit));
    const int below = static_cast<int>(place);
    return below + (static_cast<float>(below) < place ? 1 : 0);
  };
  return {std::max(0, sample(std::min({a.x, b.x, c.x}) - kSlack, width)),
          std::max(0, sample(std::min({a.y, b.y, c.y}) - kSlack, height)),
          std::max(0, sample(std::max({a.x, b.x, c.x}) + kSlack + 1e-6f, width)),
          std::max(0, sample(std::max({a.y, b.y, c.y}) + kSlack + 1e-6f, height))};
}

// The tiles that each triangle may touch.
void tiles_of(const std::vector<Projected>& v, const int32_t* faces, int64_t count, int width, int height,
              bool alone, std::vector<Box>& boxes) {
  boxes.resize(static_cast<size_t>(count));
  each(alone, 0, count, 4096, [&](int f) {
    const Box b = bounds_of(v[faces[3 * f]], v[faces[3 * f + 1]], v[faces[3 * f + 2]], width, height);
    const bool empty = b.x0 >= b.x1 || b.y0 >= b.y1;
    boxes[f] = empty ? Box{0, 0, 0, 0}
                     : Box{b.x0 / kTile, b.y0 / kTile, (b.x1 - 1) / kTile + 1, (b.y1 - 1) / kTile + 1};
  });
}

// Some triangles of every tile, in rising order.
struct Bins {
  std::vector<int64_t> start;  // (tiles + 1,)
  std::vector<int32_t> face;
};

// Sorts triangles from `*next` on, as many as kMostEntries allow (at least one), and moves `*next` behind them.
void sort_into_tiles(const std::vector<Box>& boxes, int columns, int rows, size_t* next, Bins& bins) {
  bins.start.assign(static_cast<size_t>(columns) * rows + 1, 0);
  const size_t first = *next;
  size_t last = first;
  for (int64_t entries = 0; last < boxes.size(); ++last) {
    const Box& b = boxes[last];
    entries += static_cast<int64_t>(b.x1 - b.x0) * (b.y1 - b.y0);
    if (entries > kMostEntries && last > first) break;
    for (int y = b.y0; y < b.y1; ++y)
      for (int x = b.x0; x < b.x1; ++x) ++bins.start[static_cast<size_t>(y) * columns + x + 1];
  }
  for (size_t i = 1; i < bins.start.size(); ++i) bins.start[i] += bins.start[i - 1];
  bins.face.resize(static_cast<size_t>(bins.start.back()));
  std::vector<int64_t> place(bins.start.begin(), bins.start.end() - 1);
  for (size_t f = first; f < last; ++f) {
    const Box& b = boxes[f];
    for (int y = b.y0; y < b.y1; ++y)
      for (int x = b.x0; x < b.x1; ++x)
        bins.face[place[static_cast<size_t>(y) * columns + x]++] = static_cast<int32_t>(f);
  }
  *next = last;
}

// A function that is linear over the screen: value at the first sample of the box, change per sample.
struct Plane {
  float origin, dx, dy;
};

void draw_triangle(const Projected& a, Projected b, Projected c, int32_t number, Box tile, float* near,
                   int32_t* face) {
  float area = (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x);
  if (area == 0.0f) return;
  if (area < 0.0f) {
    std::swap(b, c);
    area = -area;
  }
  const Box all = bounds_of(a, b, c, 1 << 30, 1 << 30);
  const Box box{std::max(all.x0, tile.x0), std::max(all.y0, tile.y0), std::min(all.x1, tile.x1),
                std::min(all.y1, tile.y1)};
  const float x0 = box.x0 + 0.5f, y0 = box.y0 + 0.5f;
  const auto edge = [&](const Projected& p, const Projected& q) {
    const float dx = q.x - p.x, dy = q.y - p.y;
    return Plane{dx * (y0 - p.y) - dy * (x0 - p.x) + kSlack * (std::fabs(dx) + std::fabs(dy)), -dy, dx};
  };
  const Plane e0 = edge(a, b), e1 = edge(b, c), e2 = edge(c, a);
  const float inverse = 1.0f / area;
  const float ub = b.near - a.near, uc = c.near - a.near;
  Plane d;
  d.dx = (ub * (c.y - a.y) - uc * (b.y - a.y)) * inverse;
  d.dy = (uc * (b.x - a.x) - ub * (c.x - a.x)) * inverse;
  d.origin = a.near + d.dx * (x0 - a.x) + d.dy * (y0 - a.y);
  // The slack must not reach beyond the triangle's own depths: slivers have steep planes.
  const float low = std::min({a.near, b.near, c.near}), high = std::max({a.near, b.near, c.near});
  const auto wide = static_cast<float>(box.x1 - box.x0);
  for (int y = box.y0; y < box.y1; ++y) {
    const float fy = static_cast<float>(y - box.y0);
    const float r0 = e0.origin + e0.dy * fy, r1 = e1.origin + e1.dy * fy, r2 = e2.origin + e2.dy * fy;
    const float rd = d.origin + d.dy * fy;
    const int64_t row = static_cast<int64_t>(y - tile.y0) * kTile + (box.x0 - tile.x0);
    float* depths = near + row;
    int32_t* numbers = face + row;
    // Lanes beyond the box keep what they hold, be it of the next row.
    for (Lanes fx = kFirst; fx[0] < wide; fx += kLanes, depths += kLanes, numbers += kLanes) {
      Lanes v = rd + d.dx * fx, had;
      Marks held;
      std::memcpy(&had, depths, sizeof had);
      std::memcpy(&held, numbers, sizeof held);
      v = v < low ? low - Lanes{} : v;
      v = v > high ? high - Lanes{} : v;
      const Marks seen = (r0 + e0.dx * fx >= 0.0f) & (r1 + e1.dx * fx >= 0.0f) & (r2 + e2.dx * fx >= 0.0f) &
                         (v > had) & (fx < wide);
      had = seen ? v : had;
      held = seen ? number - Marks{} : held;
      std::memcpy(depths, &had, sizeof had);
      std::memcpy(numbers, &held, sizeof held);
    }
  }
}

}  // namespace

void rasterize(const std::vector<Projected>& vertices, const int32_t* faces, int64_t face_count, bool alone,
               Stop& stop, Visibility* out) {
  const int width = out->width, height = out->height;
  const int columns = (width + kTile - 1) / kTile, rows = (height + kTile - 1) / kTile;
  const bool wants_face = !out->face.empty();
  // Kept from picture to picture; the names themselves would mean other objects in the threads of the loop.
  static thread_local std::vector<Box> kept_boxes;
  static thread_local Bins kept_bins;
  std::vector<Box>& boxes = kept_boxes;
  Bins& bins = kept_bins;
  tiles_of(vertices, faces, face_count, width, height, alone, boxes);
  size_t next = 0;
  for (bool fresh = true; fresh || next < boxes.size(); fresh = false) {
    if (stop.now()) return;
    sort_into_tiles(boxes, columns, rows, &next, bins);
    each(alone, 0, columns * rows, 1, [&](int t) {
      Box tile{t % columns * kTile, t / columns * kTile, 0, 0};
      tile.x1 = std::min(tile.x0 + kTile, width);
      tile.y1 = std::min(tile.y0 + kTile, height);
      if (tile.x0 >= out->x1 || tile.y0 >= out->y1 || tile.x1 <= out->x0 || tile.y1 <= out->y0) return;
      if (!fresh && bins.start[t] == bins.start[t + 1]) return;
      float near[kTileSize];
      int32_t face[kTileSize];
      std::fill_n(near, kTileSize, 0.0f);
      std::fill_n(face, kTileSize, -1);
      const int across = tile.x1 - tile.x0;
      const auto row = [&](int y) { return static_cast<int64_t>(y) * width + tile.x0; };
      for (int y = fresh ? tile.y1 : tile.y0; y < tile.y1; ++y) {
        const int64_t to = static_cast<int64_t>(y - tile.y0) * kTile;
        std::copy_n(out->near.begin() + row(y), across, near + to);
        if (wants_face) std::copy_n(out->face.begin() + row(y), across, face + to);
      }
      for (int64_t i = bins.start[t]; i < bins.start[t + 1]; ++i) {
        if ((i - bins.start[t]) % kStride == 0 && stop.now()) break;
        const int64_t f = bins.face[i];
        draw_triangle(vertices[faces[3 * f]], vertices[faces[3 * f + 1]], vertices[faces[3 * f + 2]],
                      static_cast<int32_t>(f), tile, near, face);
      }
      for (int y = tile.y0; y < tile.y1; ++y) {
        const int64_t from = static_cast<int64_t>(y - tile.y0) * kTile;
        std::copy_n(near + from, across, out->near.begin() + row(y));
        if (wants_face) std::copy_n(face + from, across, out->face.begin() + row(y));
      }
    });
  }
}

}  // namespace facetalk::cpu
