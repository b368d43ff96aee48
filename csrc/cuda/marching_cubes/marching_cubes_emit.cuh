// Emission of marching cubes: vertices on cut edges, then faces and the vertices inside cells.
//
// A warp holds the words of some neighbouring rows, one per lane, and its lanes share what these make evenly:
// item t of the warp goes to lane t % 32, whichever word it comes from. Additions of double products that
// must agree with the CPU to the bit are written so that nvcc cannot fuse them.
#pragma once

#include "cuda/marching_cubes/marching_cubes_grid.cuh"

namespace facetalk::cuda {

constexpr int kMcEmitThreads = 128;
constexpr int kMcEmitBlocks =
    4;  // per processor: as many as leave room for all registers, so that none is spilled

struct McOutput {
  float* vertices;  // (vertex_room, 3)
  float* normals;   // the same or null
  int32_t* faces;   // (face_room, 3)
  int64_t vertex_room, face_room;

  __device__ __forceinline__ bool has_room(const McView& v) const {
    const McTotals all = v.totals[v.all_rows];
    return all.vertices <= vertex_room && all.faces <= face_room;
  }
};

__device__ __forceinline__ double plus_product(double a, double b, double c) {
  return __dadd_rn(a, __dmul_rn(b, c));
}

__device__ __forceinline__ double length_of(const double (&d)[3]) {
  return __dsqrt_rn(plus_product(plus_product(__dmul_rn(d[0], d[0]), d[1], d[1]), d[2], d[2]));
}

// Moves a place by `by` samples along an axis.
__device__ __forceinline__ void move(McPlace& at, int64_t& k, int axis, int by) {
  if (axis == 0) at.i += by;
  if (axis == 1) at.j += by;
  if (axis == 2) k += by;
}

// Whether another edge of this sample is cut too, so that another vertex could fall on the same spot.
__device__ __forceinline__ bool is_shared(const McView& v, const McPlace& at, int64_t k) {
  const int64_t index[3] = {at.i, at.j, k};
  const int64_t size[3] = {v.nx, v.ny, v.nz};
  const bool here = is_inside(v, at, k);
  int cut = 0;
  FACETALK_UNROLL()
  for (int axis = 0; axis < 3; ++axis) {
    FACETALK_UNROLL()
    for (int by = -1; by <= 1; by += 2) {
      if (index[axis] + by < 0 || index[axis] + by >= size[axis]) continue;
      McPlace other = at;
      int64_t other_k = k;
      move(other, other_k, axis, by);
      cut += is_inside(v, other, other_k) != here;
    }
  }
  return cut > 1;
}

// Derivative of the samples along each axis, by central differences, one-sided at the border.
template <bool kBricks>
__device__ __forceinline__ void gradient(const McView& v, const McPlace& at, int64_t k, double (&out)[3]) {
  const int64_t index[3] = {at.i, at.j, k};
  const int64_t size[3] = {v.nx, v.ny, v.nz};
  FACETALK_UNROLL()
  for (int axis = 0; axis < 3; ++axis) {
    const bool low = index[axis] > 0;
    const bool high = index[axis] + 1 < size[axis];
    McPlace before = at;
    McPlace after = at;
    int64_t before_k = k;
    int64_t after_k = k;
    move(before, before_k, axis, low ? -1 : 0);
    move(after, after_k, axis, high ? 1 : 0);
    const double rise = static_cast<double>(sample_at<kBricks>(v, after, after_k)) -
                        static_cast<double>(sample_at<kBricks>(v, before, before_k));
    out[axis] = rise / ((low && high ? 2.0 : 1.0) * v.step[axis]);
  }
}

template <bool kBricks>
__device__ __forceinline__ void write_vertex(const McView& v, const McOutput& out, int64_t row, int64_t k,
                                             int axis, int64_t id) {
  const McPlace from = place_of(v, row);
  McPlace to = from;
  int64_t to_k = k;
  move(to, to_k, axis, 1);
  const double a = sample_at<kBricks>(v, from, k);
  const double b = sample_at<kBricks>(v, to, to_k);
  double t = (static_cast<double>(v.level) - a) / (b - a);
  // A sample at the level would gather the vertices of all its cut edges on one spot; see
  // cpu/marching_cubes/marching_cubes.cpp.
  const double margin = v.margin[axis];
  if (t < margin && is_shared(v, from, k)) t = margin;
  if (t > 1.0 - margin && is_shared(v, to, to_k)) t = 1.0 - margin;
  const int64_t index[3] = {from.i, from.j, k};
  FACETALK_UNROLL()
  for (int d = 0; d < 3; ++d) {
    const double place = __dadd_rn(static_cast<double>(index[d]), d == axis ? t : 0.0);
    out.vertices[3 * id + d] = static_cast<float>(plus_product(v.origin[d], v.step[d], place));
  }
  if (out.normals == nullptr) return;
  double start[3];
  double end[3];
  gradient<kBricks>(v, from, k, start);
  gradient<kBricks>(v, to, to_k, end);
  double normal[3];
  FACETALK_UNROLL()
  for (int d = 0; d < 3; ++d) normal[d] = plus_product(start[d], t, end[d] - start[d]);
  const double length = length_of(normal);
  FACETALK_UNROLL()
  for (int d = 0; d < 3; ++d) {
    // Where the gradient vanishes the edge itself still points from inside to outside.
    const double fallback = d == axis ? (b > a ? 1.0 : -1.0) : 0.0;
    out.normals[3 * id + d] = static_cast<float>(length > 0 ? normal[d] / length : fallback);
  }
}

template <bool kBricks>
__global__ void __launch_bounds__(kMcEmitThreads, kMcEmitBlocks) mc_vertices(McView v, McOutput out) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int group = 1 << v.group_shift;
  const int64_t warp = (static_cast<int64_t>(blockIdx.x) * kMcEmitThreads + threadIdx.x) / 32;
  const int64_t first_row = warp << (5 - v.group_shift);
  const int64_t row = first_row + (lane >> v.group_shift);
  const int part = lane & (group - 1);
  const bool there =
      row < v.all_rows && v.totals[row + 1].vertices != v.totals[row].vertices && out.has_room(v);
  if (__any_sync(kAllLanes, there) == 0) return;

