// Vertex normals on the GPU, as cpu/normals.h has them.
#pragma once

#include <cstdint>

namespace facetalk::cuda {

struct NormalsProblem {
  const float* vertices = nullptr;  // (frames, vertex_count, 3)
  const int32_t* faces = nullptr;   // (face_count, 3)
  const int64_t* corners =
      nullptr;  // (3 * face_count) corners 3 * face + c, sorted by their vertex, faces ascending
  const int64_t* start = nullptr;  // (vertex_count + 1) first of a vertex's corners
  float* normals = nullptr;        // (frames, vertex_count, 3)
  int64_t frames = 0;
  int64_t vertex_count = 0;
};

// Sums the faces of each vertex in their order, in double precision: the same bits as on the CPU. A face that
// names a vertex which is not there adds nothing. Launches on `stream` (a cudaStream_t) of the current
// device; nothing waits. Throws CudaError.
void vertex_normals(const NormalsProblem& problem, void* stream);

}  // namespace facetalk::cuda
