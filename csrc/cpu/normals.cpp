#include "cpu/normals.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "cpu/parallel.h"

namespace facetalk::cpu {
namespace {

// Which faces touch each vertex, in ascending order: faces of vertex v are list[start[v]] to list[start[v +
// 1] - 1].
struct Incidence {
  std::shared_ptr<void> start_memory, list_memory;
  int64_t* start;
  int32_t* list;

  Incidence(const int32_t* faces, int64_t face_count, int64_t vertex_count)
      : start_memory(allocate((vertex_count + 2) * 8)), list_memory(allocate(face_count * 12)) {
    // One place too far, so that filling the list moves the starts to where they belong.
    auto* next = static_cast<int64_t*>(start_memory.get());
    for (int64_t v = 0; v < vertex_count + 2; ++v) next[v] = 0;
    for (int64_t n = 0; n < 3 * face_count; ++n) {
      if (faces[n] < 0 || faces[n] >= vertex_count) {
        throw ArgumentError("faces", "vertex numbers from 0 to " + std::to_string(vertex_count - 1),
                            std::to_string(faces[n]) + " in face " + std::to_string(n / 3));
      }
      ++next[faces[n] + 2];
    }
    for (int64_t v = 2; v < vertex_count + 2; ++v) next[v] += next[v - 1];
    list = static_cast<int32_t*>(list_memory.get());
    for (int64_t n = 0; n < 3 * face_count; ++n) list[next[faces[n] + 1]++] = static_cast<int32_t>(n / 3);
    start = next;
  }
};

void add_cross(const float* vertices, const int32_t* face, double sum[3]) {
  double edge[2][3];
  for (int a = 0; a < 3; ++a) {
    const double origin = vertices[3 * int64_t{face[0]} + a];
    edge[0][a] = vertices[3 * int64_t{face[1]} + a] - origin;
    edge[1][a] = vertices[3 * int64_t{face[2]} + a] - origin;
  }
  for (int a = 0; a < 3; ++a) {
    const int b = (a + 1) % 3;
    const int c = (a + 2) % 3;
    sum[a] += edge[0][b] * edge[1][c] - edge[0][c] * edge[1][b];
  }
}

}  // namespace

void vertex_normals(const TensorView& vertices, const TensorView& faces, const TensorView& out) {
  const int64_t frames = vertices.shape[0];
  const int64_t vertex_count = vertices.shape[1];
  const int64_t face_count = faces.shape[0];
  const auto* index = faces.as<const int32_t>();
  const Incidence incidence(index, face_count, vertex_count);
  // A face's cross product is computed at each of its corners: cheaper than a second pass over memory.
  parallel_for(frames * vertex_count, 8192, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      const int64_t v = n % vertex_count;
      const float* frame = vertices.as<const float>() + 3 * (n - v);
      double sum[3] = {0, 0, 0};
      for (int64_t at = incidence.start[v]; at < incidence.start[v + 1]; ++at) {
        add_cross(frame, index + 3 * int64_t{incidence.list[at]}, sum);
      }
      const double length = std::sqrt(sum[0] * sum[0] + sum[1] * sum[1] + sum[2] * sum[2]);
      float* to = out.as<float>() + 3 * n;
      // Neither for no direction nor for vertices at infinity.
      const bool known = length > 0 && length <= std::numeric_limits<double>::max();
      for (int a = 0; a < 3; ++a) to[a] = known ? static_cast<float>(sum[a] / length) : 0.0f;
    }
  });
}

}  // namespace facetalk::cpu
