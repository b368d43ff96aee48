// The tensor-core kernels of the field in __half.
#include "cuda/field/field_mlp_launch.cuh"

namespace facetalk::cuda {

template cudaError_t launch_mma<__half, DeformWork>(const FieldDeviceMlp&, const FieldPlan&,
                                                    const DeformWork&, int64_t, cudaStream_t);
template cudaError_t launch_mma<__half, MemberWork>(const FieldDeviceMlp&, const FieldPlan&,
                                                    const MemberWork&, int64_t, cudaStream_t);

}  // namespace facetalk::cuda
