// Launching the routing and blending of the identity ensemble.
#include "core/status.h"
#include "cuda/field/field_blend.cuh"
#include "cuda/platform/error.h"

namespace facetalk::cuda {

void field_route(const FieldRoute& route, int tile_points, void* stream_of_caller) {
  if (route.n == 0) return;
  // Pairs are counted in 32 bit; callers split larger batches.
  if (route.n * field_most_pairs(route) > INT32_MAX) {
    throw ArgumentError(
        "n", "at most " + std::to_string(INT32_MAX / field_most_pairs(route)) + " points at a time",
        std::to_string(route.n));
  }
  const auto stream = static_cast<cudaStream_t>(stream_of_caller);
  const int64_t blocks = ceil_div(route.n, kFieldRouteBlock);
  const dim3 grid(static_cast<unsigned>(blocks)), block(kFieldRouteBlock);
  check(launch(field_route_kernel, grid, block, 0, stream, route), "field_route");
  check(launch(field_offsets_kernel, dim3(static_cast<unsigned>(route.anchors + 1)), block, 0, stream, route,
               blocks),
        "field_offsets");
  check(launch(field_starts_kernel, dim3(1), dim3(1), 0, stream, route, tile_points), "field_starts");
  check(launch(field_fill_kernel, grid, block, 0, stream, route), "field_fill");
}

void field_combine(const FieldRoute& route, const FieldCombine& combine, void* stream) {
  if (route.n == 0) return;
  const dim3 grid(static_cast<unsigned>(ceil_div(route.n, kFieldRouteBlock)));
  const auto kernel = combine.gradient ? field_combine_kernel<true> : field_combine_kernel<false>;
  check(launch(kernel, grid, dim3(kFieldRouteBlock), 0, static_cast<cudaStream_t>(stream), route, combine),
        "field_combine");
}

}  // namespace facetalk::cuda
