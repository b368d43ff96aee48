// The field kernel for AVX2 with FMA; see field_block.inl.h.
#include "cpu/field/field_block.inl.h"

namespace facetalk::cpu {

const FieldKernels kFieldAvx2 = {kPanel, &scratch_floats, &evaluate_block};

}  // namespace facetalk::cpu
