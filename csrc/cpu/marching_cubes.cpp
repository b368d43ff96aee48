#include "cpu/marching_cubes.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "core/brick_volume.h"
#include "core/cpu_features.h"
#include "core/marching_cubes_table.h"
#include "cpu/marching_cubes_rows.h"
#include "cpu/parallel.h"

namespace facetalk::cpu {
namespace {

const McRowKernels& kernels() {
#if defined(__x86_64__)
  switch (simd_level()) {
    case SimdLevel::kAvx512:
      return avx512::kMcRows;
    case SimdLevel::kAvx2:
      return avx2::kMcRows;
    default:
      break;
  }
#endif
  return baseline::kMcRows;
}

[[noreturn]] void report_non_finite(const McGrid& g) {
  const int64_t size = g.nx * g.ny * g.nz;
  int64_t first = -1;
  int64_t bad = 0;
  for (int64_t n = 0; n < size; ++n) {
    if (std::isfinite(g.samples[n])) continue;
    if (first < 0) first = n;
    ++bad;
  }
  const std::string where = std::to_string(first / (g.ny * g.nz)) + ", " +
                            std::to_string(first / g.nz % g.ny) + ", " + std::to_string(first % g.nz);
  throw ArgumentError("volume", "finite samples",
                      std::to_string(bad) + (bad == 1 ? " that is" : " that are") +
                          " NaN or infinite, the first at index (" + where + ")");
}

// Writes the vertices that lie on edges, row by row.
class VertexWriter {
 public:
  VertexWriter(const McGrid& grid, const GridFrame& frame, float* vertices, float* normals)
      : g_(grid), frame_(frame), vertices_(vertices), normals_(normals) {
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

  void write_row(int64_t i, int64_t j, const McRow& base) const {
    const uint64_t* here = g_.signs + (i * g_.ny + j) * g_.words;
    int64_t id[3] = {base.x, base.y, base.z};
    for (int64_t w = 0; w < g_.words; ++w) {
      const uint64_t next = here[w] >> 1 | (w + 1 < g_.words ? here[w + 1] << 63 : 0);
      const int64_t left = g_.nz - 1 - 64 * w;
      uint64_t cuts[3] = {0, 0, 0};
      cuts[2] = here[w] ^ next;
      if (left < 64) cuts[2] &= left <= 0 ? 0 : (uint64_t{1} << left) - 1;
      if (j + 1 < g_.ny) cuts[1] = here[w] ^ here[g_.words + w];
      if (i + 1 < g_.nx) cuts[0] = here[w] ^ here[g_.ny * g_.words + w];
      for (int axis : {2, 1, 0}) {
        for (uint64_t bits = cuts[axis]; bits != 0; bits &= bits - 1) {
          write({i, j, 64 * w + __builtin_ctzll(bits)}, axis, id[axis]++);
        }
      }
    }
  }

 private:
  using Index = std::array<int64_t, 3>;

  float sample(const Index& at) const {
    if (g_.table == nullptr) return g_.samples[(at[0] * g_.ny + at[1]) * g_.nz + at[2]];
    const int64_t brick =
        g_.table[((at[0] >> kBrickShift) * g_.bricks_y + (at[1] >> kBrickShift)) * g_.bricks_z +
                 (at[2] >> kBrickShift)];
    return brick < 0 ? g_.level
                     : g_.samples[brick * kBrickSamples + BrickVolume::within(at[0], at[1], at[2])];
  }
  bool inside(const Index& at) const {
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

  void write(const Index& from, int axis, int64_t id) const {
    Index to = from;
    ++to[axis];
    const double a = sample(from);
    const double b = sample(to);
    double t = (static_cast<double>(g_.level) - a) / (b - a);
    // A sample at the level would gather the vertices of all its cut edges on one spot and leave triangles
    // without area; keep them apart by the least step that float32 resolves. A vertex that is alone there
    // stays exact.
    const double margin = margin_[axis];
    if (t < margin && is_shared(from)) t = margin;
    if (t > 1.0 - margin && is_shared(to)) t = 1.0 - margin;
    for (int d = 0; d < 3; ++d) {
      const double index = static_cast<double>(from[d]) + (d == axis ? t : 0.0);
      vertices_[3 * id + d] = static_cast<float>(frame_.origin[d] + frame_.step[d] * index);
    }
    if (normals_ == nullptr) return;
    double start[3];
    double end[3];
    gradient(from, start);
    gradient(to, end);
    double normal[3];
    for (int d = 0; d < 3; ++d) normal[d] = start[d] + t * (end[d] - start[d]);
    const double length = std::sqrt(normal[0] * normal[0] + normal[1] * normal[1] + normal[2] * normal[2]);
    for (int d = 0; d < 3; ++d) {
      // Where the gradient vanishes the edge itself still points from inside to outside.
      const double fallback = d == axis ? (b > a ? 1.0 : -1.0) : 0.0;
      normals_[3 * id + d] = static_cast<float>(length > 0 ? normal[d] / length : fallback);
    }
  }

  const McGrid& g_;
  const GridFrame& frame_;
  float* vertices_;
  float* normals_;
  int64_t size_[3];
  double margin_[3];
};

// A grid without samples and signs.
McGrid make_grid(int64_t nx, int64_t ny, int64_t nz, float level) {
  const MarchingCubesTable& table = marching_cubes_table();
  McGrid g{};
  g.nx = nx;
  g.ny = ny;
  g.nz = nz;
  g.words = (nz + 63) / 64;
  g.level = level;
  g.ambiguous = table.ambiguous;
  g.first_variant = table.variant;
  g.face_corners = table.face_corners;
  g.variants = table.variants.data();
  g.corners = table.corners.data();
  return g;
}

// Rows of a piece: about as many samples as fit a core's cache, enough to outweigh handing the piece out.
int64_t rows_per_piece(const McGrid& g) { return std::max<int64_t>(1, (int64_t{1} << 18) / g.nz); }

// Signs of the rows (8 bi .. 8 bi + 7, 8 bj .. 8 bj + 7). False when a sample is NaN or infinite.
bool pack_bricks(const McGrid& g, int64_t bi, int64_t bj, uint64_t* signs) {
  const int64_t i_end = std::min(g.nx, (bi + 1) * kBrickSide);
  const int64_t j_end = std::min(g.ny, (bj + 1) * kBrickSide);
  const int32_t* entries = g.table + (bi * g.bricks_y + bj) * g.bricks_z;
  bool finite = true;
  for (int64_t i = bi * kBrickSide; i < i_end; ++i) {
    for (int64_t j = bj * kBrickSide; j < j_end; ++j) {
      uint64_t* row = signs + (i * g.ny + j) * g.words;
      std::fill(row, row + g.words, 0);
      for (int64_t b = 0; b < g.bricks_z; ++b) {
        uint64_t byte = entries[b] == kBrickInside ? 0xff : 0;
        if (entries[b] >= 0) {
          const float* v = g.samples + entries[b] * kBrickSamples + BrickVolume::within(i, j, 0);
          for (int k = 0; k < kBrickSide; ++k) {
            byte |= static_cast<uint64_t>(v[k] < g.level) << k;
            finite = finite && v[k] - v[k] == 0.0f;
          }
        }
        row[b >> 3] |= byte << (8 * (b & 7));
      }
      if (g.nz & 63) row[g.words - 1] &= (uint64_t{1} << (g.nz & 63)) - 1;
    }
  }
  return finite;
}

// The surface of a grid whose signs are packed.
SurfaceMesh trace(const McGrid& g, const McRowKernels& rows, const GridFrame& frame, bool with_normals) {
  const int64_t row_count = g.nx * g.ny;
  const int64_t grain = rows_per_piece(g);

  // Count.
  const std::shared_ptr<void> row_memory = allocate(row_count * static_cast<int64_t>(sizeof(McRow)));
  auto* row = static_cast<McRow*>(row_memory.get());
  parallel_for(row_count, grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) row[r] = rows.count(g, r / g.ny, r % g.ny);
  });

