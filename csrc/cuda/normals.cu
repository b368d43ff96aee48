#include <algorithm>

#include "cuda/normals.h"
#include "cuda/platform/error.h"
#include "cuda/platform/portable.h"

namespace facetalk::cuda {
namespace {

constexpr int kNormalsThreads = 128;
constexpr int64_t kNormalsBlocks = int64_t{1} << 20;  // at most; threads walk on from there

// One thread a vertex of a frame. Every product and sum is rounded by itself, as the CPU's compiler does it.
__global__ void __launch_bounds__(kNormalsThreads) vertex_normals_gather(const NormalsProblem problem) {
  const int64_t count = problem.frames * problem.vertex_count;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kNormalsThreads;
  for (int64_t n = static_cast<int64_t>(blockIdx.x) * kNormalsThreads + threadIdx.x; n < count; n += step) {
    const int64_t vertex = n % problem.vertex_count;
    const float* frame = problem.vertices + 3 * (n - vertex);
    double sum[3] = {0.0, 0.0, 0.0};
    const int64_t end = problem.start[vertex + 1];
    for (int64_t at = problem.start[vertex]; at < end; ++at) {
      const int32_t* face = problem.faces + problem.corners[at] / 3 * 3;
      bool valid = true;
      for (int c = 0; c < 3; ++c) valid = valid && face[c] >= 0 && face[c] < problem.vertex_count;
      if (!valid) continue;
      double edge[2][3];
      for (int a = 0; a < 3; ++a) {
        const double origin = frame[3 * int64_t{face[0]} + a];
        edge[0][a] = __dsub_rn(frame[3 * int64_t{face[1]} + a], origin);
        edge[1][a] = __dsub_rn(frame[3 * int64_t{face[2]} + a], origin);
      }
      FACETALK_UNROLL()
      for (int a = 0; a < 3; ++a) {
        const int b = (a + 1) % 3;
        const int c = (a + 2) % 3;
        const double cross = __dsub_rn(__dmul_rn(edge[0][b], edge[1][c]), __dmul_rn(edge[0][c], edge[1][b]));
        sum[a] = __dadd_rn(sum[a], cross);
      }
    }
    const double square =
        __dadd_rn(__dadd_rn(__dmul_rn(sum[0], sum[0]), __dmul_rn(sum[1], sum[1])), __dmul_rn(sum[2], sum[2]));
    const double length = __dsqrt_rn(square);
    float* to = problem.normals + 3 * n;
    // Neither for no direction nor for vertices at infinity; the limit is the largest double.
    const bool known = length > 0.0 && length <= 1.7976931348623157e308;
    for (int a = 0; a < 3; ++a) to[a] = known ? static_cast<float>(__ddiv_rn(sum[a], length)) : 0.0f;
  }
}

}  // namespace

void vertex_normals(const NormalsProblem& problem, void* stream) {
  const int64_t blocks = ceil_div(problem.frames * problem.vertex_count, kNormalsThreads);
  if (blocks == 0) return;
  check(launch(vertex_normals_gather, static_cast<unsigned>(std::min(blocks, kNormalsBlocks)),
               kNormalsThreads, 0, static_cast<cudaStream_t>(stream), problem),
        "vertex_normals_gather");
}

}  // namespace facetalk::cuda
