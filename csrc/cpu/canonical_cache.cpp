#include "cpu/canonical_cache.h"

#include <cstddef>

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

bool CanonicalCache::value(const float* y, float* out, float* error_bound) const {
  float u[3];  // in cells of the level
  int64_t brick[3];
  for (int a = 0; a < 3; ++a) {
    u[a] = (y[a] - origin[a]) / spacing;
    if (!(u[a] >= 0.0f && u[a] < static_cast<float>(shape[a] * kCacheCells))) return false;
    brick[a] = static_cast<int64_t>(u[a]) / kCacheCells;
    u[a] -= static_cast<float>(brick[a] * kCacheCells);
  }
  int32_t entry = table[static_cast<size_t>((brick[0] * shape[1] + brick[1]) * shape[2] + brick[2])];
  while (entry < -1) {
    int child = 0;
    for (int a = 0; a < 3; ++a) {
      const bool upper = u[a] >= 0.5f * kCacheCells;
      child = 2 * child + upper;
      u[a] = 2.0f * u[a] - (upper ? kCacheCells : 0.0f);
    }
    entry = children[static_cast<size_t>(8 * static_cast<int64_t>(-2 - entry) + child)];
  }
  if (entry < 0) return false;
  *error_bound = error[static_cast<size_t>(entry)];
  float w[3][4];
  int cell[3];
  for (int a = 0; a < 3; ++a) {
    cell[a] = static_cast<int>(u[a]);
    // Rounding can put the last point of a brick beside it.
    if (cell[a] >= kCacheCells) cell[a] = kCacheCells - 1;
    if (cell[a] < 0) cell[a] = 0;
    cubic_weights(u[a] - static_cast<float>(cell[a]), w[a]);
  }
  const float* from = data.data() + static_cast<size_t>(entry) * kCacheBrick +
                      (cell[0] * kCacheNodes + cell[1]) * kCacheNodes + cell[2];
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
