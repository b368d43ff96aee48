// The marching-cubes case table, generated from a rule instead of copied.
//
// Signs: a sample below the level is inside. Corner c of a cell sits at offset (c >> 2 & 1, c >> 1 & 1, c &
// 1) along (x, y, z), so bit c of a case says that corner c is inside. Cell edges: 0-3 along z at (dx, dy) =
// 00, 01, 10, 11; 4-7 along y at (dx, dz); 8-11 along x at (dy, dz).
//
// Rule: each face of the cell is cut by segments with the inside on one hand; segments join into closed
// loops; each loop becomes a disk. A face whose corner signs alternate can be cut in two ways, and the
// asymptotic decider picks one from the four values of the face alone (Nielson and Hamann, "The Asymptotic
// Decider: Resolving the Ambiguity in Marching Cubes", IEEE Visualization 1991), so the two cells that share
// the face agree and the surface is closed. To be manifold as well, no triangle edge other than a segment may
// lie in a face of the cell: a neighbour could draw the same diagonal, and four triangles would meet there.
// Loops without such a triangulation (9 of Chernyaev's 33 cases need it, "Marching Cubes 33", CERN CN/95-17,
// 1995) get a vertex of their own inside the cell and a fan. Interior ambiguities (a tunnel between two
// sheets of one cell) are resolved as "no tunnel".
#pragma once

#include <cstdint>
#include <vector>

#include "core/marching_cubes_cell.h"

namespace facetalk {

struct MarchingCubesTable {
  uint8_t ambiguous[256];  // bit f: face f has alternating signs
  uint16_t variant[256];   // first variant; add the faces' decisions, packed in the order of their bits
  uint8_t face_corners[6][4];
  std::vector<CellVariant> variants;
  std::vector<uint8_t>
      corners;  // edge numbers, three per triangle, counter-clockwise seen from outside (above the level)
};

const MarchingCubesTable& marching_cubes_table();

}  // namespace facetalk
