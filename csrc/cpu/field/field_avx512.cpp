// The field kernel for AVX-512 (F, BW, DQ, VL); see field_block.inl.h.
#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 takes the deliberately undefined operands inside its own intrinsics for a mistake of ours.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include "cpu/field/field_block.inl.h"

namespace facetalk::cpu {

const FieldKernels kFieldAvx512 = {kPanel, &scratch_floats, &evaluate_block};

}  // namespace facetalk::cpu
