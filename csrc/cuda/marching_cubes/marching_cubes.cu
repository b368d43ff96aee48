#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "core/marching_cubes_table.h"
#include "core/status.h"
#include "cuda/marching_cubes/marching_cubes.h"
#include "cuda/marching_cubes/marching_cubes_emit.cuh"
#include "cuda/marching_cubes/marching_cubes_grid.cuh"
#include "cuda/platform/error.h"
#include "cuda/platform/scan.cuh"

namespace facetalk::cuda {
namespace {

constexpr int kPackThreads = 256;
constexpr int kPackWords = 4;  // per warp: eight loads in flight for each lane
constexpr int kCountThreads = 128;
constexpr int kCountBlocks = 6;  // per processor: leaves room for all registers

// Signs of all samples. The only kernel that reads every sample, so the one that has to run at the memory's
// speed.
template <bool kBricks>
__global__ void __launch_bounds__(kPackThreads) mc_pack(McView v, unsigned long long* bad) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t warp = (static_cast<int64_t>(blockIdx.x) * kPackThreads + threadIdx.x) / 32;
  const int64_t first = warp * kPackWords;
  const int64_t all = v.all_rows * v.words;
  if (first >= all) return;
  int64_t row = quotient(first, v.words);
  int64_t w = first - row * v.words;
  const int64_t first_row = row;
  const int64_t first_w = w;

  float value[2 * kPackWords];
  unsigned stored = 0;  // bit: this load read a sample
  FACETALK_UNROLL()
  for (int part = 0; part < kPackWords; ++part) {
    FACETALK_UNROLL()
    for (int half = 0; half < 2; ++half) {
      const int64_t k = 64 * w + 32 * half + lane;
      const int n = 2 * part + half;
      value[n] = v.level;  // outside
      if (first + part < all && k < v.nz) {
        if constexpr (kBricks) {
          const McPlace at = place_of(v, row);
          const int64_t brick = brick_at(v, at, k);
          if (brick == kBrickInside) value[n] = -INFINITY;
          if (brick >= 0) {
            value[n] = v.samples[in_brick(brick, at, k)];
            stored |= 1u << n;
          }
        } else {
          value[n] = __ldcs(v.samples + row * v.nz + k);
          stored |= 1u << n;
        }
      }
    }
    if (++w == v.words) {
      w = 0;
      ++row;
    }
  }

