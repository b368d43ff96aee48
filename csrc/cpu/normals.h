// Vertex normals of triangle meshes on the CPU.
#pragma once

#include "core/tensor_view.h"

namespace facetalk::cpu {

// vertices (T, V, 3) float32, faces (F, 3) int32, out (T, V, 3) float32, contiguous. The normal of a vertex
// is the sum of its faces' cross products (so weighted by area), made a unit vector; 0 where that sum
// vanishes. Sums run over the faces in their order, so the result is the same for every number of threads.
// Throws ArgumentError for a face that names a vertex that is not there.
void vertex_normals(const TensorView& vertices, const TensorView& faces, const TensorView& out);

}  // namespace facetalk::cpu
