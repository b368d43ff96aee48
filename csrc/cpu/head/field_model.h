// A neural parametric head from its folder, and bound to an identity: facetalk/nphm/{checkpoint,networks}.py
// in C++.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/field_pack.h"
#include "cpu/field/field.h"
#include "cpu/head/slopes.h"
#include "cpu/marching_cubes/marching_cubes.h"
#include "cpu/network/safetensors.h"

namespace facetalk::head {

// A linear layer as the file has it: weight (sets, outputs, inputs), bias (sets, outputs).
struct Stack {
  std::vector<float> weight, bias;
  int sets = 1, outputs = 0, inputs = 0;
};

// A head whose identity is bound.
class BoundField {
 public:
  BoundField(const FieldSource& source, int panel) : packed(source, panel) {}

  PackedField packed;
  std::vector<float> anchors;     // (K, 3)
  std::vector<float> compressed;  // the identity as the deformation reads it
};

class FieldModel {
 public:
  // Reads config.json, identity.safetensors, deformation.safetensors (may be missing) and the mean anchors,
  // of either family (NPHM, MonoNPHM). Throws FileError.
  explicit FieldModel(const std::string& folder);

  int identity_size() const { return global_ + (anchors_ + 1) * local_; }
  int expression_size() const { return deformation_.empty() ? 0 : expression_; }

  // Whether its deformation moves queries to the canonical head; a forward one moves that head instead.
  bool is_backward() const { return backward_; }

  std::unique_ptr<BoundField> bind(const std::vector<float>& code) const;

  // Biases of the deformation's layers for an expression code; they go with the field that was bound.
  std::vector<float> biases(const BoundField& bound, const std::vector<float>& expression) const;

 private:
  void read_identity(const network::Safetensors& file);
  void read_deformation(const network::Safetensors& file);
  void read_anchors(const std::string& folder);
  std::vector<float> anchors_of(const std::vector<float>& code) const;

  FieldBlending family_ = FieldBlending::kNphm;
  int anchors_ = 0, pairs_ = 0, global_ = 0, local_ = 0, hyper_ = 0, inputs_ = 0, expression_ = 0,
      compressed_ = 0;
  bool backward_ = true;
  int neighbours_ = 12;
  float blend_std_ = 3.75f;
  std::vector<float> mean_;       // (K, 3) anchors
  std::vector<Stack> positions_;  // the anchors' network
  std::vector<Stack> identity_, deformation_;
  Stack compressor_;
};

}  // namespace facetalk::head
