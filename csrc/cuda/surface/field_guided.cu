// Launching what finds frames from the canonical cache.
#include "cuda/field/field_launch.cuh"
#include "cuda/surface/field_guided.cuh"

namespace facetalk::cuda {

void canonical_cache_query(const CanonicalCache& cache, const float* points, int64_t n, float* values,
                           uint8_t* covered, float* far, float* error, void* stream) {
  launch_threads<kGuidedThreads>("canonical_cache_query", canonical_cache_query_kernel, n, stream, cache,
                                 points, n, values, covered, far, error);
}

void guided_near(const FieldGuide& guide, const float* longest, int32_t* table, void* stream) {
  launch_threads<kGuidedThreads>("guided_near", guided_near_kernel, guide.bricks.count, stream, guide,
                                 longest, table);
}

void guided_need(const FieldGuide& guide, const FieldNodes& nodes, const int64_t* list, int64_t listed,
                 uint8_t* wanted, void* stream) {
  launch_threads<kGuidedThreads>("guided_need", guided_need_kernel,
                                 listed * kMostWindow * kMostWindow * kMostWindow, stream, guide, nodes, list,
                                 listed, wanted);
}

void guided_probes(const FieldGuide& guide, const FieldNodes& nodes, const int64_t* list, int64_t listed,
                   uint8_t* wanted, void* stream) {
  launch_threads<kGuidedThreads>("guided_probes", guided_probes_kernel, listed, stream, guide, nodes, list,
                                 listed, wanted);
}

void guided_node_points(const FieldNodes& nodes, bool middles, const int64_t* list, int64_t listed,
                        float* points, void* stream) {
  launch_threads<kGuidedThreads>("guided_node_points", guided_node_points_kernel, listed, stream, nodes,
                                 middles ? 1.5 : 0.0, list, listed, points);
}

void guided_probe_errors(const FieldNodes& nodes, const int64_t* list, int64_t listed, const float* offsets,
                         void* stream) {
  launch_threads<kGuidedThreads>("guided_probe_errors", guided_probe_errors_kernel, listed, stream, nodes,
                                 list, listed, offsets);
}

void guided_cross(const FieldGuide& guide, const FieldNodes& nodes, const int64_t* list, int64_t listed,
                  int32_t* table, void* stream) {
  launch_threads<kGuidedThreads>("guided_cross", guided_cross_kernel, listed * kGuidedThreads, stream, guide,
                                 nodes, list, table);
}

void guided_levels(const FieldGuide& guide, const FieldNodes& nodes, int number, float tolerance,
                   const int64_t* list, int64_t listed, int32_t* level, float* error, void* stream) {
  launch_threads<kGuidedThreads>("guided_levels", guided_levels_kernel, listed, stream, guide, nodes, number,
                                 tolerance, list, listed, level, error);
}

void guided_guess(const FieldGuide& guide, const FieldNodes& nodes, int number, bool rest, bool exact,
                  float cache_tolerance, const int64_t* list, const int32_t* level, const float* error,
                  int64_t listed, float* samples, uint8_t* state, void* stream) {
  launch_threads<kGuidedThreads>("guided_guess", guided_guess_kernel, listed * kGuidedThreads, stream, guide,
                                 nodes, number, rest, exact, cache_tolerance, list, level, error, samples,
                                 state);
}

void guided_sample_points(const FieldGuide& guide, const int64_t* where, const int64_t* list, int64_t listed,
                          float* points, void* stream) {
  launch_threads<kGuidedThreads>("guided_sample_points", guided_sample_points_kernel, listed, stream, guide,
                                 where, list, listed, points);
}

void guided_cached(const FieldGuide& guide, const float* y, const int64_t* list, int64_t listed,
                   float cache_tolerance, float* values, uint8_t* left, void* stream) {
  launch_threads<kGuidedThreads>("guided_cached", guided_cached_kernel, listed, stream, guide, y, list,
                                 listed, cache_tolerance, values, left);
}

void guided_store(const int64_t* list, int64_t listed, const float* values, float* samples, uint8_t* state,
                  void* stream) {
  launch_threads<kGuidedThreads>("guided_store", guided_store_kernel, listed, stream, list, listed, values,
                                 samples, state);
}

void guided_contradictions(const FieldGuide& guide, const int64_t* where, int64_t stored,
                           const int32_t* table, const float* samples, uint8_t* state, void* stream) {
  launch_threads<kGuidedThreads>("guided_contradictions", guided_contradictions_kernel,
                                 stored * kGuidedThreads, stream, guide, where, table, samples, state);
}

}  // namespace facetalk::cuda
