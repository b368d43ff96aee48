// Constants of the two families' blending weights, which CPU and CUDA share. Plain data, fit for SIMD files
// and kernels.
#pragma once

namespace facetalk {

// NPHM: exp(-(d + 1e-5)^2 / 0.01); exp(-0.2 / 0.01) for the member without anchor; 1e-6 in the denominator.
constexpr float kVariance = 0.01f;
constexpr float kDistanceBias = 1e-5f;
constexpr float kBackgroundExponent = 0.2f;
constexpr float kDenominator = 1e-6f;
// MonoNPHM: exp(-(d / s)^2 / 2) with s = 8th-nearest distance / blend_std; 0.75 for the member without
// anchor; 1e-8.
constexpr int kScaleRank = 8;
constexpr float kMonoBackground = 0.75f;
constexpr float kMonoDenominator = 1e-8f;

}  // namespace facetalk