  // Scan: counts become positions. Vertices are numbered row by row, along z first, then y, x, and the cells'
  // own.
  int64_t vertex_count = 0;
  int64_t face_count = 0;
  for (int64_t r = 0; r < row_count; ++r) {
    const McRow n = row[r];
    row[r].z = vertex_count;
    row[r].y = row[r].z + n.z;
    row[r].x = row[r].y + n.y;
    row[r].centres = row[r].x + n.x;
    vertex_count = row[r].centres + n.centres;
    row[r].triangles = face_count;
    face_count += n.triangles;
  }
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  if (vertex_count > kMost || face_count > kMost) {
    throw ArgumentError(
        "volume", "a surface of less than 2^31 vertices and faces (faces are int32; cut the volume up)",
        std::to_string(vertex_count) + " vertices and " + std::to_string(face_count) + " faces");
  }

  // Emit.
  SurfaceMesh mesh;
  mesh.vertices = Array::make<float>({vertex_count, 3});
  mesh.faces = Array::make<int32_t>({face_count, 3});
  if (with_normals) mesh.normals = Array::make<float>({vertex_count, 3});
  auto* vertices = mesh.vertices.view.as<float>();
  auto* normals = with_normals ? mesh.normals.view.as<float>() : nullptr;
  auto* faces = mesh.faces.view.as<int32_t>();
  const VertexWriter writer(g, frame, vertices, normals);
  parallel_for(row_count, grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) writer.write_row(r / g.ny, r % g.ny, row[r]);
  });
  // Only now: vertices inside cells are means of those on edges.
  parallel_for(row_count - g.ny, grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      if (r % g.ny + 1 == g.ny) continue;
      const McRow* const bases[4] = {row + r, row + r + 1, row + r + g.ny, row + r + g.ny + 1};
      rows.emit_faces(g, r / g.ny, r % g.ny, bases, faces, vertices, normals);
    }
  });
  return mesh;
}

}  // namespace

