// The vertices of marching cubes that lie on edges of the grid.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

#include "core/brick_volume.h"
#include "cpu/marching_cubes/marching_cubes.h"
#include "cpu/marching_cubes/marching_cubes_rows.h"

namespace facetalk::cpu {

class McVertices {
 public:
  McVertices(const McGrid& grid, const GridFrame& frame) : g_(grid), frame_(frame) {
    const int64_t sizes[3] = {g_.nx, g_.ny, g_.nz};
    for (int a = 0; a < 3; ++a) {
      size_[a] = sizes[a];
      // A step from the sample that float32 still resolves everywhere in the frame, in cells.
      const double far =
          std::max(std::abs(frame_.origin[a]),
                   std::abs(frame_.origin[a] + frame_.step[a] * static_cast<double>(size_[a] - 1)));
      const double resolution = 2.0 * std::numeric_limits<float>::epsilon() * far / frame_.step[a];
      margin_[a] = std::clamp(resolution, 1.0 / 16384, 0.25);
    }
  }

  // Those on edges that start in row (i, j), at positions `base` of vertices (and normals, unless null).
  // Reads the signs of this row and of its neighbours (i, j + 1) and (i + 1, j).
  void write_row(int64_t i, int64_t j, const McRow& base, float* vertices, float* normals) const {
    const uint64_t* here = g_.signs + (i * g_.ny + j) * g_.words;
    const Output out{
        vertices, normals, {coordinate(0, static_cast<double>(i)), coordinate(1, static_cast<double>(j))}};
    int64_t id[3] = {base.x, base.y, base.z};
    for (int64_t w = 0; w < g_.words; ++w) {
      const uint64_t next = here[w] >> 1 | (w + 1 < g_.words ? here[w + 1] << 63 : 0);
      const int64_t left = g_.nz - 1 - 64 * w;
      uint64_t z = here[w] ^ next;
      if (left < 64) z &= left <= 0 ? 0 : (uint64_t{1} << left) - 1;
      const uint64_t y = j + 1 < g_.ny ? here[w] ^ here[g_.words + w] : 0;
      const uint64_t x = i + 1 < g_.nx ? here[w] ^ here[g_.ny * g_.words + w] : 0;
      if ((x | y | z) == 0) continue;
      write_word<2>({i, j, 64 * w}, z, out, id[2]);
      write_word<1>({i, j, 64 * w}, y, out, id[1]);
      write_word<0>({i, j, 64 * w}, x, out, id[0]);
    }
  }

 private:
  using Index = std::array<int64_t, 3>;

  struct Output {
    float* vertices;
    float* normals;
    float row[2];  // x and y of the row's samples
  };

  float coordinate(int axis, double index) const {
    return static_cast<float>(frame_.origin[axis] + frame_.step[axis] * index);
  }

  float sample(const Index& at) const {
    if (g_.table == nullptr) return g_.samples[(at[0] * g_.ny + at[1]) * g_.nz + at[2]];
    const int64_t brick =
        g_.table[((at[0] >> kBrickShift) * g_.bricks_y + (at[1] >> kBrickShift)) * g_.bricks_z +
                 (at[2] >> kBrickShift)];
    return brick < 0 ? g_.level
                     : g_.samples[brick * kBrickSamples + BrickVolume::within(at[0], at[1], at[2])];
  }

  // Signs of a dense grid may not be packed yet around the row; those of bricks are, and know more than
  // samples.
  bool inside(const Index& at) const {
    if (g_.table == nullptr) return sample(at) < g_.level;
    return g_.signs[(at[0] * g_.ny + at[1]) * g_.words + (at[2] >> 6)] >> (at[2] & 63) & 1;
  }

  // Whether another edge of this sample is cut too, so that another vertex could fall on the same spot.
  bool is_shared(const Index& at) const {
    int cut = 0;
    for (int axis = 0; axis < 3; ++axis) {
      for (int step : {-1, 1}) {
        Index other = at;
        other[axis] += step;
        if (other[axis] >= 0 && other[axis] < size_[axis]) cut += inside(other) != inside(at);
      }
    }
    return cut > 1;
  }

