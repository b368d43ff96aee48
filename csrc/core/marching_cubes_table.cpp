#include "core/marching_cubes_table.h"

#include <algorithm>
#include <array>
#include <limits>
#include <stdexcept>

#include "core/memory.h"

namespace facetalk {
namespace {

constexpr int kEdges = 12;
constexpr int kFaces = 6;
constexpr int kNone = -1;

struct Cell {
  std::array<std::array<int, 2>, kEdges> edge_corners;
  std::array<std::array<int, 4>, kFaces> face_corners;  // counter-clockwise seen from outside the cell
  std::array<std::array<int, 8>, 8> edge_between;
  std::array<uint8_t, kEdges> edge_faces;  // bit set of the two faces of an edge
};

int corner_at(const std::array<int, 3>& offset) { return offset[0] << 2 | offset[1] << 1 | offset[2]; }

Cell make_cell() {
  Cell cell;
  for (auto& row : cell.edge_between) row.fill(kNone);
  int edge = 0;
  for (int axis : {2, 1, 0}) {
    const int u = axis == 0 ? 1 : 0;
    const int v = axis == 2 ? 1 : 2;
    for (int a : {0, 1}) {
      for (int b : {0, 1}) {
        std::array<int, 3> offset{};
        offset[u] = a;
        offset[v] = b;
        const int from = corner_at(offset);
        offset[axis] = 1;
        const int to = corner_at(offset);
        cell.edge_corners[edge] = {from, to};
        cell.edge_between[from][to] = cell.edge_between[to][from] = edge++;
      }
    }
  }
  int face = 0;
  for (int axis : {0, 1, 2}) {
    for (int side : {0, 1}) {
      constexpr int kRing[4][2] = {{0, 0}, {1, 0}, {1, 1}, {0, 1}};
      for (int i = 0; i < 4; ++i) {
        std::array<int, 3> offset{};
        offset[axis] = side;
        offset[(axis + 1) % 3] = kRing[i][0];
        offset[(axis + 2) % 3] = kRing[i][1];
        cell.face_corners[face][side == 1 ? i : 3 - i] = corner_at(offset);
      }
      ++face;
    }
  }
  for (int e = 0; e < kEdges; ++e) {
    cell.edge_faces[e] = 0;
    for (int f = 0; f < kFaces; ++f) {
      const auto& ring = cell.face_corners[f];
      const bool has_both = std::count(ring.begin(), ring.end(), cell.edge_corners[e][0]) +
                                std::count(ring.begin(), ring.end(), cell.edge_corners[e][1]) ==
                            2;
      if (has_both) cell.edge_faces[e] |= static_cast<uint8_t>(1 << f);
    }
  }
  return cell;
}

using Loop = std::vector<int>;  // edges of the cell, in order

// Cuts every face and joins the segments. joined: bit f says that the inside corners of ambiguous face f are
// connected.
std::vector<Loop> trace(const Cell& cell, int signs, int joined) {
  std::array<int, kEdges> next;
  next.fill(kNone);
  for (int f = 0; f < kFaces; ++f) {
    const auto& ring = cell.face_corners[f];
    // Crossings in order around the face, beginning with one from outside to inside: in, out [, in, out].
    std::vector<int> crossings;
    int start = kNone;
    for (int i = 0; i < 4 && start == kNone; ++i) {
      if (!(signs >> ring[i] & 1) && (signs >> ring[(i + 1) % 4] & 1)) start = i;
    }
    if (start == kNone) continue;
    for (int i = start; i < start + 4; ++i) {
      const int a = ring[i % 4];
      const int b = ring[(i + 1) % 4];
      if ((signs >> a & 1) != (signs >> b & 1)) crossings.push_back(cell.edge_between[a][b]);
    }
    // A segment runs from an "in" to an "out", so that seen from outside the cell the inside lies to its
    // right; loops then turn counter-clockwise seen from outside the surface.
    if (crossings.size() == 2) {
      next[crossings[0]] = crossings[1];
    } else if (joined >> f & 1) {
      next[crossings[2]] = crossings[1];
      next[crossings[0]] = crossings[3];
    } else {
      next[crossings[0]] = crossings[1];
      next[crossings[2]] = crossings[3];
    }
  }
  std::vector<Loop> loops;
  std::array<bool, kEdges> done{};
  for (int e = 0; e < kEdges; ++e) {
    if (next[e] == kNone || done[e]) continue;
    Loop loop;
    for (int at = e; !done[at]; at = next[at]) {
      done[at] = true;
      loop.push_back(at);
    }
    loops.push_back(loop);
  }
  return loops;
}

// Sum of squares of twice the distance between the midpoints of two edges.
int distance(const Cell& cell, int a, int b) {
  int sum = 0;
  for (int shift : {2, 1, 0}) {
    int d = 0;
    for (int end : {0, 1})
      d += (cell.edge_corners[a][end] >> shift & 1) - (cell.edge_corners[b][end] >> shift & 1);
    sum += d * d;
  }
  return sum;
}

// The triangulation of a loop with the shortest diagonals, none of them in a face of the cell, by dynamic
// programming over its chords (Klincsek, 1980). Empty when there is none.
std::vector<int> triangulate(const Cell& cell, const Loop& loop) {
  constexpr int kForbidden = 1 << 20;
  const int n = static_cast<int>(loop.size());
  auto chord = [&](int i, int j) {
    if (j - i == 1 || j - i == n - 1) return 0;
    return cell.edge_faces[loop[i]] & cell.edge_faces[loop[j]] ? kForbidden
                                                               : distance(cell, loop[i], loop[j]);
  };
  std::vector<std::vector<int>> cost(n, std::vector<int>(n, 0));
  std::vector<std::vector<int>> apex(n, std::vector<int>(n, kNone));
  for (int span = 2; span < n; ++span) {
    for (int i = 0; i + span < n; ++i) {
      const int j = i + span;
      cost[i][j] = std::numeric_limits<int>::max();
      for (int k = i + 1; k < j; ++k) {
        const int c = cost[i][k] + cost[k][j] + chord(i, k) + chord(k, j);
        if (c < cost[i][j]) {
          cost[i][j] = c;
          apex[i][j] = k;
        }
      }
    }
  }
  std::vector<int> corners;
  if (cost[0][n - 1] >= kForbidden) return corners;
  std::vector<std::array<int, 2>> open{{0, n - 1}};
  while (!open.empty()) {
    const auto [i, j] = open.back();
    open.pop_back();
    if (j - i < 2) continue;
    const int k = apex[i][j];
    corners.insert(corners.end(), {loop[i], loop[k], loop[j]});
    open.push_back({i, k});
    open.push_back({k, j});
  }
  return corners;
}

MarchingCubesTable make_table() {
  const Cell cell = make_cell();
  MarchingCubesTable table;
  for (int f = 0; f < kFaces; ++f) {
    std::copy(cell.face_corners[f].begin(), cell.face_corners[f].end(), table.face_corners[f]);
  }
  for (int signs = 0; signs < 256; ++signs) {
    std::vector<int> ambiguous;
    table.ambiguous[signs] = 0;
    for (int f = 0; f < kFaces; ++f) {
      bool in[4];
      for (int i = 0; i < 4; ++i) in[i] = signs >> cell.face_corners[f][i] & 1;
      if (in[0] == in[2] && in[1] == in[3] && in[0] != in[1]) {
        ambiguous.push_back(f);
        table.ambiguous[signs] |= static_cast<uint8_t>(1 << f);
      }
    }
    table.variant[signs] = static_cast<uint16_t>(table.variants.size());
    for (int decisions = 0; decisions < 1 << ambiguous.size(); ++decisions) {
      int joined = 0;
      for (size_t i = 0; i < ambiguous.size(); ++i) joined |= (decisions >> i & 1) << ambiguous[i];
      CellVariant variant{static_cast<uint16_t>(table.corners.size()), 0, 0};
      for (const Loop& loop : trace(cell, signs, joined)) {
        std::vector<int> corners = triangulate(cell, loop);
        if (corners.empty()) {
          ++variant.centres;
          for (size_t i = 0; i < loop.size(); ++i) {
            corners.insert(corners.end(), {loop[i], loop[(i + 1) % loop.size()], kCentre});
          }
        }
        for (int c : corners) table.corners.push_back(static_cast<uint8_t>(c));
      }
      variant.triangles = static_cast<uint8_t>((table.corners.size() - variant.first) / 3);
      // A fact about the cube, on which the kernels rely: one number per cell is enough to place its own
      // vertex.
      if (variant.centres > 1) throw std::logic_error("marching cubes: two centre vertices in one cell");
      table.variants.push_back(variant);
    }
  }
  return table;
}

}  // namespace

const MarchingCubesTable& marching_cubes_table() {
  static const MarchingCubesTable table = [] {
    const MemoryScope own({});  // it stays until the process ends
    return make_table();
  }();
  return table;
}

}  // namespace facetalk
