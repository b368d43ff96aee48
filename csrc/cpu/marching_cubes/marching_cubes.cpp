#include "cpu/marching_cubes/marching_cubes.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "core/brick_volume.h"
#include "core/cpu_features.h"
#include "core/marching_cubes_table.h"
#include "core/number_text.h"
#include "cpu/marching_cubes/marching_cubes_rows.h"
#include "cpu/marching_cubes/marching_cubes_vertices.h"
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

// Vertices are float32: every position of the frame must fit one, and samples must lie apart.
void check_frame(const GridFrame& frame, const int64_t shape[3], float level) {
  constexpr double kMost = std::numeric_limits<float>::max();
  for (int a = 0; a < 3; ++a) {
    const double first = frame.origin[a];
    const double last = first + frame.step[a] * static_cast<double>(shape[a] - 1);
    if (!(frame.step[a] > 0.0) || !(std::abs(first) <= kMost) || !(std::abs(last) <= kMost)) {
      throw ArgumentError("bounds", "ends that float32 can hold, growing along each axis",
                          number_text(first) + " to " + number_text(last) + " in steps of " +
                              number_text(frame.step[a]) + " along axis " + std::to_string(a));
    }
  }
  if (!std::isfinite(level)) throw ArgumentError("level", "a finite number", number_text(level));
}

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

// What a piece, some consecutive rows, makes. Its rows count from its own first vertex and face.
struct Piece {
  std::vector<float> vertices, normals;
  int64_t vertex_count = 0, face_count = 0;
};

class Tracer {
 public:
  Tracer(const McGrid& grid, const GridFrame& frame, bool with_normals)
      : g_(grid),
        rows_(kernels()),
        vertices_(grid, frame),
        with_normals_(with_normals),
        row_count_(grid.nx * grid.ny),
        // As many samples as outweigh handing the piece out; several planes, if that leaves enough pieces, so
        // that few rows lie at the end of one.
        piece_rows_(
            std::max({int64_t{1}, (int64_t{1} << 18) / grid.nz, std::min(8 * grid.ny, row_count_ / 32)})),
        pieces_(static_cast<size_t>((row_count_ + piece_rows_ - 1) / piece_rows_)),
        row_memory_(allocate(row_count_ * static_cast<int64_t>(sizeof(McRow)))),
        row_(static_cast<McRow*>(row_memory_.get())) {}