SurfaceMesh marching_cubes(const TensorView& volume, float level, const GridFrame& frame, bool with_normals) {
  const McRowKernels& rows = kernels();
  McGrid g = make_grid(volume.shape[0], volume.shape[1], volume.shape[2], level);
  g.samples = volume.as<const float>();
  const int64_t row_count = g.nx * g.ny;
  const std::shared_ptr<void> sign_memory = allocate(row_count * g.words * 8);
  auto* signs = static_cast<uint64_t*>(sign_memory.get());
  g.signs = signs;
  std::atomic<bool> finite{true};
  parallel_for(row_count, rows_per_piece(g), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      if (!rows.pack(g.samples + r * g.nz, g.nz, level, signs + r * g.words)) finite.store(false);
    }
  });
  if (!finite.load()) report_non_finite(g);
  return trace(g, rows, frame, with_normals);
}

SurfaceMesh marching_cubes(const BrickVolume& volume, float level, const GridFrame& frame) {
  McGrid g = make_grid(volume.shape[0], volume.shape[1], volume.shape[2], level);
  g.samples = volume.samples.data();
  g.table = volume.table.data();
  g.bricks_y = volume.bricks[1];
  g.bricks_z = volume.bricks[2];
  const std::shared_ptr<void> sign_memory = allocate(g.nx * g.ny * g.words * 8);
  auto* signs = static_cast<uint64_t*>(sign_memory.get());
  g.signs = signs;
  std::atomic<bool> finite{true};
  parallel_for(volume.bricks[0] * g.bricks_y, 4, [&](int64_t begin, int64_t end) {
    for (int64_t column = begin; column < end; ++column) {
      if (!pack_bricks(g, column / g.bricks_y, column % g.bricks_y, signs)) finite.store(false);
    }
  });
  if (!finite.load()) throw ArgumentError("volume", "finite samples", "NaN or infinity in a brick");
  return trace(g, kernels(), frame, false);
}

}  // namespace facetalk::cpu