  uint64_t mine = 0;
  row = first_row;
  w = first_w;
  FACETALK_UNROLL()
  for (int part = 0; part < kPackWords; ++part) {
    uint64_t word = 0;
    FACETALK_UNROLL()
    for (int half = 0; half < 2; ++half) {
      const int n = 2 * part + half;
      word |= static_cast<uint64_t>(__ballot_sync(kAllLanes, value[n] < v.level)) << (32 * half);
      const bool wrong = (stored >> n & 1u) != 0 && !(fabsf(value[n]) <= 3.402823466e38f);
      const unsigned lanes = __ballot_sync(kAllLanes, wrong);
      if (lanes != 0 && lane == 0) {
        const int64_t index = row * v.nz + 64 * w + 32 * half + (__ffs(static_cast<int>(lanes)) - 1);
        atomicAdd(bad, static_cast<unsigned long long>(__popc(lanes)));
        atomicMax(bad + 1, static_cast<unsigned long long>(0x7fffffffffffffffLL - index));
      }
    }
    if (lane == part) mine = word;
    if (++w == v.words) {
      w = 0;
      ++row;
    }
  }
  if (lane < kPackWords && first + lane < all) v.signs[first + lane] = mine;
}

// What each row makes.
template <bool kBricks>
__global__ void __launch_bounds__(kCountThreads, kCountBlocks) mc_count_rows(McView v) {
  const int group = 1 << v.group_shift;
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kCountThreads + threadIdx.x;
  const int64_t row = thread >> v.group_shift;
  const int part = static_cast<int>(thread) & (group - 1);
  int z = 0;
  int y = 0;
  int x = 0;
  int centres = 0;
  int faces = 0;
  if (row < v.all_rows) {
    const McPlace at = place_of(v, row);
    const bool has_x = at.i + 1 < v.nx;
    const bool has_y = at.j + 1 < v.ny;
    const uint64_t* here = v.signs + row * v.words;
    for (int64_t w = part; w < v.words; w += group) {
      const uint64_t mask = edge_mask(w, v.nz);
      z += __popcll((here[w] ^ shifted(here, w, v.words)) & mask);
      if (has_y) y += __popcll(here[w] ^ here[v.words + w]);
      if (has_x) x += __popcll(here[w] ^ here[v.ny * v.words + w]);
      if (!has_x || !has_y) continue;
      McQuad quad;
      quad.load(v, row, w);
      for (uint64_t left = quad.active(mask); left != 0; left &= left - 1) {
        const int bit = __ffsll(static_cast<long long>(left)) - 1;
        const CellVariant variant = variant_of<kBricks>(v, at, 64 * w + bit, quad.signs(bit));
        faces += variant.triangles;
        centres += variant.centres;
      }
    }
  }
  for (int step = group / 2; step > 0; step /= 2) {
    z += __shfl_xor_sync(kAllLanes, z, step);
    y += __shfl_xor_sync(kAllLanes, y, step);
    x += __shfl_xor_sync(kAllLanes, x, step);
    centres += __shfl_xor_sync(kAllLanes, centres, step);
    faces += __shfl_xor_sync(kAllLanes, faces, step);
  }
  if (row < v.all_rows && part == 0) {
    v.counts[row] = {static_cast<uint32_t>(z), static_cast<uint32_t>(y), static_cast<uint32_t>(x),
                     static_cast<uint32_t>(centres)};
    v.totals[row] = {int64_t{z} + y + x + centres, faces};
  }
}

__global__ void mc_starts(McView v, int64_t frames, int64_t* header) {
  const int64_t frame = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (frame > frames) return;
  const McTotals before = v.totals[frame * v.rows];
  header[2 + 2 * frame] = before.vertices;
  header[3 + 2 * frame] = before.faces;
}

// --- Host

constexpr int64_t kAlign = 256;

size_t aligned(int64_t bytes) { return static_cast<size_t>(ceil_div(bytes, kAlign) * kAlign); }

void check_sizes(const McProblem& p) {
  const std::string shape =
      "(" + std::to_string(p.nx) + ", " + std::to_string(p.ny) + ", " + std::to_string(p.nz) + ")";
  if (p.frames < 1) throw ArgumentError("volume", "at least one frame", std::to_string(p.frames));
  if (p.nx < 2 || p.ny < 2 || p.nz < 2) {
    throw ArgumentError("volume", "at least 2 samples along each axis", "shape " + shape);
  }
  // Grids have at most 2^31 - 1 blocks, and a row's counts are 32 bits.
  constexpr double kMost = 1LL << 36;
  const double samples = static_cast<double>(p.frames) * p.nx * p.ny * std::max<int64_t>(64, p.nz);
  if (samples > kMost || p.nz > 1 << 26) {
    throw ArgumentError("volume", "at most 2^36 samples, 2^26 along z",
                        std::to_string(p.frames) + " times " + shape);
  }
}

McView view_of(const McProblem& p, void* workspace) {
  check_sizes(p);
  McView v{};
  v.samples = p.samples;
  v.bricks = p.bricks;
  v.cases = static_cast<const McCases*>(p.cases);
  v.nx = p.nx;
  v.ny = p.ny;
  v.nz = p.nz;
  v.words = ceil_div(p.nz, 64);
  v.rows = p.nx * p.ny;
  v.all_rows = p.frames * v.rows;
  v.bricks_y = ceil_div(p.ny, kBrickSide);
  v.bricks_z = ceil_div(p.nz, kBrickSide);
  v.frame_bricks = ceil_div(p.nx, kBrickSide) * v.bricks_y * v.bricks_z;
  while (v.group_shift < 5 && (int64_t{1} << v.group_shift) < v.words) ++v.group_shift;
  v.level = p.level;
  const int64_t sizes[3] = {p.nx, p.ny, p.nz};
  for (int a = 0; a < 3; ++a) {
    v.origin[a] = p.origin[a];
    v.step[a] = p.step[a];
    // A step from a sample that float32 still resolves everywhere in the frame, in cells; as on the CPU.
    const double end = p.origin[a] + p.step[a] * static_cast<double>(sizes[a] - 1);
    const double far = std::max(std::abs(p.origin[a]), std::abs(end));
    v.margin[a] =
        std::clamp(2.0 * std::numeric_limits<float>::epsilon() * far / p.step[a], 1.0 / 16384, 0.25);
  }
  auto* memory = static_cast<char*>(workspace);
  v.signs = reinterpret_cast<uint64_t*>(memory);
  memory += aligned(v.all_rows * v.words * 8);
  v.counts = reinterpret_cast<McRowCounts*>(memory);
  memory += aligned(v.all_rows * static_cast<int64_t>(sizeof(McRowCounts)));
  v.totals = reinterpret_cast<McTotals*>(memory);
  return v;
}

// Behind what the view points to.
size_t scan_offset(const McView& v) {
  return aligned(v.all_rows * v.words * 8) + aligned(v.all_rows * static_cast<int64_t>(sizeof(McRowCounts))) +
         aligned((v.all_rows + 1) * static_cast<int64_t>(sizeof(McTotals)));
}

unsigned blocks_for(int64_t threads, int per_block) {
  return static_cast<unsigned>(ceil_div(threads, per_block));
}

}  // namespace