  int64_t next[3] = {0, 0, 0};  // number of the next vertex along x, y, z
  bool has[3] = {false, false, there};
  if (there) {
    const McPlace at = place_of(v, row);
    const McRowCounts counts = v.counts[row];
    has[0] = at.i + 1 < v.nx;
    has[1] = at.j + 1 < v.ny;
    next[2] = v.totals[row].vertices;
    next[1] = next[2] + counts.z;
    next[0] = next[1] + counts.y;
  }
  for (int64_t w0 = 0; w0 < v.words; w0 += group) {
    const int64_t w = w0 + part;
    const bool in = there && w < v.words;
    const uint64_t* here = v.signs + row * v.words;
    FACETALK_UNROLL()
    for (int axis = 2; axis >= 0; --axis) {
      uint64_t cut = 0;
      if (in && has[axis]) {
        cut = axis == 2   ? (here[w] ^ shifted(here, w, v.words)) & edge_mask(w, v.nz)
              : axis == 1 ? here[w] ^ here[v.words + w]
                          : here[w] ^ here[v.ny * v.words + w];
      }
      const int own = __popcll(cut);
      const int in_group = inclusive_in_group(own, lane, group);
      const int in_warp = inclusive_in_group(own, lane, 32);
      const int before = in_warp - own;
      const int total = __shfl_sync(kAllLanes, in_warp, 31);
      const int64_t id = next[axis] + in_group - own;
      for (int t0 = 0; t0 < total; t0 += 32) {
        const int t = t0 + lane;
        const int owner = owner_of(t, before);
        const uint64_t bits = __shfl_sync(kAllLanes, cut, owner);
        const int n = t - __shfl_sync(kAllLanes, before, owner);
        const int64_t its_id = __shfl_sync(kAllLanes, id, owner) + n;
        if (t >= total) continue;
        const int64_t its_row = first_row + (owner >> v.group_shift);
        const int64_t its_word = w0 + (owner & (group - 1));
        write_vertex<kBricks>(v, out, its_row, 64 * its_word + select_bit(bits, n), axis, its_id);
      }
      next[axis] += __shfl_sync(kAllLanes, in_group, group - 1, group);
    }
  }
}

// The mean of the values around a cell's own vertex, from `base` on; numbers stand in column `thread` of ids.
__device__ __forceinline__ void place_centre(const McCases& cases, const CellVariant& variant,
                                             const int32_t (*ids)[kMcEmitThreads], int thread, float* base,
                                             bool unit) {
  double sum[3] = {0, 0, 0};
  int n = 0;
  for (int t = 0; t < variant.triangles; ++t) {
    const uint8_t* triangle = cases.corners + variant.first + 3 * t;
    if (triangle[2] != kCentre) continue;
    for (int a = 0; a < 3; ++a)
      sum[a] += static_cast<double>(base[3 * int64_t{ids[triangle[0]][thread]} + a]);
    ++n;
  }
  double scale = 1.0 / n;
  if (unit) {
    const double length = length_of(sum);
    scale = length > 0 ? 1.0 / length : 0.0;
  }
  for (int a = 0; a < 3; ++a)
    base[3 * int64_t{ids[kCentre][thread]} + a] = static_cast<float>(sum[a] * scale);
}

