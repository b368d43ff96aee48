// Where a brick lies, from its number.
#pragma once

#include "cuda/field/field.h"
#include "cuda/platform/portable.h"

namespace facetalk::cuda {

struct BrickPlace {
  int64_t frame;
  int at[3];  // brick along each axis
};

template <typename Number>
__device__ __forceinline__ BrickPlace place_by(const FieldBricks& b, Number index) {
  const Number z = static_cast<Number>(b.bricks[2]), y = static_cast<Number>(b.bricks[1]);
  const Number per_frame = static_cast<Number>(b.bricks[0]) * y * z;
  BrickPlace place;
  place.frame = static_cast<int64_t>(index / per_frame);
  Number rest = index % per_frame;
  place.at[2] = static_cast<int>(rest % z);
  rest /= z;
  place.at[1] = static_cast<int>(rest % y);
  place.at[0] = static_cast<int>(rest / y);
  return place;
}

// By 32 bits where they will do: a division of 64 takes some seventy instructions.
__device__ __forceinline__ BrickPlace place_of(const FieldBricks& b, int64_t index) {
  return b.count >> 32 == 0 ? place_by<uint32_t>(b, static_cast<uint32_t>(index))
                            : place_by<int64_t>(b, index);
}

}  // namespace facetalk::cuda
