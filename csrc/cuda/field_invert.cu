// Launching the steps of an inversion.
#include "cuda/error.h"
#include "cuda/field_invert.cuh"

namespace facetalk::cuda {
namespace {

template <typename... Params, typename... Args>
void run(const char* name, void (*kernel)(Params...), int64_t threads, void* stream, Args... args) {
  if (threads == 0) return;
  const dim3 grid(static_cast<unsigned>(ceil_div(threads, kInvertThreads)));
  check(launch(kernel, grid, dim3(kInvertThreads), 0, static_cast<cudaStream_t>(stream), args...), name);
}

}  // namespace

void field_invert_start(const FieldWalk& walk, const float* starts, void* stream) {
  run("field_invert_start", field_invert_start_kernel, walk.count, stream, walk, starts);
}

void field_invert_plan(const FieldWalk& walk, int step, float tolerance, uint8_t* due, void* stream) {
  run("field_invert_plan", field_invert_plan_kernel, walk.count, stream, walk, step, tolerance, due);
}

void field_invert_points(const FieldWalk& walk, bool ahead, float* points, void* stream) {
  run("field_invert_points", field_invert_points_kernel, walk.listed, stream, walk, ahead, points);
}

void field_invert_sharpen(const FieldWalk& walk, void* stream) {
  run("field_invert_sharpen", field_invert_sharpen_kernel, walk.listed, stream, walk);
}

void field_invert_advance(const FieldWalk& walk, const float* points, void* stream) {
  run("field_invert_advance", field_invert_advance_kernel, walk.listed, stream, walk, points);
}

}  // namespace facetalk::cuda
