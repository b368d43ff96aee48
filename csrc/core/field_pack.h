// Building a FieldModel: weights into panels, biases into the kernels' units, all of it owned in one place.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/field.h"
#include "core/tensor_view.h"

namespace facetalk {

// One folded layer as the caller holds it: float32, contiguous.
struct FieldLayerSource {
  TensorView hidden;  // (sets, outputs, hidden) or rank 0 when the layer reads no hidden units
  TensorView coords;  // (sets, outputs, coords) or rank 0 when it reads no coordinates
};

struct FieldSource {
  std::vector<FieldLayerSource> identity;
  std::vector<TensorView> identity_bias;      // per layer (members, outputs)
  TensorView anchors;                         // (K, 3)
  std::vector<int> member_set;                // (K + 1)
  std::vector<float> mirror;                  // (K + 1)
  std::vector<FieldLayerSource> deformation;  // empty: none
  FieldBlending blending = FieldBlending::kNphm;
  int neighbours = 0;
  float blend_std = 0.0f;
  float cut = 0.0f;
};

// A bound head. `panel` must be that of the kernels that will read it.
class PackedField {
 public:
  // Throws ArgumentError naming the layer whose shape does not fit the one before.
  PackedField(const FieldSource& source, int panel);
  PackedField(const PackedField&) = delete;
  PackedField& operator=(const PackedField&) = delete;

  const FieldModel& model() const { return model_; }

  // Biases of the frames' deformation, one row of model().deformation.bias_count per frame, from per-layer
  // (T, outputs).
  std::vector<float> frame_biases(const std::vector<TensorView>& layers) const;

 private:
  void pack(const std::vector<FieldLayerSource>& layers, const std::string& name, int panel, FieldMlp& mlp);
  float* keep(int64_t floats);

  FieldModel model_;
  std::vector<std::shared_ptr<void>> memory_;
  std::vector<int> member_set_;
};

}  // namespace facetalk
