// Launching the steps of an inversion.
#include "cuda/field/field_invert.cuh"
#include "cuda/field/field_launch.cuh"

namespace facetalk::cuda {

void field_invert_start(const FieldWalk& walk, const float* starts, void* stream) {
  launch_threads<kInvertThreads>("field_invert_start", field_invert_start_kernel, walk.count, stream, walk,
                                 starts);
}

void field_invert_plan(const FieldWalk& walk, int step, float tolerance, uint8_t* due, void* stream) {
  launch_threads<kInvertThreads>("field_invert_plan", field_invert_plan_kernel, walk.count, stream, walk,
                                 step, tolerance, due);
}

void field_invert_points(const FieldWalk& walk, bool ahead, float* points, void* stream) {
  launch_threads<kInvertThreads>("field_invert_points", field_invert_points_kernel, walk.listed, stream, walk,
                                 ahead, points);
}

void field_invert_sharpen(const FieldWalk& walk, void* stream) {
  launch_threads<kInvertThreads>("field_invert_sharpen", field_invert_sharpen_kernel, walk.listed, stream,
                                 walk);
}

void field_invert_advance(const FieldWalk& walk, const float* points, void* stream) {
  launch_threads<kInvertThreads>("field_invert_advance", field_invert_advance_kernel, walk.listed, stream,
                                 walk, points);
}

}  // namespace facetalk::cuda
