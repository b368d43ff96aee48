// The kernel of vertex normals for tests on the host.
#include "cuda/normals.cu"

extern "C" int normals_gather(const float* vertices, const int32_t* faces, const int64_t* corners,
                              const int64_t* start, float* normals, int64_t frames, int64_t vertex_count) {
  facetalk::cuda::vertex_normals({vertices, faces, corners, start, normals, frames, vertex_count}, nullptr);
  return 0;
}
