#include "cpu/surface/canonical_cache.h"

#include "core/cubic.h"

namespace facetalk::cpu {
namespace {

typedef float Row __attribute__((vector_size(16)));

inline Row load_row(const float* p) {
  Row row;
  __builtin_memcpy(&row, p, sizeof(row));
  return row;
}

}  // namespace

bool cache_value(const CanonicalCache& cache, const float* y, float* out, float* error_bound) {
  float u[3];
  const int32_t brick = cache.find(y, u);
  if (brick < 0) return false;
  *error_bound = cache.error[brick];
  float w[3][4];
  int cell[3];
  for (int a = 0; a < 3; ++a) {
    cell[a] = CanonicalCache::cell_at(u[a]);
    cubic_weights(u[a] - static_cast<float>(cell[a]), w[a]);
  }
  const float* from = cache.samples(brick, cell);
  Row sum{};
  for (int i = 0; i < 4; ++i) {
    Row slab{};
    for (int j = 0; j < 4; ++j) slab += w[1][j] * load_row(from + (i * kCacheNodes + j) * kCacheNodes);
    sum += w[0][i] * slab;
  }
  *out = sum[0] * w[2][0] + sum[1] * w[2][1] + sum[2] * w[2][2] + sum[3] * w[2][3];
  return true;
}

}  // namespace facetalk::cpu
