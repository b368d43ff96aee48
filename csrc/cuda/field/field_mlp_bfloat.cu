// The tensor-core kernels of the field in __nv_bfloat16.
#include "cuda/field/field_mlp_launch.cuh"

namespace facetalk::cuda {

template cudaError_t launch_mma<__nv_bfloat16, DeformWork>(const FieldDeviceMlp&, const FieldPlan&,
                                                           const DeformWork&, int64_t, cudaStream_t);
template cudaError_t launch_mma<__nv_bfloat16, MemberWork>(const FieldDeviceMlp&, const FieldPlan&,
                                                           const MemberWork&, int64_t, cudaStream_t);

}  // namespace facetalk::cuda
