// The canonical cache in the CPU's memory.
#pragma once

#include <cstdint>
#include <vector>

#include "core/canonical_cache.h"

namespace facetalk::cpu {

struct StoredCache {
  CanonicalCache view;  // of the arrays below
  std::vector<int32_t> table, children;
  std::vector<float> data;  // and a few floats of padding
  std::vector<float> error, far;

  StoredCache() = default;
  StoredCache(const StoredCache&) = delete;
  StoredCache& operator=(const StoredCache&) = delete;

  // To be called when the arrays are complete.
  void point() {
    view.table = table.data();
    view.children = children.data();
    view.data = data.data();
    view.error = error.data();
    view.far = far.data();
  }
};

// Interpolated value at y and the bound of its error; false where nothing is cached.
bool cache_value(const CanonicalCache& cache, const float* y, float* out, float* error_bound);

}  // namespace facetalk::cpu
