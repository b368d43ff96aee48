// Frames found from the canonical cache, on the device: the GPU form of cpu/surface/field_guided.h.
//
// The surface of the identity is known, so a frame has only to learn its deformation, which is evaluated on
// coarse lattices of nodes and interpolated. These kernels say which nodes and samples are wanted and make
// use of what the networks say of them; lists are made, and the networks run, between them
// (facetalk/ops/cuda/surface_guided.py). All frames go together.
//
// Every pointer is device memory that the caller owns; nothing is allocated, copied to the host or waited
// for. Functions launch on `stream` of the current device and throw CudaError with the kernel's name when a
// launch fails.
#pragma once

#include <cstdint>

#include "core/canonical_cache.h"
#include "core/local_bounds.h"
#include "cuda/field/field.h"

namespace facetalk::cuda {

struct FieldGuide {
  FieldBricks bricks;
  float front[3] = {0, 0, 0};  // first sample
  float edge[3] = {0, 0, 0};   // between samples
  float diagonal = 0.0f;       // of a cell
  float half_diagonal = 0.0f;  // of a brick
  CanonicalCache cache;
  float everywhere = 1.0f;  // slope of the canonical field
  LocalBounds slope;
  float stretch = 1.0f;  // of the deformation
  LocalBounds stretches;
};

// Offsets on a lattice of nodes, for every frame. Node n of frame t is number t * nodes + n; a cell is
// numbered as its first node, and cell c lies between nodes c + 1 and c + 2 along each axis.
struct FieldNodes {
  double origin[3] = {0, 0, 0};  // node 0 lies one cell before the first sample
  double step[3] = {1, 1, 1};
  int shape[3] = {0, 0, 0};
  int64_t nodes = 0;        // of a frame
  int spacing = 8;          // samples between nodes
  float* offset = nullptr;  // (frames, nodes, 3)
  float* error = nullptr;   // (frames, nodes) interpolation's where probed, else below 0
};

// States of a stored sample; the last two are added to them.
constexpr uint8_t kSampleFilled = 0;
constexpr uint8_t kSampleQueued = 1;
constexpr uint8_t kSampleEvaluated = 2;
constexpr uint8_t kSampleState = 3;   // mask of the above
constexpr uint8_t kSampleSure = 4;    // its sign was taken for certain
constexpr uint8_t kSampleBroken = 8;  // and turned out wrong

// Values, whether cached, signed lower bounds of the distance, and bounds of the values' errors, each (n), at
// points (n, 3). Values and errors are 0 where nothing is cached.
void canonical_cache_query(const CanonicalCache& cache, const float* points, int64_t n, float* values,
                           uint8_t* covered, float* far, float* error, void* stream);

// table (bricks.count): kBrickWanted where the surface is not farther from a brick than the longest offset of
// the frame, longest (frames); elsewhere the sign.
void guided_near(const FieldGuide& guide, const float* longest, int32_t* table, void* stream);

// In `wanted` (frames * nodes), 0 becomes 1 for the nodes that listed bricks' samples are interpolated from.
void guided_need(const FieldGuide& guide, const FieldNodes& nodes, const int64_t* list, int64_t listed,
                 uint8_t* wanted, void* stream);
// The same for the one cell of each listed brick whose error is probed.
void guided_probes(const FieldGuide& guide, const FieldNodes& nodes, const int64_t* list, int64_t listed,
                   uint8_t* wanted, void* stream);

// points (listed, 3) of listed nodes (-1: any), or of the middles of listed cells.
void guided_node_points(const FieldNodes& nodes, bool middles, const int64_t* list, int64_t listed,
                        float* points, void* stream);
// Errors of listed cells (-1: none), from offsets (listed, 3) in their middles.
void guided_probe_errors(const FieldNodes& nodes, const int64_t* list, int64_t listed, const float* offsets,
                         void* stream);

// Looks at listed bricks again from their interpolated offsets: those that turn out far get their sign.
void guided_cross(const FieldGuide& guide, const FieldNodes& nodes, const int64_t* list, int64_t listed,
                  int32_t* table, void* stream);

// For listed bricks whose level (listed) is below 0: error (listed) as probed on these nodes, and `number` as
// level where that is within the tolerance.
void guided_levels(const FieldGuide& guide, const FieldNodes& nodes, int number, float tolerance,
                   const int64_t* list, int64_t listed, int32_t* level, float* error, void* stream);

// samples and states (listed, 8, 8, 8) of the listed bricks whose level is `number`, and, with `rest`, of
// those below 0. Values are final where level >= 0, not `exact`, and the cache is within its tolerance;
// elsewhere a sign whose doubt queues the sample.
void guided_guess(const FieldGuide& guide, const FieldNodes& nodes, int number, bool rest, bool exact,
                  float cache_tolerance, const int64_t* list, const int32_t* level, const float* error,
                  int64_t listed, float* samples, uint8_t* state, void* stream);

// points (listed, 3) of listed samples (-1: any), numbered 512 * stored brick + place; where (stored): their
// bricks.
void guided_sample_points(const FieldGuide& guide, const int64_t* where, const int64_t* list, int64_t listed,
                          float* points, void* stream);

// values (listed) at canonical points y (listed, 3) from the cache, and left (listed): 1 where the networks
// must be asked (never where the list says -1).
void guided_cached(const FieldGuide& guide, const float* y, const int64_t* list, int64_t listed,
                   float cache_tolerance, float* values, uint8_t* left, void* stream);

// Takes the values (listed) of listed samples (-1: none).
void guided_store(const int64_t* list, int64_t listed, const float* values, float* samples, uint8_t* state,
                  void* stream);

// Queues the samples of stored bricks that are not evaluated and are corners of a cell with both signs.
void guided_contradictions(const FieldGuide& guide, const int64_t* where, int64_t stored,
                           const int32_t* table, const float* samples, uint8_t* state, void* stream);

}  // namespace facetalk::cuda
