// Choosing and launching the field's MLP kernels.
#include <algorithm>
#include <string>
#include <type_traits>

#include "core/status.h"
#include "cuda/field/field_mlp_fma.cuh"
#include "cuda/field/field_mlp_kinds.cuh"
#include "cuda/platform/error.h"

namespace facetalk::cuda {
namespace {

struct DeviceLimits {
  int64_t shared = 0;  // bytes a block can have
  int processors = 1;
};

DeviceLimits device_limits() {
  int device = 0, shared = 0, processors = 0;
  check(cudaGetDevice(&device), "field_mlp: cudaGetDevice");
  check(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
        "field_mlp: device limits");
  check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device),
        "field_mlp: device limits");
  return {shared, processors};
}

// Fills the plan if the kind fits.
bool try_kind(const FieldDeviceMlp& mlp, const DeviceLimits& limits, int kind, FieldPlan& plan) {
  bool fits = false;
  visit_kind(kind, [&](auto k) {
    using K = decltype(k);
    const int64_t fixed = fixed_bytes<K>(mlp);
    for (int steps : {4, 2, 1}) {
      const int64_t weights = K::kStages == 0
                                  ? resident_bytes(mlp)
                                  : int64_t{K::kStages} * steps * most_tiles(mlp) * kFragmentBytes;
      if (fixed + weights > limits.shared) continue;
      plan.kind = kind;
      plan.points = MlpOf<K>::kPoints;
      plan.slab_steps = steps;
      plan.stages = K::kStages;
      plan.shared_bytes = fixed + weights;
      fits = true;
      return;
    }
  });
  return fits;
}

template <int kColumns, bool kTangents, typename Work>
cudaError_t launch_fma(const FieldDeviceMlp& mlp, const FieldPlan& plan, const Work& work, int64_t blocks,
                       cudaStream_t stream) {
  const int rows = static_cast<int>(plan.shared_bytes / (2 * kColumns * 4));
  return launch(field_mlp_fma<Work, kColumns, kTangents>, dim3(static_cast<unsigned>(blocks)), dim3(256),
                static_cast<size_t>(plan.shared_bytes), stream, mlp, work, rows);
}

// tiles < 0: only the device knows.
template <typename Work>
void run(const char* name, const FieldDeviceMlp& mlp, const FieldPlan& plan, const Work& work, int64_t tiles,
         cudaStream_t stream) {
  if (tiles == 0) return;
  const int64_t blocks = tiles < 0 ? plan.blocks : std::min<int64_t>(tiles, plan.blocks);
  cudaError_t status = cudaSuccess;
  if (plan.precision == FieldPrecision::kFloat32) {
    const bool wide = plan.kind == kColumns32;
    status = plan.tangents ? (wide ? launch_fma<32, true>(mlp, plan, work, blocks, stream)
                                   : launch_fma<16, true>(mlp, plan, work, blocks, stream))
                           : (wide ? launch_fma<32, false>(mlp, plan, work, blocks, stream)
                                   : launch_fma<16, false>(mlp, plan, work, blocks, stream));
  } else if (plan.kind == kWarpgroups) {
    if constexpr (std::is_same_v<Work, DeformWork>) {
      status = launch_wgmma(mlp, plan, work, blocks, stream);
    } else {
      status = cudaErrorNotSupported;  // more than one set
    }
  } else {
    status = plan.precision == FieldPrecision::kFloat16
                 ? launch_mma<__half>(mlp, plan, work, blocks, stream)
                 : launch_mma<__nv_bfloat16>(mlp, plan, work, blocks, stream);
  }
  check(status, name);
}

}  // namespace

FieldPlan field_plan(const FieldDeviceMlp& mlp, FieldPrecision precision, bool tangents,
                     int64_t shared_limit) {
  DeviceLimits limits = shared_limit ? DeviceLimits{shared_limit, 2} : device_limits();
  FieldPlan plan;
  plan.precision = precision;
  plan.tangents = tangents;
  plan.blocks = limits.processors;
  const std::string width = std::to_string(mlp.width) + " hidden units";
  const std::string memory = std::to_string(limits.shared) + " bytes of shared memory";
  if (precision == FieldPrecision::kFloat32) {
    for (int columns : {32, 16}) {
      const int64_t rows = mlp.coords + std::max((mlp.width + 7) / 8 * 8, tiles_of(mlp.outputs) * 8);
      const int64_t bytes = 2 * rows * columns * 4;
      if (bytes > limits.shared) continue;
      plan.kind = columns == 32 ? kColumns32 : kColumns16;
      plan.points = columns / (tangents ? 4 : 1);
      plan.shared_bytes = bytes;
      // Small networks leave room for more blocks on a processor; more than eight of 256 threads do not run.
      plan.blocks *= static_cast<int>(std::clamp<int64_t>(limits.shared / (bytes + 1024), 1, 8));
      return plan;
    }
    throw ArgumentError("field", "a network that fits " + memory, width);
  }
  if (tangents) throw ArgumentError("precision", "float32 where derivatives are asked for", "a 16-bit one");
  if (mlp.width > kFieldMaxHalfWidth)
    throw ArgumentError("field", "at most " + std::to_string(kFieldMaxHalfWidth) + " hidden units in 16 bit",
                        width);
  if (mlp.staged) {
    if (const std::string missing = field_wgmma_missing(); !missing.empty())
      throw ArgumentError("field", "weights in fragments: " + missing, "stages");
    if (plan_wgmma(mlp, limits.shared, plan)) return plan;
  } else if (mlp.chunks == 1) {
    if (try_kind(mlp, limits, kNarrowResident, plan)) return plan;
    if (try_kind(mlp, limits, kNarrow, plan)) return plan;
  } else {
    if (try_kind(mlp, limits, kWide, plan)) return plan;
    if (try_kind(mlp, limits, kWideSmall, plan)) return plan;
  }
  throw ArgumentError("field", "a network that fits " + memory, width);
}

void field_deform(const FieldDeviceMlp& mlp, const FieldPlan& plan, const FieldSegments& segments,
                  void* stream) {
  const DeformWork work{segments, mlp.bias_count, mlp.outputs, plan.points};
  run("field_deform", mlp, plan, work, ceil_div(segments.length, plan.points) * segments.count,
      static_cast<cudaStream_t>(stream));
}

void field_members(const FieldDeviceMlp& mlp, const FieldPlan& plan, const FieldPairs& pairs, void* stream) {
  const MemberWork work{pairs, mlp.bias_count, mlp.coords, plan.points};
  run("field_members", mlp, plan, work, -1, static_cast<cudaStream_t>(stream));
}

}  // namespace facetalk::cuda