  // Packs signs and writes vertices behind, while their samples are still in the cache. False when a sample
  // is NaN or infinite; nothing else may be called then.
  bool pack(uint64_t* signs) {
    std::atomic<bool> finite{true};
    // A row's vertices and faces take the signs of the next row and of those one plane on.
    const int64_t behind = g_.ny + 1;
    for_pieces([&](Piece& piece, int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        if (!rows_.pack(g_.samples + r * g_.nz, g_.nz, g_.level, signs + r * g_.words)) finite.store(false);
        if (r - behind >= begin) trace_row(piece, r - behind);
      }
    });
    if (!finite.load()) return false;
    for_pieces([&](Piece& piece, int64_t begin, int64_t end) {
      for (int64_t r = std::max(begin, end - behind); r < end; ++r) trace_row(piece, r);
    });
    return true;
  }

  // Writes vertices where all signs are packed.
  void trace_rows() {
    for_pieces([&](Piece& piece, int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) trace_row(piece, r);
    });
  }

  SurfaceMesh finish() {
    // Vertices are numbered row by row, along z first, then y, x, and the cells' own.
    std::vector<McRow> start(pieces_.size());
    int64_t vertex_count = 0;
    int64_t face_count = 0;
    for (size_t p = 0; p < pieces_.size(); ++p) {
      start[p] = {vertex_count, vertex_count, vertex_count, vertex_count, face_count};
      vertex_count += pieces_[p].vertex_count;
      face_count += pieces_[p].face_count;
    }
    constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
    if (vertex_count > kMost || face_count > kMost) {
      throw ArgumentError(
          "volume", "a surface of less than 2^31 vertices and faces (faces are int32; cut the volume up)",
          std::to_string(vertex_count) + " vertices and " + std::to_string(face_count) + " faces");
    }
    SurfaceMesh mesh;
    mesh.vertices = Array::make<float>({vertex_count, 3});
    mesh.faces = Array::make<int32_t>({face_count, 3});
    if (with_normals_) mesh.normals = Array::make<float>({vertex_count, 3});
    auto* vertices = mesh.vertices.view.as<float>();
    auto* normals = with_normals_ ? mesh.normals.view.as<float>() : nullptr;
    auto* faces = mesh.faces.view.as<int32_t>();
    for_pieces([&](Piece& piece, int64_t begin, int64_t end) {
      const McRow& first = start[static_cast<size_t>(begin / piece_rows_)];
      std::copy(piece.vertices.begin(), piece.vertices.end(), vertices + 3 * first.z);
      std::copy(piece.normals.begin(), piece.normals.end(), normals + 3 * first.z);
      piece = {};
      for (int64_t r = begin; r < end; ++r) {
        row_[r].z += first.z;
        row_[r].y += first.y;
        row_[r].x += first.x;
        row_[r].centres += first.centres;
        row_[r].triangles += first.triangles;
      }
    });
    // Only now: vertices inside cells are means of those on edges.
    for_pieces([&](Piece&, int64_t begin, int64_t end) {
      for (int64_t r = begin; r < std::min(end, row_count_ - g_.ny); ++r) {
        if (r % g_.ny + 1 == g_.ny) continue;
        const McRow* const bases[4] = {row_ + r, row_ + r + 1, row_ + r + g_.ny, row_ + r + g_.ny + 1};
        rows_.emit_faces(g_, r / g_.ny, r % g_.ny, bases, faces, vertices, normals);
      }
    });
    return mesh;
  }

 private:
  template <typename Work>
  void for_pieces(const Work& work) {
    parallel_for(static_cast<int64_t>(pieces_.size()), 1, [&](int64_t first, int64_t last) {
      for (int64_t p = first; p < last; ++p) {
        work(pieces_[static_cast<size_t>(p)], p * piece_rows_, std::min((p + 1) * piece_rows_, row_count_));
      }
    });
  }

  // Counts what row r makes and writes its vertices; faces have to wait for the numbers of other pieces.
  void trace_row(Piece& piece, int64_t r) {
    const int64_t i = r / g_.ny;
    const int64_t j = r % g_.ny;
    const McRow n = rows_.count(g_, i, j);
    McRow& row = row_[r];
    row.z = piece.vertex_count;
    row.y = row.z + n.z;
    row.x = row.y + n.y;
    row.centres = row.x + n.x;
    row.triangles = piece.face_count;
    piece.vertex_count = row.centres + n.centres;
    piece.face_count += n.triangles;
    if (piece.vertex_count == row.z) return;
    piece.vertices.resize(static_cast<size_t>(3 * piece.vertex_count));
    if (with_normals_) piece.normals.resize(static_cast<size_t>(3 * piece.vertex_count));
    vertices_.write_row(i, j, row, piece.vertices.data(), with_normals_ ? piece.normals.data() : nullptr);
  }

  const McGrid& g_;
  const McRowKernels& rows_;
  const McVertices vertices_;
  const bool with_normals_;
  const int64_t row_count_;
  const int64_t piece_rows_;
  std::vector<Piece> pieces_;
  const std::shared_ptr<void> row_memory_;
  McRow* const row_;  // per row: where what it makes starts
};

}  // namespace

SurfaceMesh marching_cubes(const TensorView& volume, float level, const GridFrame& frame, bool with_normals) {
  check_frame(frame, volume.shape.data(), level);
  McGrid g = make_grid(volume.shape[0], volume.shape[1], volume.shape[2], level);
  g.samples = volume.as<const float>();
  const std::shared_ptr<void> sign_memory = allocate(g.nx * g.ny * g.words * 8);
  auto* signs = static_cast<uint64_t*>(sign_memory.get());
  g.signs = signs;
  Tracer tracer(g, frame, with_normals);
  if (!tracer.pack(signs)) report_non_finite(g);
  return tracer.finish();
}

SurfaceMesh marching_cubes(const BrickVolume& volume, float level, const GridFrame& frame) {
  check_frame(frame, volume.shape, level);
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
  Tracer tracer(g, frame, false);
  tracer.trace_rows();
  return tracer.finish();
}

}  // namespace facetalk::cpu
