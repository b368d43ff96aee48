// How fast a bound head's field can change, from samples: facetalk/nphm/surface/slopes.py in C++.
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <vector>

#include "cpu/surface/field_band.h"

namespace facetalk::head {

// Slopes of the canonical field in a box, and points near its surface.
struct Slopes {
  cpu::SlopeBounds bounds;
  std::vector<float> levels;  // what bounds.slope looks at
  std::vector<float> near;    // (n, 3)
};

Slopes estimate_slopes(const cpu::FieldRunner& runner, const float (&bounds)[6]);

// The bounds with that on the deformation's stretch in a frame.
cpu::SlopeBounds with_stretch(const Slopes& slopes, const cpu::FieldRunner& runner,
                              const cpu::FieldFrames& frame);

// The slopes of the last box that was asked for; for many threads.
class SlopeCache {
 public:
  std::shared_ptr<const Slopes> find(const cpu::FieldRunner& runner, const float (&bounds)[6]);
  void forget();

 private:
  std::mutex mutex_;
  std::array<float, 6> box_{};
  std::shared_ptr<const Slopes> known_;
};

}  // namespace facetalk::head
