// How far the probed error of interpolated offsets is trusted, on the CPU and on the GPU.
#pragma once

namespace facetalk {

// A brick takes the largest error probed in it and in the bricks around it: each is probed at one place, the
// middle of a cell, and what is narrower than a cell (a crease beside the lips) may pass beside that. What no
// probe saw may be this much worse.
constexpr float kProbeMargin = 1.5f;

}  // namespace facetalk
