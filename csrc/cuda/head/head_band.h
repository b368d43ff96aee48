// The bricks of a lattice that hold a head's surface, on the device: facetalk/ops/cuda/surface_band.py in C++, for one
// frame at a time. See csrc/cuda/surface/field_band.cuh for what is left out and why.
#pragma once

#include <vector>

#include "cuda/field/field.h"
#include "cuda/head/bound_head.h"

namespace facetalk::cuda {

// Sample positions of a lattice on the device, until the call ends.
struct DeviceLattice {
  const float* axis[3] = {nullptr, nullptr, nullptr};
  int shape[3] = {0, 0, 0};
  // Nodes: every second sample along an axis from the first, and the last.
  const float* node_axis[3] = {nullptr, nullptr, nullptr};
  int nodes[3] = {0, 0, 0};
};

DeviceLattice lattice_on(Workplace& place, const std::vector<float> (&axis)[3]);

// A sampled field as core/brick_volume.h has it, until the call ends.
struct DeviceBricks {
  const int32_t* table = nullptr;
  const float* samples = nullptr;
  int64_t stored = 0;
};

// frame: as BoundHead::deform takes it. lipschitz: the steepest that the field may be where samples are left out.
DeviceBricks find_bricks(const BoundHead& head, const DeviceLattice& lattice, const float* frame,
                         float lipschitz);

}  // namespace facetalk::cuda
