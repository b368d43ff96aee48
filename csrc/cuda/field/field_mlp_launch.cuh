// Launching the 16-bit kernels of one type: included by field_mlp_half.cu and field_mlp_bfloat.cu alone.
#pragma once

#include "cuda/field/field_mlp_kinds.cuh"

namespace facetalk::cuda {

template <typename T, typename K, typename Work>
cudaError_t launch_kind(const FieldDeviceMlp& mlp, const FieldPlan& plan, const Work& work, int64_t blocks,
                        cudaStream_t stream) {
  MmaShape shape;
  shape.stride = mma_stride(mlp);
  shape.slab_steps = plan.slab_steps;
  shape.slab_bytes = plan.slab_steps * most_tiles(mlp) * kFragmentBytes;
  shape.act_bytes = static_cast<int>(act_bytes<K>(mlp));
  shape.resident = static_cast<int>(resident_bytes(mlp));
  return launch(field_mlp_mma<T, Work, K::kTilesM, K::kTilesN, K::kRows, K::kColumns, K::kChunks, K::kStages>,
                dim3(static_cast<unsigned>(blocks)), dim3(MlpOf<K>::kThreads * MlpOf<K>::kGroups),
                static_cast<size_t>(plan.shared_bytes), stream, mlp, shape, work);
}

template <typename T, typename Work>
cudaError_t launch_mma(const FieldDeviceMlp& mlp, const FieldPlan& plan, const Work& work, int64_t blocks,
                       cudaStream_t stream) {
  cudaError_t status = cudaSuccess;
  visit_kind(plan.kind,
             [&](auto k) { status = launch_kind<T, decltype(k)>(mlp, plan, work, blocks, stream); });
  return status;
}

}  // namespace facetalk::cuda
