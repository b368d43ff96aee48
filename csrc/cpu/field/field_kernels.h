// The three builds of the block kernel (one per instruction set) and the choice between them.
#pragma once

#include <cstddef>

#include "core/field.h"

namespace facetalk::cpu {

constexpr int kFieldBlock = 1024;  // most points in a block

struct FieldKernels {
  int panel;  // outputs in a panel of packed weights
  // Floats of scratch memory (64-byte aligned) that evaluate() needs for this model.
  size_t (*scratch)(const FieldModel& model, bool gradients);
  void (*evaluate)(const FieldBlock& block, float* scratch);
};

extern const FieldKernels kFieldBaseline;
#if defined(__x86_64__)
extern const FieldKernels kFieldAvx2;
extern const FieldKernels kFieldAvx512;
#endif

}  // namespace facetalk::cpu