template <bool kBricks>
__global__ void __launch_bounds__(kMcEmitThreads, kMcEmitBlocks) mc_faces(McView v, McOutput out) {
  FACETALK_SHARED(int32_t, ids, [kCentre + 1][kMcEmitThreads]);  // of the vertices of each thread's cell
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % 32;
  const int group = 1 << v.group_shift;
  const int64_t warp = (static_cast<int64_t>(blockIdx.x) * kMcEmitThreads + threadIdx.x) / 32;
  const int64_t first_row = warp << (5 - v.group_shift);
  const int64_t row = first_row + (lane >> v.group_shift);
  const int part = lane & (group - 1);
  // Rows without a full neighbourhood have no faces.
  const bool there = row < v.all_rows && v.totals[row + 1].faces != v.totals[row].faces && out.has_room(v);
  if (__any_sync(kAllLanes, there) == 0) return;

  // Numbers, within the frame, of the first cut edges: see McQuad::cut. And of the first centre.
  int next[8] = {0, 0, 0, 0, 0, 0, 0, 0};
  int centre = 0;
  int row_centres = 0;
  if (there) {
    const int64_t base = v.totals[quotient(row, v.rows) * v.rows].vertices;
    FACETALK_UNROLL()
    for (int r = 0; r < 4; ++r) {
      const int64_t its_row = row + (r >> 1) * v.ny + (r & 1);
      const McRowCounts counts = v.counts[its_row];
      next[r] = static_cast<int>(v.totals[its_row].vertices - base);
      const int y = next[r] + static_cast<int>(counts.z);
      const int x = y + static_cast<int>(counts.y);
      if ((r & 1) == 0) next[4 + (r >> 1)] = y;
      if (r < 2) next[6 + r] = x;
      if (r == 0) {
        centre = x + static_cast<int>(counts.x);
        row_centres = static_cast<int>(counts.centres);
      }
    }
  }
  // Centres are counted over the warp below; what earlier rows of it make must not count in this one.
  const int leading = part == 0 ? row_centres : 0;
  const int centres_before = inclusive_in_group(leading, lane, 32) - leading;
  centre -= __shfl_sync(kAllLanes, centres_before, lane & ~(group - 1));

  // Faces of the warp's rows follow one another.
  int64_t face = v.totals[first_row].faces;
  int centres_made = 0;
  for (int64_t w0 = 0; w0 < v.words; w0 += group) {
    const int64_t w = w0 + part;
    McQuad quad;
    uint64_t live = 0;
    uint64_t mask = 0;
    if (there && w < v.words) {
      quad.load(v, row, w);
      mask = edge_mask(w, v.nz);
      live = quad.active(mask);
    } else {
      quad.clear();
    }
    int first[8];
    FACETALK_UNROLL()
    for (int n = 0; n < 8; ++n) {
      const int own = __popcll(quad.cut(n, mask));
      const int in_group = inclusive_in_group(own, lane, group);
      first[n] = next[n] + in_group - own;
      next[n] += __shfl_sync(kAllLanes, in_group, group - 1, group);
    }
    const int own = __popcll(live);
    const int in_warp = inclusive_in_group(own, lane, 32);
    const int before = in_warp - own;
    const int total = __shfl_sync(kAllLanes, in_warp, 31);
    for (int t0 = 0; t0 < total; t0 += 32) {
      const int t = t0 + lane;
      const int owner = owner_of(t, before);
      const uint64_t cells = __shfl_sync(kAllLanes, live, owner);
      const int n = t - __shfl_sync(kAllLanes, before, owner);
      int start[8];
      FACETALK_UNROLL()
      for (int e = 0; e < 8; ++e) start[e] = __shfl_sync(kAllLanes, first[e], owner);
      const int its_centre = __shfl_sync(kAllLanes, centre, owner);
      CellVariant variant = {0, 0, 0};
      int64_t its_row = 0;
      if (t < total) {
        its_row = first_row + (owner >> v.group_shift);
        const int64_t its_word = w0 + (owner & (group - 1));
        const int bit = select_bit(cells, n);
        McQuad around;
        around.load(v, its_row, its_word);
        const uint64_t below = (uint64_t{1} << bit) - 1;
        const uint64_t its_mask = edge_mask(its_word, v.nz);
        FACETALK_UNROLL()
        for (int e = 0; e < 8; ++e) {
          const uint64_t cut = around.cut(e, its_mask);
          const int id = start[e] + __popcll(cut & below);
          if (e < 4) {
            ids[e][thread] = id;
          } else {
            ids[2 * e - 4][thread] = id;
            ids[2 * e - 3][thread] = id + static_cast<int>(cut >> bit & 1);
          }
        }
        variant = variant_of<kBricks>(v, place_of(v, its_row), 64 * its_word + bit, around.signs(bit));
      }
      // At most 12 triangles a cell: both sums fit one register.
      const int made = variant.triangles | variant.centres << 16;
      const int with_mine = inclusive_in_group(made, lane, 32);
      const int all_made = __shfl_sync(kAllLanes, with_mine, 31);
      if (variant.triangles != 0) {
        ids[kCentre][thread] = its_centre + centres_made + ((with_mine - made) >> 16);
        int32_t* to = out.faces + 3 * (face + ((with_mine - made) & 0xffff));
        const uint8_t* corner = v.cases->corners + variant.first;
        for (int c = 0; c < 3 * variant.triangles; ++c) to[c] = ids[corner[c]][thread];
        if (variant.centres != 0) {
          const int64_t base = 3 * v.totals[quotient(its_row, v.rows) * v.rows].vertices;
          place_centre(*v.cases, variant, ids, thread, out.vertices + base, false);
          if (out.normals != nullptr) place_centre(*v.cases, variant, ids, thread, out.normals + base, true);
        }
      }
      face += all_made & 0xffff;
      centres_made += all_made >> 16;
    }
  }
}

}  // namespace facetalk::cuda
