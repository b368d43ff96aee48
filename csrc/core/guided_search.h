// What the search for a frame from the canonical cache goes by, on the CPU and on CUDA; Python asks for it.
#pragma once

namespace facetalk {

struct GuidedSearch {
  static constexpr float kLongestMargin = 1.25f;  // over the longest offset seen on a few nodes
  static constexpr int kFirstStride = 3;          // between those nodes
  static constexpr int kLeastShare = 4;  // of the coarsest spacing: finer lattices need much memory at 1024^3
  static constexpr int kFinestSpacing = 4;  // finer lattices cost as much as the samples near the surface
};

}  // namespace facetalk
