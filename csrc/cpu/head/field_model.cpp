#include "cpu/head/field_model.h"

#include <algorithm>
#include <cmath>

#include "core/cpu_features.h"
#include "core/platform/files.h"
#include "core/status.h"

namespace facetalk::head {
namespace {

using network::FileError;
using network::Json;
using network::Safetensors;

constexpr float kCut = 16.11809565095832f;  // -log(1e-7), facetalk/ops/field/source.py's DEFAULT_CULL
constexpr int kMostLayers = 32;

int as_int(int64_t size) {
  if (size < 0 || size > (1 << 20)) throw FileError("a head's tensor has a side of " + std::to_string(size));
  return static_cast<int>(size);
}

Stack read_stack(const Safetensors& file, const std::string& name, size_t rank) {
  const std::vector<int64_t>& shape = file.shape(name + ".weight");
  if (shape.size() != rank)
    throw FileError("tensor " + name + ".weight has no " + std::to_string(rank) + " axes");
  Stack stack;
  stack.sets = rank == 3 ? as_int(shape[0]) : 1;
  stack.outputs = as_int(shape[rank - 2]);
  stack.inputs = as_int(shape[rank - 1]);
  if (stack.sets < 1 || stack.outputs < 1 || stack.inputs < 1)
    throw FileError("tensor " + name + ".weight is empty");
  stack.weight = file.floats(name + ".weight", shape);
  stack.bias = file.floats(name + ".bias", std::vector<int64_t>(shape.begin(), shape.end() - 1));
  return stack;
}

// out = bias + weight x, of one set
std::vector<float> run(const Stack& stack, const std::vector<float>& x) {
  std::vector<float> out(static_cast<size_t>(stack.outputs));
  for (int o = 0; o < stack.outputs; ++o) {
    double sum = stack.bias[static_cast<size_t>(o)];
    const float* row = stack.weight.data() + static_cast<int64_t>(o) * stack.inputs;
    for (int i = 0; i < stack.inputs; ++i) sum += static_cast<double>(row[i]) * x[static_cast<size_t>(i)];
    out[static_cast<size_t>(o)] = static_cast<float>(sum);
  }
  return out;
}

// A folded layer with the memory that its views look at.
struct Folded {
  std::vector<float> hidden, coords, bias;
};

TensorView view_of(std::vector<float>& data, std::vector<int64_t> shape) {
  TensorView view;
  view.data = data.data();
  view.rank = static_cast<int>(shape.size());
  int64_t stride = 1;
  for (int i = view.rank - 1; i >= 0; --i) {
    view.shape[static_cast<size_t>(i)] = shape[static_cast<size_t>(i)];
    view.strides[static_cast<size_t>(i)] = stride;
    stride *= shape[static_cast<size_t>(i)];
  }
  return view;
}

// Columns `from` to `to` of every row of a stack's weight, times a scale.
std::vector<float> columns(const Stack& stack, int from, int to, float scale) {
  std::vector<float> out;
  out.reserve(static_cast<size_t>(stack.sets) * static_cast<size_t>(stack.outputs) *
              static_cast<size_t>(to - from));
  for (int64_t row = 0; row < static_cast<int64_t>(stack.sets) * stack.outputs; ++row) {
    for (int i = from; i < to; ++i)
      out.push_back(stack.weight[static_cast<size_t>(row * stack.inputs + i)] * scale);
  }
  return out;
}

}  // namespace

FieldModel::FieldModel(const std::string& folder) {
  const Safetensors identity(folder + "/identity.safetensors");
  family_ = identity.has("ensembled_deep_sdf.lin0.weight") ? FieldBlending::kNphm : FieldBlending::kMonoNphm;
  read_anchors(folder);
  hyper_ = family_ == FieldBlending::kMonoNphm ? 2 : 0;
  backward_ = family_ == FieldBlending::kMonoNphm;  // as the families were released
  if (platform::exists(folder + "/config.json")) {
    const Json config = network::read_json(folder + "/config.json");
    if (const Json* found = config.find("nneigh")) neighbours_ = static_cast<int>(found->whole(1, 4096));
    if (const Json* found = config.find("blend_std"))
      blend_std_ = static_cast<float>(found->number(1e-6, 1e6));
    if (const Json* found = config.find("n_hyper"); found != nullptr && family_ == FieldBlending::kMonoNphm)
      hyper_ = static_cast<int>(found->whole(0, 16));
    // The built-in head's folder, which has a network for each direction: this file is the backward one.
    if (const Json* found = config.find("format"); found != nullptr && found->text() == "facetalk-head")
      backward_ = true;
    if (const Json* found = config.find("direction")) {
      backward_ = found->text() == "backward";
      if (!backward_ && found->text() != "forward")
        throw FileError(folder + "/config.json: direction is neither forward nor backward");
    }
  }
  if (platform::exists(folder + "/deformation.safetensors"))
    read_deformation(Safetensors(folder + "/deformation.safetensors"));
  read_identity(identity);
  if (!backward_ && hyper_ > 0 && !deformation_.empty())
    throw FileError(folder + ": a deformation with hyper-coordinates goes backward, not forward");
  try {  // whatever does not fit together shows itself here
    const auto bound = bind(std::vector<float>(static_cast<size_t>(identity_size()), 0.01f));
    if (!deformation_.empty()) biases(*bound, std::vector<float>(static_cast<size_t>(expression_), 0.01f));
  } catch (const ArgumentError& error) {
    throw FileError(folder + ": its tensors do not fit together (" + error.what() + ")");
  }
}

void FieldModel::read_anchors(const std::string& folder) {
  for (const char* name : {"/anchors.safetensors", "/golden.safetensors"}) {
    if (!platform::exists(folder + name)) continue;
    const Safetensors file(folder + name);
    if (!file.has("anchors_mean")) continue;
    std::vector<int64_t> shape = file.shape("anchors_mean");
    mean_ = file.floats("anchors_mean", shape);
    while (shape.size() > 2 && shape[0] == 1) shape.erase(shape.begin());
    if (shape.size() != 2 || shape[1] != 3 || shape[0] < 1 || shape[0] > 4095)
      throw FileError(folder + name + ": anchors_mean should have shape (K, 3)");
    anchors_ = static_cast<int>(shape[0]);
    return;
  }
  throw FileError(folder + ": the mean anchors are missing: tensor anchors_mean of anchors.safetensors");
}

void FieldModel::read_deformation(const Safetensors& file) {
  compressor_ = read_stack(file, "compressor.0", 2);
  for (int i = 0; i < kMostLayers && file.has("defDeepSDF.lin" + std::to_string(i) + ".weight"); ++i)
    deformation_.push_back(read_stack(file, "defDeepSDF.lin" + std::to_string(i), 2));
  if (deformation_.size() < 3) throw FileError("the deformation has fewer than 3 layers");
  compressed_ = compressor_.outputs;
  expression_ = deformation_[0].inputs - 3 - compressed_;
  hyper_ = deformation_.back().outputs - 3;
  if (expression_ < 0 || hyper_ < 0 || hyper_ > 13 || (family_ == FieldBlending::kNphm && hyper_ != 0))
    throw FileError("the deformation's first and last layers fit no head of this family");
}

void FieldModel::read_identity(const Safetensors& file) {
  for (int i = 0; i < 3; ++i) positions_.push_back(read_stack(file, "mlp_pos." + std::to_string(2 * i), 2));
  global_ = positions_[0].inputs;
  if (positions_[1].inputs != positions_[0].outputs || positions_[2].inputs != positions_[1].outputs ||
      positions_[2].outputs != 3 * anchors_)
    throw FileError("the anchors' network does not fit " + std::to_string(anchors_) + " mean anchors");
  if (family_ == FieldBlending::kNphm) {
    for (int i = 0; i < kMostLayers && file.has("ensembled_deep_sdf.lin" + std::to_string(i) + ".weight");
         ++i)
      identity_.push_back(read_stack(file, "ensembled_deep_sdf.lin" + std::to_string(i), 3));
  } else {
    int sets = 0;
    const auto name = [](int set, int layer) {
      return "deepSDFensemble.layers." + std::to_string(set) + ".layers." + std::to_string(2 * layer);
    };
    while (sets <= anchors_ + 1 && file.has(name(sets, 0) + ".weight")) ++sets;
    for (int i = 0; sets > 0 && i < kMostLayers && file.has(name(0, i) + ".weight"); ++i) {
      Stack all = read_stack(file, name(0, i), 2);
      for (int set = 1; set < sets; ++set) {
        const Stack one = read_stack(file, name(set, i), 2);
        if (one.outputs != all.outputs || one.inputs != all.inputs)
          throw FileError("members differ in their sizes");
        all.weight.insert(all.weight.end(), one.weight.begin(), one.weight.end());
        all.bias.insert(all.bias.end(), one.bias.begin(), one.bias.end());
      }
      all.sets = sets;
      identity_.push_back(std::move(all));
    }
  }
  if (identity_.size() < 2 || identity_.back().outputs != 1)
    throw FileError("the ensemble has no usable layers");
  inputs_ = identity_[0].inputs;
  local_ = inputs_ - 3 - hyper_ - global_;
  pairs_ = anchors_ + 1 - identity_[0].sets;
  if (local_ < 0 || pairs_ < 0 || 2 * pairs_ > anchors_)
    throw FileError("the ensemble's weight sets or inputs do not fit its anchors and codes");
  for (const Stack& stack : identity_) {
    if (stack.sets != identity_[0].sets) throw FileError("the ensemble's layers differ in their weight sets");
  }
}

std::vector<float> FieldModel::anchors_of(const std::vector<float>& code) const {
  std::vector<float> x(code.begin(), code.begin() + global_);
  for (int i = 0; i < 3; ++i) {
    x = run(positions_[static_cast<size_t>(i)], x);
    if (i < 2) {
      for (float& value : x) value = std::max(value, 0.0f);
    }
  }
  for (size_t i = 0; i < x.size(); ++i) x[i] += mean_[i];
  return x;
}

std::unique_ptr<BoundField> FieldModel::bind(const std::vector<float>& code) const {
  const int members = anchors_ + 1, sets = identity_[0].sets, coords = 3 + hyper_;
  const auto layers = static_cast<int>(identity_.size());
  const bool is_nphm = family_ == FieldBlending::kNphm;
  FieldSource source;
  source.blending = family_;
  source.neighbours = neighbours_;
  source.blend_std = blend_std_;
  source.cut = kCut;
  for (int member = 0; member < members; ++member) {
    const bool paired = member < 2 * pairs_;
    source.member_set.push_back(paired ? member / 2 : member - pairs_);
    source.mirror.push_back(paired && member % 2 == 1 ? -1.0f : 1.0f);
  }
  std::vector<float> anchors = anchors_of(code);
  source.anchors = view_of(anchors, {anchors_, 3});
  std::vector<Folded> parts(static_cast<size_t>(layers)), moves(deformation_.size());
  for (int i = 0; i < layers; ++i) {
    const Stack& stack = identity_[static_cast<size_t>(i)];
    Folded& part = parts[static_cast<size_t>(i)];
    const bool reads = is_nphm ? i == 0 || i == (layers - 1) / 2 : i == 0;
    const float scale = reads && i > 0 ? static_cast<float>(1.0 / std::sqrt(2.0)) : 1.0f;
    const int start = reads ? stack.inputs - inputs_ : stack.inputs;
    if (start < 0 || (i == 0 && start != 0)) throw ArgumentError("identity", "inputs for its codes", "fewer");
    // NPHM's inputs are [hidden, xyz, codes], MonoNPHM's [codes, xyz, hyper].
    const int codes = is_nphm ? start + 3 : 0, places = is_nphm ? start : inputs_ - coords;
    FieldLayerSource layer;
    if (i > 0) {
      part.hidden = columns(stack, 0, start, scale);
      layer.hidden = view_of(part.hidden, {sets, stack.outputs, start});
    }
    if (reads) {
      part.coords = columns(stack, places, places + (is_nphm ? 3 : coords), scale);
      layer.coords = view_of(part.coords, {sets, stack.outputs, is_nphm ? 3 : coords});
    }
    for (int member = 0; member < members; ++member) {
      const int64_t set = source.member_set[static_cast<size_t>(member)];
      for (int o = 0; o < stack.outputs; ++o) {
        const float* row = stack.weight.data() + (set * stack.outputs + o) * stack.inputs;
        double sum = 0.0;
        if (reads) {
          const float* own = code.data() + global_ + static_cast<int64_t>(member) * local_;
          for (int c = 0; c < global_; ++c)
            sum += static_cast<double>(row[codes + c]) * code[static_cast<size_t>(c)];
          for (int c = 0; c < local_; ++c) sum += static_cast<double>(row[codes + global_ + c]) * own[c];
        }
        part.bias.push_back(
            static_cast<float>(stack.bias[static_cast<size_t>(set * stack.outputs + o)] + sum * scale));
      }
    }
    source.identity.push_back(layer);
    source.identity_bias.push_back(view_of(part.bias, {members, stack.outputs}));
  }
  for (size_t i = 0; i < deformation_.size(); ++i) {
    const Stack& stack = deformation_[i];
    const bool reads = i == 0 || i == (deformation_.size() - 1) / 2;
    const float scale = reads && i > 0 ? static_cast<float>(1.0 / std::sqrt(2.0)) : 1.0f;
    const int start = reads ? stack.inputs - deformation_[0].inputs : stack.inputs;
    if (start < 0) throw ArgumentError("deformation", "inputs for its codes", "fewer");
    FieldLayerSource layer;
    if (i > 0) {
      moves[i].hidden = columns(stack, 0, start, scale);
      layer.hidden = view_of(moves[i].hidden, {1, stack.outputs, start});
    }
    if (reads) {
      moves[i].coords = columns(stack, start, start + 3, scale);
      layer.coords = view_of(moves[i].coords, {1, stack.outputs, 3});
    }
    source.deformation.push_back(layer);
  }
  auto bound = std::make_unique<BoundField>(source, cpu::field_kernels(simd_level()).panel);
  bound->anchors = std::move(anchors);
  if (!deformation_.empty()) {
    std::vector<float> known(code);
    known.insert(known.end(), bound->anchors.begin(), bound->anchors.end());
    if (compressor_.inputs != static_cast<int>(known.size()))
      throw ArgumentError("compressor", std::to_string(known.size()) + " inputs",
                          std::to_string(compressor_.inputs));
    bound->compressed = run(compressor_, known);
  }
  return bound;
}

std::vector<float> FieldModel::biases(const BoundField& bound, const std::vector<float>& expression) const {
  std::vector<float> latent(bound.compressed);
  latent.insert(latent.end(), expression.begin(), expression.end());
  std::vector<std::vector<float>> rows(deformation_.size());
  std::vector<TensorView> views;
  for (size_t i = 0; i < deformation_.size(); ++i) {
    const Stack& stack = deformation_[i];
    const bool reads = i == 0 || i == (deformation_.size() - 1) / 2;
    const double scale = reads && i > 0 ? 1.0 / std::sqrt(2.0) : 1.0;
    rows[i] = stack.bias;
    if (reads) {
      const int64_t start = stack.inputs - static_cast<int64_t>(latent.size());
      for (int o = 0; o < stack.outputs; ++o) {
        double sum = 0.0;
        for (size_t c = 0; c < latent.size(); ++c)
          sum += static_cast<double>(stack.weight[static_cast<size_t>(o * stack.inputs + start) + c]) *
                 latent[c];
        rows[i][static_cast<size_t>(o)] =
            static_cast<float>(stack.bias[static_cast<size_t>(o)] + sum * scale);
      }
    }
    views.push_back(view_of(rows[i], {1, stack.outputs}));
  }
  return bound.packed.frame_biases(views);
}

}  // namespace facetalk::head
