// Bounds that hold around places.
#pragma once

#include <cstdint>

#include "core/host_device.h"

namespace facetalk {

// `levels` lattices of the same shape, each with the greatest slope up to its reach around any point of a
// cell. Reaches grow from level to level. Values are where they are read, in the CPU's memory or a GPU's.
struct LocalBounds {
  static constexpr int kMaxLevels = 8;
  float origin[3] = {0, 0, 0};
  float inverse_spacing[3] = {0, 0, 0};
  int shape[3] = {0, 0, 0};
  int levels = 0;
  float reach[kMaxLevels] = {};
  const float* values = nullptr;  // (levels, shape)

  // The cell that holds a point, or -1.
  FACETALK_HOST_DEVICE int64_t cell(const float* point) const {
    int64_t index = levels > 0 ? 0 : -1;
    for (int a = 0; a < 3 && index >= 0; ++a) {
      const float u = (point[a] - origin[a]) * inverse_spacing[a];
      const bool there = u >= 0.0f && u < static_cast<float>(shape[a]);
      index = there ? index * shape[a] + static_cast<int64_t>(u) : -1;
    }
    return index;
  }

  FACETALK_HOST_DEVICE int64_t cells() const { return static_cast<int64_t>(shape[0]) * shape[1] * shape[2]; }

  // The bound of the first level at a point; `everywhere` outside the lattice.
  FACETALK_HOST_DEVICE float at(const float* point, float everywhere) const {
    const int64_t index = cell(point);
    return index < 0 ? everywhere : values[index];
  }

  // The greatest within `radius` of a point; `everywhere` beyond the lattice and its reach.
  FACETALK_HOST_DEVICE float within(const float* point, float radius, float everywhere) const {
    const int64_t index = cell(point);
    const int64_t size = cells();
    for (int l = 0; index >= 0 && l < levels; ++l) {
      if (reach[l] >= radius) return values[l * size + index];
    }
    return everywhere;
  }

  // How far a point is from where something that grows no faster can have lost `amount`, which is not
  // negative.
  FACETALK_HOST_DEVICE float radius(const float* point, float amount, float everywhere) const {
    float far = 0.0f, passed = 0.0f;
    const int64_t index = cell(point);
    const int64_t size = cells();
    // Out to each reach it is lost no faster than by that level's bound, whatever lies beyond.
    for (int l = 0; index >= 0 && l < levels; ++l) {
      const float bound = values[l * size + index], width = reach[l] - passed;
      if (amount <= bound * width) return far + amount / bound;
      amount -= bound * width;
      far += width;
      passed = reach[l];
    }
    return far + amount / everywhere;
  }
};

}  // namespace facetalk
