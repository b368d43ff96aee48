// The template mesh that every identity wears: facetalk/nphm/head/template_mesh.py in C++.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "cpu/network/layers.h"

namespace facetalk::head {

// The shape (V, 3) that weights of zero give: `vertices` less what `rest`, the canonical shape's own weights, make of
// the displacements (E, V, 3).
std::vector<float> neutral_of(const std::vector<float>& vertices, const std::vector<float>& rest,
                              const std::vector<float>& basis);

// Two edges that have to meet, and which vertices follow when they are made to.
struct Seam {
  Seam() = default;
  Seam(const network::Safetensors& file, const std::string& name, int64_t vertices);
  // Adds to the heights of `moved` (V, 3) what makes the edges of `shape` (V, 3) meet.
  void close(const std::vector<float>& shape, float* moved) const;

 private:
  std::vector<int32_t> vertex_, other_, rows_, columns_;
  std::vector<float> blend_, target_, weights_;
};

// The mean head of a template.safetensors, and what expressions do to it.
class TemplateShapes {
 public:
  // Of `path`. Throws FileError.
  TemplateShapes(const network::Safetensors& file, const std::string& path, int expressions, int parts);

  int64_t count() const { return static_cast<int64_t>(part.size()); }
  // (E, V, 3) displacements of the expressions, the same for every identity; (V, 3) of one of them; and, of some
  // vertices, (E, 3) each.
  std::vector<float> basis() const;
  std::vector<float> displacement(size_t expression) const;
  std::vector<std::vector<float>> moves_of(const std::vector<size_t>& some) const;
  // (V, 3) that expressions of zero give, where `rest` are the weights of the canonical shape.
  std::vector<float> neutral(const std::vector<float>& rest) const;

  std::vector<float> vertices;     // (V, 3) of the mean head
  std::vector<int32_t> faces;      // (F, 3)
  std::vector<uint8_t> part;       // (V)
  std::vector<uint8_t> region;     // (V), of facetalk/nphm/head/regions.py
  std::vector<int32_t> landmarks;  // (68), Multi-PIE
  std::vector<float> leftmost;     // (V) least u of a vertex in the texture, infinite without one

 private:
  void write(size_t expression, float* to) const;

  std::vector<int32_t> starts_, rows_;  // of the expressions
  std::vector<float> values_;
};

// With what identities do to it, as a head folder's template.safetensors holds it all.
class TemplateMesh : public TemplateShapes {
 public:
  // `coefficients` of an identity, `expressions`, moving `parts`. Throws FileError.
  TemplateMesh(const std::string& path, int coefficients, int expressions, int parts);

  // Canonical vertices (V, 3) of identity coefficients, seams not yet closed.
  std::vector<float> shape(const std::vector<double>& coefficients) const;
  // Lips meet at rest and lids at a full blink; lids stay in front of the eyeballs (centre and radius, left
  // and right).
  void close(const std::vector<std::string>& names, const std::vector<float>& rest, const float (&eyes)[2][4],
             std::vector<float>& vertices, std::vector<float>& basis) const;

 private:
  TemplateMesh(const network::Safetensors& file, const std::string& path, int coefficients, int expressions,
               int parts);

  int coefficients_;
  std::vector<uint8_t> codes_;         // (I, V, 3)
  std::vector<float> scale_, offset_;  // (I, B), (I, B, 3)
  std::array<Seam, 3> seams_;          // lips, left and right lid
  std::vector<int32_t> lids_;
};

}  // namespace facetalk::head