  // Those on the edges along an axis from sample `first` and the 63 behind it, where a bit says that one is
  // cut.
  template <int kAxis>
  void write_word(const Index& first, uint64_t bits, const Output& out, int64_t& id) const {
    const double level = g_.level;
    const double margin = margin_[kAxis];
    const float* near = nullptr;
    const float* far = nullptr;
    if (g_.table == nullptr) {
      near = g_.samples + (first[0] * g_.ny + first[1]) * g_.nz + first[2];
      far = near + (kAxis == 0 ? g_.ny * g_.nz : kAxis == 1 ? g_.nz : 1);
    }
    for (; bits != 0; bits &= bits - 1, ++id) {
      const int64_t bit = __builtin_ctzll(bits);
      const Index from = {first[0], first[1], first[2] + bit};
      const Index to = {from[0] + (kAxis == 0), from[1] + (kAxis == 1), from[2] + (kAxis == 2)};
      const double a = near != nullptr ? near[bit] : sample(from);
      const double b = near != nullptr ? far[bit] : sample(to);
      double t = (level - a) / (b - a);
      // A sample at the level would gather the vertices of all its cut edges on one spot and leave triangles
      // without area; keep them apart by the least step that float32 resolves. A vertex that is alone there
      // stays exact.
      if (t < margin && is_shared(from)) t = margin;
      if (t > 1.0 - margin && is_shared(to)) t = 1.0 - margin;
      float* v = out.vertices + 3 * id;
      v[0] = kAxis == 0 ? coordinate(0, static_cast<double>(from[0]) + t) : out.row[0];
      v[1] = kAxis == 1 ? coordinate(1, static_cast<double>(from[1]) + t) : out.row[1];
      v[2] = coordinate(2, static_cast<double>(from[2]) + (kAxis == 2 ? t : 0.0));
      if (out.normals != nullptr) write_normal(from, to, kAxis, t, b > a, out.normals + 3 * id);
    }
  }

  // Derivative of the samples along each axis, by central differences, one-sided at the border.
  void gradient(const Index& at, double out[3]) const {
    for (int a = 0; a < 3; ++a) {
      const bool low = at[a] > 0;
      const bool high = at[a] + 1 < size_[a];
      Index before = at;
      Index after = at;
      before[a] -= low;
      after[a] += high;
      const double rise = static_cast<double>(sample(after)) - static_cast<double>(sample(before));
      out[a] = rise / ((low && high ? 2.0 : 1.0) * frame_.step[a]);
    }
  }

  void write_normal(const Index& from, const Index& to, int axis, double t, bool rising, float* out) const {
    double start[3];
    double end[3];
    gradient(from, start);
    gradient(to, end);
    double normal[3];
    double largest = 0;
    for (int d = 0; d < 3; ++d) {
      normal[d] = start[d] + t * (end[d] - start[d]);
      largest = std::max(largest, std::abs(normal[d]));
    }
    // Samples far apart in value and close in space have slopes whose squares a double cannot hold.
    if (largest > 1e150 && std::isfinite(largest)) {
      for (double& n : normal) n /= largest;
    }
    const double length = std::sqrt(normal[0] * normal[0] + normal[1] * normal[1] + normal[2] * normal[2]);
    for (int d = 0; d < 3; ++d) {
      // Where the gradient vanishes the edge itself still points from inside to outside.
      const double fallback = d == axis ? (rising ? 1.0 : -1.0) : 0.0;
      out[d] = static_cast<float>(length > 0 && std::isfinite(length) ? normal[d] / length : fallback);
    }
  }

  const McGrid& g_;
  const GridFrame& frame_;
  int64_t size_[3];
  double margin_[3];
};

}  // namespace facetalk::cpu
