// Planning and launching the field's kernel for compute capability 9.0.
#include <algorithm>

#include "cuda/field/field_mlp_kinds.cuh"
#include "cuda/field/field_mlp_wgmma.cuh"
#include "cuda/platform/error.h"

namespace facetalk::cuda {
namespace {

constexpr int kMostStages = 6;

// Of the larger pass.
int columns_of(int outputs) { return std::max(wgmma_waiting(outputs), wgmma_columns(outputs)); }

WgmmaShape shape_of(const FieldDeviceMlp& mlp, int stages) {
  WgmmaShape shape{stages, 0, wgmma_depth(mlp.width) * kWgmmaActBytes};
  for (int l = 1; l + 1 < mlp.layers; ++l)
    shape.stage_bytes = std::max(shape.stage_bytes, columns_of(mlp.layer[l].outputs) * kSwizzleDepth * 2);
  return shape;
}

int64_t shared_bytes(const FieldDeviceMlp& mlp, const WgmmaShape& shape) {
  return shape.act_bytes + int64_t{shape.stages} * shape.stage_bytes + kWgmmaPoints * mlp.coords * 4 +
         kWgmmaGroups * kTileBytes + 2 * shape.stages * 8;
}

template <typename T>
cudaError_t launch_as(const FieldDeviceMlp& mlp, const FieldPlan& plan, const DeformWork& work,
                      int64_t blocks, cudaStream_t stream) {
  return launch(field_mlp_wgmma<T, DeformWork>, dim3(static_cast<unsigned>(blocks)), dim3(kWgmmaThreads),
                static_cast<size_t>(plan.shared_bytes), stream, mlp, shape_of(mlp, plan.stages), work);
}

}  // namespace

int field_wgmma_columns(int outputs) { return wgmma_columns(outputs); }

std::string field_wgmma_missing() {
#if defined(FACETALK_EMULATE_CUDA) || defined(FACETALK_CUDA_90A)
  int device = 0, major = 0, minor = 0;
  check(cudaGetDevice(&device), "field_mlp: cudaGetDevice");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
        "field_mlp: device limits");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device),
        "field_mlp: device limits");
  if (major == 9 && minor == 0) return "";
  return "the device has compute capability " + std::to_string(major) + "." + std::to_string(minor) +
         ", it needs 9.0";
#else
  return "the core was built without architecture 90a";
#endif
}

bool plan_wgmma(const FieldDeviceMlp& mlp, int64_t shared_limit, FieldPlan& plan) {
  for (int stages = kMostStages; stages >= 2; --stages) {
    const int64_t bytes = shared_bytes(mlp, shape_of(mlp, stages));
    if (bytes > shared_limit) continue;
    plan.kind = kWarpgroups;
    plan.points = kWgmmaPoints;
    plan.slab_steps = kSwizzleDepth / 16;
    plan.stages = stages;
    plan.shared_bytes = bytes;
    return true;
  }
  return false;
}

cudaError_t launch_wgmma(const FieldDeviceMlp& mlp, const FieldPlan& plan, const DeformWork& work,
                         int64_t blocks, cudaStream_t stream) {
  return plan.precision == FieldPrecision::kFloat16
             ? launch_as<__half>(mlp, plan, work, blocks, stream)
             : launch_as<__nv_bfloat16>(mlp, plan, work, blocks, stream);
}

}  // namespace facetalk::cuda