size_t mc_cases_bytes() { return sizeof(McCases); }

void mc_write_cases(void* host) {
  const MarchingCubesTable& table = marching_cubes_table();
  if (table.variants.size() != McCases::kVariants || table.corners.size() != McCases::kCorners) {
    throw ArgumentError("cases", "the table that the kernels were compiled for",
                        std::to_string(table.variants.size()) + " variants with " +
                            std::to_string(table.corners.size()) + " corners");
  }
  auto* cases = static_cast<McCases*>(host);
  std::copy(std::begin(table.ambiguous), std::end(table.ambiguous), cases->ambiguous);
  std::copy(std::begin(table.variant), std::end(table.variant), cases->variant);
  for (int f = 0; f < 6; ++f) {
    std::copy(std::begin(table.face_corners[f]), std::end(table.face_corners[f]), cases->face_corners[f]);
  }
  std::copy(table.variants.begin(), table.variants.end(), cases->variants);
  std::copy(table.corners.begin(), table.corners.end(), cases->corners);
}

size_t mc_workspace_bytes(const McProblem& problem) {
  const McView v = view_of(problem, nullptr);
  return scan_offset(v) + scan_workspace_bytes<McTotals>(v.all_rows);
}

void mc_count(const McProblem& problem, void* workspace, int64_t* header, void* stream_handle) {
  const McView v = view_of(problem, workspace);
  const auto stream = static_cast<cudaStream_t>(stream_handle);
  auto* bad = reinterpret_cast<unsigned long long*>(header);
  check(cudaMemsetAsync(header, 0, 2 * sizeof(int64_t), stream), "mc_count: clearing the header");
  const int64_t warps = ceil_div(v.all_rows * v.words, kPackWords);
  check(launch(v.bricks != nullptr ? mc_pack<true> : mc_pack<false>, blocks_for(32 * warps, kPackThreads),
               kPackThreads, 0, stream, v, bad),
        "mc_pack");
  check(launch(v.bricks != nullptr ? mc_count_rows<true> : mc_count_rows<false>,
               blocks_for(v.all_rows << v.group_shift, kCountThreads), kCountThreads, 0, stream, v),
        "mc_count_rows");
  void* scan = static_cast<char*>(workspace) + scan_offset(v);
  check(exclusive_sum<McTotals>(v.totals, v.totals, v.all_rows, scan, stream), "mc scan");
  check(launch(mc_starts, blocks_for(problem.frames + 1, 128), 128, 0, stream, v, problem.frames, header),
        "mc_starts");
}

void mc_emit(const McProblem& problem, void* workspace, float* vertices, float* normals, int32_t* faces,
             int64_t vertex_room, int64_t face_room, void* stream_handle) {
  const McView v = view_of(problem, workspace);
  const auto stream = static_cast<cudaStream_t>(stream_handle);
  const McOutput out{vertices, normals, faces, vertex_room, face_room};
  const unsigned blocks = blocks_for(v.all_rows << v.group_shift, kMcEmitThreads);
  const bool bricks = v.bricks != nullptr;
  check(launch(bricks ? mc_vertices<true> : mc_vertices<false>, blocks, kMcEmitThreads, 0, stream, v, out),
        "mc_vertices");
  // Only now: vertices inside cells are means of those on edges.
  check(launch(bricks ? mc_faces<true> : mc_faces<false>, blocks, kMcEmitThreads, 0, stream, v, out),
        "mc_faces");
}

}  // namespace facetalk::cuda
