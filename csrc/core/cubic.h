// Cubic interpolation between evenly spaced samples.
#pragma once

#include "core/host_device.h"

namespace facetalk {

// Weights of the samples at -1, 0, 1 and 2 for a point at t, by Lagrange's cubic through them.
FACETALK_HOST_DEVICE inline void cubic_weights(float t, float* w) {
  const float a = t + 1.0f;
  const float b = t - 1.0f;
  const float c = t - 2.0f;
  w[0] = t * b * c * (-1.0f / 6.0f);
  w[1] = a * b * c * 0.5f;
  w[2] = a * t * c * -0.5f;
  w[3] = a * t * b * (1.0f / 6.0f);
}

}  // namespace facetalk
