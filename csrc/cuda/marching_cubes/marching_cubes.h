// Marching cubes on the device: the mesh of cpu/marching_cubes/marching_cubes.h, with the same vertices and faces in the
// same order, for several frames in one set of launches, from dense volumes or from bricks around the
// surface.
//
//   cases    written once by mc_write_cases into host memory, copied to the device by the caller, kept by it
//   count    signs, counts per row, their scan; the header says how much room the meshes need
//   emit     vertices, then faces, into memory that the caller made for them
// Every pointer of a problem, workspace, header and outputs are device memory of the caller; nothing is
// allocated, copied to the host or waited for. Functions launch on `stream` (a cudaStream_t) of the current
// device and throw CudaError with the kernel's name when a launch fails.
#pragma once

#include <cstddef>
#include <cstdint>

namespace facetalk::cuda {

struct McProblem {
  // Dense: (frames, nx, ny, nz). With bricks: (stored, 8, 8, 8) of all frames, see core/brick_volume.h.
  const float* samples = nullptr;
  // Null when dense, else (frames, ceil(nx / 8), ceil(ny / 8), ceil(nz / 8)): number of a stored brick,
  // kBrickOutside or kBrickInside. The corners of every cell that the surface cuts must be stored.
  const int32_t* bricks = nullptr;
  const void* cases = nullptr;  // mc_cases_bytes() bytes, as written by mc_write_cases
  int64_t frames = 1;
  int64_t nx = 0, ny = 0, nz = 0;  // samples, each at least 2
  float level = 0.0f;
  double origin[3] = {0, 0, 0};  // position of sample (0, 0, 0)
  double step[3] = {1, 1, 1};    // distance between samples, positive
};

// Of the header, in int64: [0] samples that are not finite; [1] 0, or 2^63 - 1 less the flat index of the
// first of them; then for each frame, and once more behind the last: vertices and faces of all frames before
// it.
constexpr int64_t mc_header_size(int64_t frames) { return 2 + 2 * (frames + 1); }

size_t mc_cases_bytes();
void mc_write_cases(void* host);

// Throws ArgumentError for sizes below 2 or too large to number.
size_t mc_workspace_bytes(const McProblem& problem);

void mc_count(const McProblem& problem, void* workspace, int64_t* header, void* stream);

// `workspace` as mc_count left it. vertices: (vertex_room, 3), normals: the same or null, faces: (face_room,
// 3), numbered from 0 in each frame. Writes nothing at all when a room is smaller than what the header says.
void mc_emit(const McProblem& problem, void* workspace, float* vertices, float* normals, int32_t* faces,
             int64_t vertex_room, int64_t face_room, void* stream);

}  // namespace facetalk::cuda
