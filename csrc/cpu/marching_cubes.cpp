#include "cpu/marching_cubes.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <limits>
#include <string>

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
    stride_[0] = g_.ny * g_.nz;
    stride_[1] = g_.nz;
    stride_[2] = 1;
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

  int64_t offset(const Index& at) const { return at[0] * stride_[0] + at[1] * stride_[1] + at[2]; }
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
    const float* here = g_.samples + offset(at);
    for (int a = 0; a < 3; ++a) {
      const bool low = at[a] > 0;
      const bool high = at[a] + 1 < size_[a];
      const double rise =
          static_cast<double>(here[high ? stride_[a] : 0]) - static_cast<double>(here[low ? -stride_[a] : 0]);
      out[a] = rise / ((low && high ? 2.0 : 1.0) * frame_.step[a]);
    }
  }

  void write(const Index& from, int axis, int64_t id) const {
    Index to = from;
    ++to[axis];
    const double a = g_.samples[offset(from)];
    const double b = g_.samples[offset(to)];
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
  int64_t stride_[3];
  int64_t size_[3];
  double margin_[3];
};

}  // namespace

SurfaceMesh marching_cubes(const TensorView& volume, float level, const GridFrame& frame, bool with_normals) {
  const MarchingCubesTable& table = marching_cubes_table();
  const McRowKernels& rows = kernels();
  McGrid g{};
  g.samples = volume.as<const float>();
  g.nx = volume.shape[0];
  g.ny = volume.shape[1];
  g.nz = volume.shape[2];
  g.words = (g.nz + 63) / 64;
  g.level = level;
  g.ambiguous = table.ambiguous;
  g.first_variant = table.variant;
  g.face_corners = table.face_corners;
  g.variants = table.variants.data();
  g.corners = table.corners.data();
  const int64_t row_count = g.nx * g.ny;
  // Rows of a piece: about as many samples as fit a core's cache, enough to outweigh handing the piece out.
  const int64_t grain = std::max<int64_t>(1, (int64_t{1} << 18) / g.nz);

  // Signs.
  const std::shared_ptr<void> sign_memory = allocate(row_count * g.words * 8);
  auto* signs = static_cast<uint64_t*>(sign_memory.get());
  g.signs = signs;
  std::atomic<bool> finite{true};
  parallel_for(row_count, grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      if (!rows.pack(g.samples + r * g.nz, g.nz, level, signs + r * g.words)) finite.store(false);
    }
  });
  if (!finite.load()) report_non_finite(g);

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

}  // namespace facetalk::cpu
