// The bound field on the device: what its kernels take, and the functions that launch them.
//
// Every pointer is device memory that the caller owns, workspace included; nothing is allocated, copied to
// the host or waited for here. Functions launch on `stream` of the current device and throw CudaError with
// the kernel's name when a launch fails.
//
// The deformation runs as one MLP over all points. The identity ensemble runs as a mixture of experts:
//   route      members that matter at each point, by the cull rule of the CPU backend, and blending scales
//   offsets    where each (member, block of points) writes its pairs: a scan, so the order is always the same
//   fill       pairs (member, point), grouped by member, points ascending
//   field_mlp  each member's MLP over its pairs
//   combine    a point's contributions, summed in the order of members
// Nothing is added atomically, and a row of a matrix product never sees another row, so results do not depend
// on how points are grouped.
#pragma once

#include <cstdint>
#include <string>

#include "core/brick_volume.h"
#include "core/field.h"

namespace facetalk::cuda {

enum class FieldPrecision : int { kFloat32 = 0, kFloat16 = 1, kBFloat16 = 2 };

constexpr int kFieldRouteBlock = 256;    // points of a block of route, fill and combine
constexpr int kFieldMaxHalfWidth = 512;  // hidden units of a layer in 16 bit
constexpr int kFieldChunkTiles = 32;     // 8-output tiles of a layer that are computed together in 16 bit

// Where a layer's parameters lie. Outputs are padded with zeros to a multiple of 8, and those of hidden layers to
// one of 64 where biases and coordinate weights lie.
struct FieldDeviceLayer {
  int hidden = 0;       // hidden units read; 0 in the first layer
  int outputs = 0;      // not padded
  int bias = 0;         // floats before its biases in a row of biases
  int coords = -1;      // floats before its coordinate weights (outputs, C) in a set's, -1: reads none
  int64_t weights = 0;  // elements before its hidden weights in a set's
};

// A packed network. Hidden layers are in softplus units (see core/field.h); the last layer's hidden products
// are multiplied by 1 / kSoftplusScale in float32, so that its 16-bit weights keep their size.
//
// Hidden weights in float32: (hidden, outputs), input-major. In 16 bit: B fragments of mma.m16n8k16, in the
// order (chunk, 16 inputs, tile of 8 outputs, lane, 4), where the tiles of a hidden layer are split evenly
// into `chunks`; a lane holds inputs 2t, 2t+1, 2t+8, 2t+9 of output g (t = lane % 4, g = lane / 4).
//
// In 16 bit with `staged`, for compute capability 9.0 and networks of one set: hidden layers in the order
// (pass, 64 inputs, output of the pass, place of 8 inputs, 8), where passes have 256 outputs as long as more
// are left, and the last field_wgmma_columns, padded with zeros; the inputs 8 c to 8 c + 7 of the 64 lie in
// place c ^ (output % 8). The last layer in fragments.
struct FieldDeviceMlp {
  int layers = 0;
  int coords = 0;                        // C
  int outputs = 0;                       // of the last layer
  int width = 0;                         // widest hidden layer
  bool staged = false;                   // how hidden weights lie
  int chunks = 1;                        // 1, or 2 where a hidden layer has over 8 * kFieldChunkTiles outputs
  int bias_count = 0;                    // floats of a row of biases
  int coord_count = 0;                   // floats of a set's coordinate weights
  int64_t weight_count = 0;              // elements of a set's hidden weights
  const float* coord_weights = nullptr;  // (sets, coord_count)
  const void* weights = nullptr;         // (sets, weight_count) of the precision
  FieldDeviceLayer layer[kMaxFieldLayers];
};

// Points in segments of one length, each segment with its own row of biases (a frame's).
struct FieldSegments {
  const float* points = nullptr;  // (segments or 1, length, 3)
  int64_t point_stride = 0;       // floats from a segment's points to the next one's; 0: all share them
  int64_t length = 0;             // points of a segment
  int64_t count = 0;              // segments
  const int32_t* row = nullptr;   // (count) row of biases of a segment; null: its own number
  const float* bias = nullptr;    // (rows, bias_count)
  bool smooth = false;            // multiply offsets by the spatial weight
  FieldSmoothing smoothing{};
  float* y = nullptr;         // (count, length, outputs) canonical queries, may be null
  float* offsets = nullptr;   // (count, length, outputs), may be null
  float* jacobian = nullptr;  // (count, length, outputs, 3), float32 only, may be null
  float* seed = nullptr;      // (count, length, outputs, 3) of y by the point, float32 only, may be null
};

// Members over their pairs.
struct FieldPairs {
  const float* y = nullptr;             // (n, C) canonical queries
  const float* seed = nullptr;          // (n, C, 3) derivatives of y, or null: no slopes
  const float* anchor = nullptr;        // (K, 3)
  const float* mirror = nullptr;        // (K + 1)
  const int32_t* member_set = nullptr;  // (K + 1)
  const float* bias = nullptr;          // (K + 1, bias_count)
  const int32_t* start = nullptr;       // (K + 2) first pair of a member
  const int32_t* tile_start = nullptr;  // (K + 2) first tile of a member
  const int32_t* point = nullptr;       // (pairs) point of a pair
  float* value = nullptr;               // (pairs)
  float* slope = nullptr;               // (pairs, 3) by the point
  int anchors = 0;                      // K
};

// How members blend, and the routing of one batch of points.
struct FieldRoute {
  FieldBlending blending = FieldBlending::kNphm;
  int anchors = 0;                // K
  int coords = 3;                 // C
  int neighbours = 0;             // MonoNPHM
  float blend_std = 0.0f;         // MonoNPHM
  float cut = 0.0f;               // see FieldModel
  const float* anchor = nullptr;  // (K, 3)
  const float* y = nullptr;       // (n, C)
  int64_t n = 0;                  // 0: field_route writes nothing
  // With blocks = ceil(n / kFieldRouteBlock):
  uint32_t* mask = nullptr;         // (K + 1, blocks, kFieldRouteBlock / 32) a bit for each point of a member
  int32_t* block_start = nullptr;   // (K + 1, blocks) pairs of the member before the block (first: its pairs)
  int32_t* member_total = nullptr;  // (K + 1)
  int32_t* start = nullptr;         // (K + 2)
  int32_t* tile_start = nullptr;    // (K + 2)
  int32_t* point = nullptr;         // (pairs)
  float* inverse = nullptr;         // (n) one over the blending denominator
  float* unshrink = nullptr;        // (n) see Blend of the CPU backend
  float* sigma = nullptr;           // (n) MonoNPHM's scale
  int32_t* scale_from = nullptr;    // (n) MonoNPHM: anchor whose distance is the scale, or -1
};

struct FieldCombine {
  const float* value = nullptr;  // (pairs)
  const float* slope = nullptr;  // (pairs, 3), with gradient
  const float* seed = nullptr;   // (n, C, 3), with gradient
  float* sdf = nullptr;          // (n), may be null
  float* raw_sdf = nullptr;      // (n), may be null
  float* gradient = nullptr;     // (n, 3), may be null
};

// Pairs that a point can have at most.
inline int field_most_pairs(const FieldRoute& route) {
  const bool near = route.blending == FieldBlending::kMonoNphm && route.neighbours < route.anchors;
  return (near ? route.neighbours : route.anchors) + 1;
}

// How a network runs on a device: chosen once, because routing needs the points of a tile.
struct FieldPlan {
  FieldPrecision precision = FieldPrecision::kFloat32;
  bool tangents = false;  // float32 only
  int kind = 0;           // of the kernel: see field_mlp.cu
  int points = 0;         // of a tile
  int slab_steps = 0;     // steps of 16 inputs that a stage of the weight ring holds
  int stages = 0;         // of the weight ring; 0: all hidden weights stay in shared memory
  int64_t shared_bytes = 0;
  int blocks = 0;  // most blocks worth launching
};

// Outputs of the last pass over a layer with that many, where weights are `staged`; and why the current
// device has no kernel for such networks, "" where it has.
int field_wgmma_columns(int outputs);
std::string field_wgmma_missing();

// Chooses a kernel for the current device, or for a device with `shared_limit` bytes of shared memory a block
// where that is not 0. Throws ArgumentError when the network is too wide for it.
FieldPlan field_plan(const FieldDeviceMlp& mlp, FieldPrecision precision, bool tangents,
                     int64_t shared_limit);

void field_deform(const FieldDeviceMlp& mlp, const FieldPlan& plan, const FieldSegments& segments,
                  void* stream);
void field_members(const FieldDeviceMlp& mlp, const FieldPlan& plan, const FieldPairs& pairs, void* stream);

// `tile_points`: plan.points of the members' plan.
void field_route(const FieldRoute& route, int tile_points, void* stream);
void field_combine(const FieldRoute& route, const FieldCombine& combine, void* stream);

// A lattice of samples in cubes, for several frames at a time: bricks of 8 x 8 x 8 (see core/brick_volume.h),
// or blocks of half that side while they are searched for. The number of one is
//   ((frame * bricks[0] + i) * bricks[1] + j) * bricks[2] + k
constexpr int32_t kBrickWanted = -3;  // in a table: to be evaluated

struct FieldBricks {
  const float* axis[3] = {nullptr, nullptr, nullptr};  // (shape[a]) sample positions
  int shape[3] = {0, 0, 0};                            // samples
  int side = kBrickSide;
  int bricks[3] = {0, 0, 0};  // along an axis; the last may reach beyond the lattice
  int64_t count = 0;          // of all frames
};

// table (count) of the signs of blocks of any even side, kBrickWanted where the surface may be, from the field at
// nodes: (frames, (shape + 1) / 2 + 1 along each axis), at every second sample and the last, negative inside, of
// which the corners of the blocks that are looked at count. parents: the table of blocks of twice the side, those
// with a sign being left out; null: all are looked at. lipschitz: the steepest that the field may be. See
// field_band.cuh.
void field_classify(const FieldBricks& blocks, const float* nodes, const int32_t* parents, float lipschitz,
                    int32_t* table, void* stream);
// points (listed, side, side, side, 3) of listed bricks (-1: any), every step-th sample from their first.
void field_brick_points(const FieldBricks& bricks, const int64_t* list, int64_t listed, int side, int step,
                        float* points, void* stream);
// wanted (count): 1 where a table without kBrickWanted, or samples (stored, side^3), contradict a sign.
void field_contradictions(const FieldBricks& bricks, const int32_t* table, const float* samples,
                          uint8_t* wanted, void* stream);

// Walkers of an inversion: (frames, targets) of them, `count` in all; see field_invert.cuh. `list` names
// walkers, of which offsets and Jacobians are given in its order; -1 fills places.
constexpr int kFieldWalkerFloats = 22;

struct FieldWalk {
  float* state = nullptr;  // (count, kFieldWalkerFloats); the first 3 are x, the 7th is what is left
  int64_t count = 0;
  const float* target = nullptr;  // (targets, 3)
  int64_t targets = 0;
  const int64_t* list = nullptr;  // (listed)
  int64_t listed = 0;
  int outputs = 0;                  // of the deformation
  const float* offsets = nullptr;   // (listed, outputs)
  const float* jacobian = nullptr;  // (listed, outputs, 3)
};

// From starts (targets, 3); here offsets and Jacobians are those of all walkers.
void field_invert_start(const FieldWalk& walk, const float* starts, void* stream);
// due (count): 0 at rest, 1 steps, 3 needs field_invert_sharpen before it steps.
void field_invert_plan(const FieldWalk& walk, int step, float tolerance, uint8_t* due, void* stream);
// points (listed, 3) of the walkers, or those of their next steps.
void field_invert_points(const FieldWalk& walk, bool ahead, float* points, void* stream);
void field_invert_sharpen(const FieldWalk& walk, void* stream);
void field_invert_advance(const FieldWalk& walk, const float* points, void* stream);

}  // namespace facetalk::cuda
