// Launching the search for the samples near the surface.
#include "cuda/field/field_launch.cuh"
#include "cuda/surface/field_band.cuh"

namespace facetalk::cuda {

void field_classify(const FieldBricks& blocks, const float* nodes, const int32_t* parents, float lipschitz,
                    int32_t* table, void* stream) {
  launch_threads<kBandThreads>("field_classify", field_classify_kernel, blocks.count, stream, blocks, nodes,
                               parents, lipschitz, table);
}

void field_brick_points(const FieldBricks& bricks, const int64_t* list, int64_t listed, int side, int step,
                        float* points, void* stream) {
  launch_threads<kBandThreads>("field_brick_points", field_brick_points_kernel,
                               int64_t{side} * side * side * listed, stream, bricks, list, listed, side, step,
                               points);
}

void field_contradictions(const FieldBricks& bricks, const int32_t* table, const float* samples,
                          uint8_t* wanted, void* stream) {
  launch_threads<kBandThreads>("field_contradictions", field_contradictions_kernel, bricks.count, stream,
                               bricks, table, samples, wanted);
}

}  // namespace facetalk::cuda
