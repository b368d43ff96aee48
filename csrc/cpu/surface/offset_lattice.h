// Offsets of a deformation on a coarse lattice, evaluated where they are asked for and interpolated between
// (tricubic, Lagrange).
#pragma once

#include <cstdint>
#include <vector>

#include "core/brick_volume.h"
#include "cpu/field/field.h"
#include "cpu/field/field_scratch.h"

namespace facetalk::cpu {

// Offsets (n, 3) at points (n, 3), in parallel.
void evaluate_offsets(const FieldRunner& runner, const FieldFrames& frame, ScratchPool& scratch,
                      const float* points, int64_t n, float* offsets);

class OffsetLattice {
 public:
  // `spacing`: samples of `lattice` between nodes, a power of two, at least 4.
  OffsetLattice(const FieldRunner& runner, const FieldFrames& frame, const Lattice& lattice, int spacing,
                ScratchPool& scratch);

  // Names the nodes that a brick's samples are interpolated from, or every `stride`-th node; evaluate() then
  // evaluates those that are new.
  void need(int64_t bi, int64_t bj, int64_t bk);
  void need_every(int stride);
  void evaluate();

  // Names the cell of a brick (one of them) whose error is to be probed.
  void probe(int64_t bi, int64_t bj, int64_t bk);
  // Evaluates the middle of the cells named; error() then knows them.
  void evaluate_probes();
  // The largest in the probed cells of a brick and of those around it; at least 0.
  float error(int64_t bi, int64_t bj, int64_t bk) const;

  // Offsets (3, 8, 8, 8) of a brick's samples.
  void interpolate(int64_t bi, int64_t bj, int64_t bk, float* out) const;

  float longest() const { return longest_; }  // offset of all nodes evaluated
  int64_t evaluated() const { return evaluated_; }

 private:
  struct Window {
    int64_t first[3];
    int count[3];
  };
  Window window(int64_t bi, int64_t bj, int64_t bk) const;
  int64_t index(int64_t i, int64_t j, int64_t k) const { return (i * shape_[1] + j) * shape_[2] + k; }
  void name(int64_t node);
  int64_t probed(int64_t bi, int64_t bj, int64_t bk) const;

  const FieldRunner runner_;
  const FieldFrames frame_;
  ScratchPool& scratch_;
  int spacing_;
  double origin_[3], step_[3];  // of the nodes; node 0 lies one cell before the first sample
  int64_t shape_[3];            // nodes
  std::vector<uint8_t> known_;  // per node
  std::vector<float> offset_;   // (3, nodes)
  std::vector<float> error_;    // per cell (numbered as its first node): -1 not probed
  std::vector<int64_t> queue_, probes_;
  float longest_ = 0.0f;
  int64_t evaluated_ = 0;
};

}  // namespace facetalk::cpu
