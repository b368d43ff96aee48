// What a head folder holds for the rig, and the two networks over its canonical surface.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "cpu/head/template_mesh.h"
#include "cpu/network/layers.h"

namespace facetalk::head {

constexpr int kEyeballs = 1;          // Part.EYEBALLS of facetalk/nphm/head/parts.py
constexpr float kCentimetre = 0.04f;  // the networks' unit of displacements, head units
constexpr int kTemplateOctaves = 4;   // of the template map's encoding

// Linear layers with SiLU between, over points.
class PointNetwork {
 public:
  // Tensors `name`.0, .2, ... of a file.
  PointNetwork(const network::Safetensors& file, const std::string& name, int inputs, int hidden, int layers,
               int outputs);
  int inputs() const { return layers_.front().inputs(); }
  int outputs() const { return layers_.back().outputs(); }
  // (rows, inputs) -> (rows, outputs); `scratch` of the calling thread.
  void run(const float* x, int64_t rows, float* out, network::Floats (&scratch)[2]) const;

 private:
  std::vector<network::Linear> layers_;
};

// A point with sines and cosines of `octaves` octaves, 3 + 6 octaves values: facetalk/nphm/head/rig.py.
void encode_frequencies(const float* point, int octaves, float* out);

// What a head folder's config.json says, checked.
struct HeadSettings {
  explicit HeadSettings(const std::string& folder);

  std::string folder;
  std::vector<std::string> names;
  std::vector<float> rest;  // weights of the canonical shape
  network::Json forward;    // sizes of the networks
  int parts = 0;
};

// A head folder, checked.
struct HeadFiles : HeadSettings {
  explicit HeadFiles(const std::string& folder);

  int frequencies = 0, code_size = 0, template_code = 0;
  std::unique_ptr<TemplateMesh> mesh;  // that every identity wears, or null
  std::vector<float> vertices;         // (V, 3) canonical mesh of the head's own identity
  std::vector<int32_t> faces;
  std::vector<uint8_t> part;  // (V)
  int coefficients = 0;
  std::vector<float> encoder, eyes_mean, eyes_basis;  // (L, I), (2, 4), (I, 2, 4)
  std::vector<float> anchors_mean;                    // (K, 3)
  std::vector<PointNetwork> networks;                 // blendshapes, template
  network::Linear compressor;                         // of the template map
};

// Head that its identity code makes of the canonical mesh.
struct Shape {
  std::vector<float> vertices;  // (V, 3) canonical
  std::vector<float> points;    // (V, 3) where they lie on the mean head
  std::vector<float> basis;     // (E, V, 3) displacements of a template mesh, empty without one
  float eyes[2][4];             // centre and radius, left and right
};

// The mesh of an identity: the template mesh in its shape; without one the head's own canonical mesh, carried
// there by the inverse of the template map and put onto the identity's surface.
Shape shape_of(const HeadFiles& head, const std::vector<float>& code);

}  // namespace facetalk::head
