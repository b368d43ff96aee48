// Ambient occlusion: how much of its surroundings each pixel's surface is open to.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/raster/frame.h"
#include "cpu/raster/lanes.h"

namespace facetalk::cpu {
namespace {

// Ambient occlusion: taps of one spiral, and how many turned copies of it a 2 x 2 average merges.
constexpr int kTaps = 12, kTurns = 4;
static_assert(kTaps % kLanes == 0);
// Farthest tap, pixels: half the largest picture.
constexpr int kShift = 4096;

struct Taps {
  float x[kTaps], y[kTaps];  // in reaches
};

// Share of the surroundings of one pixel that is not blocked, from the depths around it: ambient obscurance
// after McGuire et al., "The Alchemy Screen-Space Ambient Obscurance Algorithm", HPG 2011.
float open_at(const Frame& f, int x, int y, const Taps& taps) {
  const float radius = f.scene.occlusion_radius, focal = f.scene.focal;
  const Fragment& at = f.first[static_cast<size_t>(y) * f.width + x];
  const int32_t* face = f.scene.faces + 3 * static_cast<int64_t>(at.face);
  const float scale = at.depth / focal;
  const Vec3 here = {(x + 0.5f - 0.5f * f.width) * scale, (0.5f * f.height - y - 0.5f) * scale, -at.depth};
  const Wide middle = splat(here);
  const Vec3 w = corner_weights(f, face, at.x, at.y);
  const Wide n = visible_side(splat(blend(f.normals.data(), face, w)), splat(flat_normal(f, face)), middle);
  // Pixels; a lens or a radius of any size must not reach beyond what the sums below can hold.
  const float reach = within(radius * focal / at.depth, 0.0f, kShift),
              range = 1.0f / (4.0f * radius * radius);
  float blocked = 0.0f;
  for (int t = 0; t < kTaps; t += kLanes) {
    // Shifted to positive numbers, where the conversion rounds down.
    const auto shifted = [&](const float* offset) {
      Lanes v;
      std::memcpy(&v, offset + t, sizeof v);
      return __builtin_convertvector(v * reach + (kShift + 0.5f), Marks);
    };
    const Marks qx = (x - kShift) + shifted(taps.x), qy = (y - kShift) + shifted(taps.y);
    const Marks inside = (qx >= f.x0) & (qy >= f.y0) & (qx < f.x1) & (qy < f.y1);
    const Lanes place_x = __builtin_convertvector(qx, Lanes), place_y = __builtin_convertvector(qy, Lanes);
    // Those outside look at this pixel, and then count for nothing.
    const Marks place = inside ? qy * f.width + qx : (y * f.width + x) - Marks{};
    Lanes depth;
    for (int i = 0; i < kLanes; ++i) depth[i] = f.depths[static_cast<size_t>(place[i])];
    depth = inside ? depth : Lanes{};
    const Lanes away = depth / splat(focal);
    const Wide there = {(place_x + 0.5f - 0.5f * f.width) * away, (0.5f * f.height - place_y - 0.5f) * away,
                        -depth};
    const Wide d = there - middle;
    const Lanes dd = dot(d, d), up = dot(d, n) - 0.0003f;
    const Lanes part = unit(1.0f - dd * range) * up / root(dd + 1e-7f);
    const Lanes counted = ((depth > 0.0f) & (up > 0.0f)) ? part : Lanes{};
    for (int i = 0; i < kLanes; ++i) blocked += counted[i];
  }
  return std::max(0.0f, 1.0f - 1.9f * blocked / kTaps);
}

}  // namespace

// Occlusion is smooth: it is found for one pixel of each 2 x 2 block and averaged over the four nearest
// blocks, whose spirals are turned differently.
void find_open(Frame* f) {
  const int w = f->width, columns = (f->x1 - f->x0 + 1) / 2, rows = (f->y1 - f->y0 + 1) / 2;
  Taps taps[kTurns];
  for (int turn = 0; turn < kTurns; ++turn) {
    for (int t = 0; t < kTaps; ++t) {
      const float reach = (t + 0.5f + 0.25f * static_cast<float>(turn) - 0.375f) / kTaps;
      const float angle = 2.39996f * t + 6.2831853f * turn / (kTurns * kTaps) * 3.0f;  // golden angle
      taps[turn].x[t] = reach * std::cos(angle), taps[turn].y[t] = reach * std::sin(angle);
    }
  }
  std::vector<Block>& blocks = f->blocks;
  blocks.assign(static_cast<size_t>(columns) * rows, Block{});
  each(f->scene.alone, 0, rows, 4, [&](int y) {
    for (int x = 0; x < columns; ++x) {
      Block* block = &blocks[static_cast<size_t>(y) * columns + x];
      for (int corner = 3; corner >= 0 && block->depth == 0.0f; --corner) {
        const int px = f->x0 + 2 * x + corner % 2, py = f->y0 + 2 * y + corner / 2;
        if (px >= f->x1 || py >= f->y1) continue;
        const float depth = f->depths[static_cast<size_t>(py) * w + px];
        if (depth > 0.0f) *block = {open_at(*f, px, py, taps[y % 2 * 2 + x % 2]), depth};
      }
    }
  });
  f->open.resize(static_cast<size_t>(w) * f->height);
  each(f->scene.alone, f->y0, f->y1, 16, [&](int y) {
    for (int x = f->x0; x < f->x1; ++x) {
      const size_t at = static_cast<size_t>(y) * w + x;
      const float depth = f->depths[at];
      if (depth == 0.0f) continue;
      const int bx = (x - f->x0 - 1) >> 1, by = (y - f->y0 - 1) >> 1;
      float sum = 0.0f, count = 0.0f;
      for (int j = std::max(0, by); j < std::min(rows, by + 2); ++j) {
        for (int i = std::max(0, bx); i < std::min(columns, bx + 2); ++i) {
          const Block& block = blocks[static_cast<size_t>(j) * columns + i];
          if (std::fabs(block.depth - depth) < 2.0f * kSameSurface) sum += block.open, count += 1.0f;
        }
      }
      f->open[at] = count > 0.0f ? sum / count : open_at(*f, x, y, taps[0]);
    }
  });
}

}  // namespace facetalk::cpu
