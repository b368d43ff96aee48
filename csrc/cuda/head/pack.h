// The networks of a bound head in the layouts of the field's kernels (FieldDeviceMlp), from the CPU's panels.
// facetalk/ops/cuda/field_pack.py packs them for Python, by torch on the device where they lie, which an engine
// does not have; tests/cuda/test_field_pack.py holds the two together.
#pragma once

#include <vector>

#include "core/field.h"
#include "cuda/field/field.h"
#include "cuda/head/workplace.h"

namespace facetalk::cuda {

struct PackedNetwork {
  FieldDeviceMlp mlp;
  DeviceBuffer coord_weights, weights;  // that mlp points at
};

// `sets`: of weights. `staged`: for
// warpgroup products, 16 bit and one set only. Waits until the weights are on the device.
PackedNetwork pack_network(const FieldMlp& from, int sets, FieldPrecision precision, bool staged,
                           Workplace& place);

// (rows, to.bias_count) from the CPU's (rows, from.bias_count).
std::vector<float> pack_biases(const FieldMlp& from, const FieldDeviceMlp& to, int64_t rows,
                               const float* biases);

}  // namespace facetalk::cuda
