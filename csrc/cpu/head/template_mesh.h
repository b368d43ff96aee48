// The template mesh that every identity wears: facetalk/nphm/head/template_mesh.py in C++.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "cpu/network/layers.h"

namespace facetalk::head {

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

// Vertices and what moves them, as a head folder's template.safetensors holds them.
class TemplateMesh {
 public:
  // `coefficients` of an identity, `expressions`, moving `parts`. Throws FileError.
  TemplateMesh(const std::string& path, int coefficients, int expressions, int parts);

  int64_t count() const { return static_cast<int64_t>(part.size()); }
  // Canonical vertices (V, 3) of identity coefficients, seams not yet closed.
  std::vector<float> shape(const std::vector<double>& coefficients) const;
  // (E, V, 3) displacements of the expressions.
  std::vector<float> basis() const;
  // Lips meet at rest and lids at a full blink; lids stay in front of the eyeballs (centre and radius, left
  // and right).
  void close(const std::vector<std::string>& names, const std::vector<float>& rest, const float (&eyes)[2][4],
             std::vector<float>& vertices, std::vector<float>& basis) const;

  std::vector<float> vertices;  // (V, 3) of the mean head
  std::vector<int32_t> faces;   // (F, 3)
  std::vector<uint8_t> part;    // (V)

 private:
  int coefficients_, expressions_;
  std::vector<uint8_t> codes_;          // (I, V, 3)
  std::vector<float> scale_, offset_;   // (I, B), (I, B, 3)
  std::vector<int32_t> starts_, rows_;  // of the expressions
  std::vector<float> values_;
  std::array<Seam, 3> seams_;  // lips, left and right lid
  std::vector<int32_t> lids_;
};

}  // namespace facetalk::head
