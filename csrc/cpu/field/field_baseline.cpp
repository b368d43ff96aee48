// The field kernel for any CPU that the compiler targets by default; see field_block.inl.h.
#include "cpu/field/field_block.inl.h"

namespace facetalk::cpu {

const FieldKernels kFieldBaseline = {kPanel, &scratch_floats, &evaluate_block};

}  // namespace facetalk::cpu
