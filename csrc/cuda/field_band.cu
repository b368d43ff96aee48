// Launching the search for the bricks that hold the surface.
#include "cuda/error.h"
#include "cuda/field_band.cuh"

namespace facetalk::cuda {
namespace {

dim3 blocks_for(int64_t threads) { return dim3(static_cast<unsigned>(ceil_div(threads, kBandThreads))); }

}  // namespace

void field_classify(const FieldBricks& bricks, const float* node_sdf, const float* node_raw, float lipschitz,
                    int32_t* table, void* stream) {
  if (bricks.count == 0) return;
  check(launch(field_classify_kernel, blocks_for(bricks.count), dim3(kBandThreads), 0,
               static_cast<cudaStream_t>(stream), bricks, node_sdf, node_raw, lipschitz, table),
        "field_classify");
}

void field_brick_points(const FieldBricks& bricks, const int64_t* list, int64_t listed, float* points,
                        int32_t* frame, void* stream) {
  if (listed == 0) return;
  check(launch(field_brick_points_kernel, blocks_for(512 * listed), dim3(kBandThreads), 0,
               static_cast<cudaStream_t>(stream), bricks, list, listed, points, frame),
        "field_brick_points");
}

void field_contradictions(const FieldBricks& bricks, const int32_t* table, const float* samples,
                          uint8_t* wanted, void* stream) {
  if (bricks.count == 0) return;
  check(launch(field_contradictions_kernel, blocks_for(32 * bricks.count), dim3(kBandThreads), 0,
               static_cast<cudaStream_t>(stream), bricks, table, samples, wanted),
        "field_contradictions");
}

}  // namespace facetalk::cuda
