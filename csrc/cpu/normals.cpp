#include "cpu/normals.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "cpu/parallel.h"

namespace facetalk::cpu {
namespace {

void check_faces(const int32_t* faces, int64_t face_count, int64_t vertex_count) {
  // Without branches, so that it is vectorised: a number out of range sets the highest bit of one of the two.
  const auto last = static_cast<uint32_t>(std::min<int64_t>(vertex_count - 1, INT32_MAX));
  uint32_t bits = 0;
  for (int64_t n = 0; n < 3 * face_count; ++n) {
    const auto vertex = static_cast<uint32_t>(faces[n]);
    bits |= vertex | (last - vertex);
  }
  if (bits >> 31 == 0) return;
  int64_t n = 0;
  while (faces[n] >= 0 && faces[n] < vertex_count) ++n;
  throw ArgumentError("faces", "vertex numbers from 0 to " + std::to_string(vertex_count - 1),
                      std::to_string(faces[n]) + " in face " + std::to_string(n / 3));
}

// Adds the cross product of every face to its three vertices, `sums` (V, 3).
void add_faces(const float* vertices, const int32_t* faces, int64_t face_count, double* sums) {
  for (const int32_t *face = faces, *end = faces + 3 * face_count; face != end; face += 3) {
    double edge[2][3];
    for (int a = 0; a < 3; ++a) {
      const double origin = vertices[3 * int64_t{face[0]} + a];
      edge[0][a] = vertices[3 * int64_t{face[1]} + a] - origin;
      edge[1][a] = vertices[3 * int64_t{face[2]} + a] - origin;
    }
    const double cross[3] = {edge[0][1] * edge[1][2] - edge[0][2] * edge[1][1],
                             edge[0][2] * edge[1][0] - edge[0][0] * edge[1][2],
                             edge[0][0] * edge[1][1] - edge[0][1] * edge[1][0]};
    for (int corner = 0; corner < 3; ++corner) {
      double* sum = sums + 3 * int64_t{face[corner]};
      for (int a = 0; a < 3; ++a) sum[a] += cross[a];
    }
  }
}

void make_unit(const double* sums, int64_t vertex_count, float* out) {
  for (int64_t v = 0; v < vertex_count; ++v, sums += 3, out += 3) {
    const double length = std::sqrt(sums[0] * sums[0] + sums[1] * sums[1] + sums[2] * sums[2]);
    // Neither for no direction nor for vertices at infinity.
    const bool known = length > 0 && length <= std::numeric_limits<double>::max();
    for (int a = 0; a < 3; ++a) out[a] = known ? static_cast<float>(sums[a] / length) : 0.0f;
  }
}

}  // namespace

void vertex_normals(const TensorView& vertices, const TensorView& faces, const TensorView& out) {
  const int64_t frames = vertices.shape[0];
  const int64_t vertex_count = vertices.shape[1];
  const int64_t face_count = faces.shape[0];
  const auto* index = faces.as<const int32_t>();
  check_faces(index, face_count, vertex_count);
  // A frame is one thread's: a list of every vertex's faces, by which threads could share a frame, takes longer
  // to make than the normals.
  parallel_for(frames, 1, [&](int64_t begin, int64_t end) {
    const std::shared_ptr<void> memory = allocate(3 * vertex_count * static_cast<int64_t>(sizeof(double)));
    auto* sums = static_cast<double*>(memory.get());
    for (int64_t frame = begin; frame < end; ++frame) {
      const int64_t at = 3 * vertex_count * frame;
      std::fill_n(sums, 3 * vertex_count, 0.0);
      add_faces(vertices.as<const float>() + at, index, face_count, sums);
      make_unit(sums, vertex_count, out.as<float>() + at);
    }
  });
}

}  // namespace facetalk::cpu
