// The samples near the surface of one frame after another, found by refinement of a coarse lattice or from
// the frame before.
//
// A value and a bound on the field's slope say how far away the surface is at least. A cell is left out when
// what is known at its corners keeps the surface out of it; what is left of that distance (the slack) is kept
// for the next frame, which loses at most the motion between the two: where slack remains, the sign is still
// known. Bounds are estimates, so they are checked against every pair of evaluated neighbours; when one is
// steeper, the frame is done again with a greater bound, and what still depends on a broken one is counted.
#pragma once

#include <memory>
#include <vector>

#include "cpu/surface/field_bricks.h"

namespace facetalk::cpu {

struct BandReport {
  int64_t deformed = 0;     // points that went through the deformation network
  int64_t evaluated = 0;    // points that went through the ensemble
  int64_t broken = 0;       // samples whose sign was taken for certain and turned out wrong
  int64_t uncertified = 0;  // cells around those, and cells left out by a bound that neighbours contradict
  float steepest = 0.0f;    // slope between neighbours, in units of the bound
};

// How far the deformation moves points between a frame and the one before.
struct Motion {
  float everywhere = 0.0f;
  LocalBounds local;  // by posed place
};

class FieldBand {
 public:
  // `spacing`: samples between those of the coarse lattice, a power of two, at least 8.
  FieldBand(const FieldRunner& runner, const Lattice& lattice, int spacing)
      : runner_(runner), lattice_(lattice), spacing_(spacing) {}

  // One frame. `motion`: from the frame before, head units; null, or for the first frame: start from the
  // coarse lattice.
  BrickVolume frame(const FieldFrames& frame, const SlopeBounds& bounds, const Motion* motion,
                    BandReport& report);

 private:
  struct Cell {
    int32_t start[3];
  };
  // Nodes of the lattice of every eighth sample; the last along an axis is the border.
  struct Nodes {
    std::vector<uint8_t> known;
    std::vector<FieldBricks::Evaluated> found;
    int64_t shape[3];
  };

  void attempt(const FieldFrames& frame, const SlopeBounds& bounds, const Motion* motion, BandReport& report);
  void refine_coarse(FieldBricks& bricks, std::vector<Cell> cells, int spacing);
  void refine_fine(FieldBricks& bricks, std::vector<Cell> cells);
  void evaluate_nodes(FieldBricks& bricks, const std::vector<Cell>& cells, int spacing);
  std::vector<Cell> children(const std::vector<Cell>& cells, int spacing) const;
  int64_t node(const Cell& cell, int corner, int spacing) const;
  std::vector<Cell> roll(FieldBricks& bricks, const Motion& motion);
  // What is known at corners: where, and how far the surface is at least.
  struct Known {
    int count = 0;
    float at[8][3];
    float radius[8];
    bool inside = false;
  };
  // How far the surface is at least from every point of a box.
  static float slack(const Known& known, const float low[3], const float high[3]);
  void learn(Known& known, const Cell& cell, int corner, int spacing, float radius) const;
  bool keeps_out(const Known& known, const Cell& cell, int spacing);
  void place(int32_t i, int32_t j, int32_t k, float* out) const;
  void leave_out(FieldBricks& bricks, const Cell& cell, int spacing, const Known& known);

  const FieldRunner runner_;
  const Lattice lattice_;
  const int spacing_;
  Nodes nodes_;
  std::unique_ptr<FieldBricks> bricks_;  // of the frame before
  std::vector<float> slack_;             // per brick that is not stored
  struct Excluded {
    float ratio;
    int64_t cells;
  };
  std::vector<Excluded> excluded_;
};

}  // namespace facetalk::cpu
