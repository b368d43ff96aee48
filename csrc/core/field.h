// Neural parametric head fields in the form that the kernels run: codes folded into biases, weights in
// panels.
//
// A network is a stack of layers  z = W [c; h] + b,  where c are the coordinates of a query (only in the
// first layer and at the skip) and h the hidden units before. Everything that is constant over the points of
// a head, identity, expression, the 1/sqrt(2) of the skip, is inside W and b already.
//
// Hidden layers run in units of kSoftplusScale = 100 log2(e), in which the networks' softplus (beta = 100)
// becomes max(z, 0) + log2(1 + 2^-|z|): the scale cancels between hidden layers, so only weights at both ends
// and biases carry it.
#pragma once

#include <cstdint>

namespace facetalk {

constexpr float kSoftplusScale = 144.269504088896340736f;  // 100 log2(e)
constexpr int kMaxFieldLayers = 32;
constexpr int kMaxFieldCoords = 16;
// Largest coordinate that a field is asked for, head units: squares of distances, and those over the blending's
// variance, stay far inside float32. A head is about 2 wide.
constexpr float kMostCoordinate = 1e15f;

// One layer of a packed network. Weights of a set are panels of at most `panel` outputs each, in order; a
// panel of r outputs holds r weights per input (coordinates first, then hidden units), so a kernel reads it
// front to back.
struct FieldLayer {
  int coords = 0;  // coordinates read: 0, or the network's coords
  int hidden = 0;  // hidden units read
  int outputs = 0;
  int panels = 0;                  // outputs are split into this many panels of nearly equal size
  int bias_offset = 0;             // first of its biases among a member's
  const float* weights = nullptr;  // (sets, outputs * (coords + hidden))

  // First output of a panel; of the one behind the last, all of them.
  int panel_start(int panel) const {
    return static_cast<int>(static_cast<int64_t>(outputs) * panel / panels);
  }
};

struct FieldMlp {
  int layers = 0;      // linear layers, hidden and last
  int coords = 0;      // C, coordinates of a query
  int outputs = 0;     // of the last layer
  int width = 0;       // widest hidden layer
  int bias_count = 0;  // biases of one member
  FieldLayer layer[kMaxFieldLayers];
};

enum class FieldBlending : int { kNphm = 0, kMonoNphm = 1 };

// A head whose identity is bound. Pointers are borrowed.
struct FieldModel {
  FieldMlp identity;
  FieldMlp deformation;  // layers == 0: none
  FieldBlending blending = FieldBlending::kNphm;
  int anchors = 0;                     // K; members are K + 1, the last without an anchor
  const float* anchor = nullptr;       // (K, 3) head space
  const int* member_set = nullptr;     // (K + 1) weight set of a member
  const float* mirror = nullptr;       // (K + 1) +1 or -1: sign of the local x coordinate
  const float* member_bias = nullptr;  // (K + 1, identity.bias_count)
  int neighbours = 0;                  // MonoNPHM: anchors evaluated at a point
  float blend_std = 0.0f;              // MonoNPHM
  // Members whose unnormalised weight is under exp(-cut) times the nearest anchor's are left out; infinity:
  // none.
  float cut = 0.0f;
};

// Spatial smoothing of the face: the offset is multiplied by clamp(exp(-|(p - centre) / sigma|^2 / 2) * scale
// + shift, 0, 1).
struct FieldSmoothing {
  float centre[3];
  float inverse_sigma[3];
  float scale;
  float shift;
};

// What one block of points is evaluated for. Null outputs are skipped.
struct FieldBlock {
  const FieldModel* model = nullptr;
  const float* frame_bias = nullptr;  // deformation biases of a frame; null: no deformation
  const FieldSmoothing* smoothing = nullptr;
  const float* points = nullptr;  // (n, stride), the first `coords` used
  int coords = 3;                 // 3, or 3 + hyper-coordinates when there is no deformation
  int stride = 3;
  int n = 0;
  float* sdf = nullptr;       // (n)
  float* raw_sdf = nullptr;   // (n) without NPHM's 1e-6 in the denominator, which shrinks far values
  float* gradient = nullptr;  // (n, coords) of sdf by the point
  float* offsets = nullptr;   // (n, 3 + m) raw output of the deformation
  float* jacobian = nullptr;  // (n, 3 + m, 3) of the offsets by the point
};

}  // namespace facetalk
