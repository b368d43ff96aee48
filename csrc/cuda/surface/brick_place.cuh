// Where a brick lies, from its number.
#pragma once

#include "cuda/field/field.h"
#include "cuda/platform/portable.h"

namespace facetalk::cuda {

struct BrickPlace {
  int64_t frame;
  int at[3];  // brick along each axis
};

__device__ __forceinline__ BrickPlace place_of(const FieldBricks& b, int64_t index) {
  const int64_t per_frame = static_cast<int64_t>(b.bricks[0]) * b.bricks[1] * b.bricks[2];
  BrickPlace place;
  place.frame = index / per_frame;
  int64_t rest = index - place.frame * per_frame;
  place.at[2] = static_cast<int>(rest % b.bricks[2]);
  rest /= b.bricks[2];
  place.at[1] = static_cast<int>(rest % b.bricks[1]);
  place.at[0] = static_cast<int>(rest / b.bricks[1]);
  return place;
}

}  // namespace facetalk::cuda
