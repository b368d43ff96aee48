#include <algorithm>

#include "cuda/field/field_launch.cuh"
#include "cuda/head/head_band.cuh"
#include "cuda/head/head_band.h"
#include "cuda/head/lists.cuh"

namespace facetalk::cuda {
namespace {

constexpr int kBlock = 2;  // side of the blocks in which samples are evaluated
constexpr int kBlockSamples = kBlock * kBlock * kBlock;

class Search {
 public:
  Search(const BoundHead& head, const DeviceLattice& lattice, const float* frame, float lipschitz)
      : head_(head), place_(head.place()), lattice_(lattice), frame_(frame), lipschitz_(lipschitz) {
    for (int a = 0; a < 3; ++a) nodes_.axis[a] = lattice.node_axis[a], nodes_.nodes[a] = lattice.nodes[a];
    values_ = place_.take<float>(int64_t{nodes_.nodes[0]} * nodes_.nodes[1] * nodes_.nodes[2]);
  }

  DeviceBricks run() {
    NodeGrid corners = nodes_;
    corners.stride = kBrickSide / 2;
    int64_t count = 1;
    for (int a = 0; a < 3; ++a) {
      corners.count[a] = static_cast<int>(ceil_div(lattice_.shape[a], kBrickSide)) + 1;
      count *= corners.count[a];
    }
    evaluate(corners, nullptr, count);
    int32_t* table = classify(kBrickSide, nullptr);
    for (int side = kBrickSide / 2; side >= kBlock; side /= 2) {
      between(2 * side, table);
      table = classify(side, table);
    }
    follow(table);
    return together(table);
  }

 private:
  template <typename... Params, typename... Args>
  void start(const char* name, void (*kernel)(Params...), int64_t threads, Args... args) {
    launch_threads<kSearchThreads>(name, kernel, threads, place_.stream(), args...);
  }

  FieldBricks blocks_of(int side) const {
    FieldBricks blocks;
    blocks.side = side;
    blocks.count = 1;
    for (int a = 0; a < 3; ++a) {
      blocks.axis[a] = lattice_.axis[a];
      blocks.shape[a] = lattice_.shape[a];
      blocks.bricks[a] = static_cast<int>(ceil_div(lattice_.shape[a], side));
      blocks.count *= blocks.bricks[a];
    }
    return blocks;
  }

  // Fills in the values of listed nodes of a grid; null: of all.
  void evaluate(const NodeGrid& grid, const int64_t* list, int64_t count) {
    for (int64_t first = 0; first < count; first += BoundHead::kTogether) {
      const Piece piece(place_);
      const int64_t n = std::min(BoundHead::kTogether, count - first);
      const int64_t* part = list == nullptr ? nullptr : list + first;
      auto* points = place_.take<float>(3 * n);
      auto* number = place_.take<int64_t>(n);
      auto *sdf = place_.take<float>(n), *raw_sdf = place_.take<float>(n);
      start("search_nodes", search_nodes_kernel, n, grid, part, first, n, points, number);
      head_.evaluate(points, n, frame_, sdf, raw_sdf);
      start("search_store", search_store_kernel, n, number, n, sdf, raw_sdf, values_);
    }
  }

  int32_t* classify(int side, const int32_t* parents) {
    const FieldBricks blocks = blocks_of(side);
    auto* table = place_.take<int32_t>(blocks.count);
    field_classify(blocks, values_, parents, lipschitz_, table, place_.stream());
    return table;
  }

  // Evaluates the nodes of the wanted blocks of a table that halve their edges.
  void between(int side, const int32_t* table) {
    const Piece piece(place_);
    const FieldBricks blocks = blocks_of(side);
    NodeGrid grid = nodes_;
    grid.stride = side / 4;
    int64_t count = 1;
    for (int a = 0; a < 3; ++a) {
      grid.count[a] = 2 * blocks.bricks[a] + 1;
      count *= grid.count[a];
    }
    auto* flags = place_.take<int32_t>(count + 1);
    start("search_between", search_between_kernel, count, blocks, table, count, flags);
    const DeviceList list = list_flags(place_, flags, count);
    evaluate(grid, list.numbers, list.count);
  }

  // Evaluates wanted blocks until nothing contradicts, and numbers them in the table.
  void follow(int32_t* table) {
    const FieldBricks blocks = blocks_of(kBlock);
    auto* flags = place_.take<int32_t>(blocks.count + 1);
    auto* wanted = place_.take<uint8_t>(blocks.count);
    start("search_wanted", search_wanted_kernel, blocks.count, table, blocks.count, flags);
    for (;;) {
      const int64_t count = sum_flags(place_, flags, blocks.count);
      if (count == 0) return;
      make_room(stored_ + count);
      const Piece piece(place_);
      auto* list = place_.take<int64_t>(count);
      launch_threads<kListThreads>("head_list", list_kernel, blocks.count, place_.stream(), flags,
                                   blocks.count, list);
      start("search_number", search_number_kernel, count, list, count, stored_, table);
      const int64_t most = BoundHead::kTogether / kBlockSamples;
      for (int64_t first = 0; first < count; first += most) {
        const Piece part(place_);
        const int64_t n = std::min(most, count - first);
        auto* points = place_.take<float>(3 * kBlockSamples * n);
        field_brick_points(blocks, list + first, n, kBlock, 1, points, place_.stream());
        head_.evaluate(points, kBlockSamples * n, frame_, samples_ + kBlockSamples * (stored_ + first),
                       nullptr);
      }
      stored_ += count;
      field_contradictions(blocks, table, samples_, wanted, place_.stream());
      start("search_contradicted", search_contradicted_kernel, blocks.count, wanted, blocks.count, flags);
    }
  }

  void make_room(int64_t count) {
    if (count <= room_) return;
    room_ = count + count / 4;
    auto* more = place_.take<float>(kBlockSamples * room_);
    if (stored_ > 0)
      place_.copy(more, samples_, static_cast<size_t>(kBlockSamples * stored_) * sizeof(float));
    samples_ = more;
  }

  DeviceBricks together(const int32_t* table) {
    const FieldBricks blocks = blocks_of(kBlock);
    BrickGrid grid;
    grid.count = 1;
    for (int a = 0; a < 3; ++a) {
      grid.bricks[a] = static_cast<int>(ceil_div(lattice_.shape[a], kBrickSide));
      grid.count *= grid.bricks[a];
    }
    auto* out = place_.take<int32_t>(grid.count);
    auto* flags = place_.take<int32_t>(grid.count + 1);
    start("search_stored", search_stored_kernel, grid.count, blocks, grid, table, flags);
    const DeviceList list = list_flags(place_, flags, grid.count);
    start("search_table", search_table_kernel, grid.count, blocks, grid, table, flags, out);
    auto* samples = place_.take<float>(kBrickSamples * std::max<int64_t>(list.count, 1));
    start("search_bricks", search_bricks_kernel, kBrickSamples * list.count, blocks, grid, table, samples_,
          list.numbers, list.count, samples);
    return {out, samples, list.count};
  }

  const BoundHead& head_;
  Workplace& place_;
  const DeviceLattice& lattice_;
  const float* frame_;
  const float lipschitz_;
  NodeGrid nodes_{};
  float* values_ = nullptr;   // of nodes that were evaluated
  float* samples_ = nullptr;  // (room_, 8) of stored blocks
  int64_t stored_ = 0, room_ = 0;
};

}  // namespace

DeviceLattice lattice_on(Workplace& place, const std::vector<float> (&axis)[3]) {
  DeviceLattice out;
  for (int a = 0; a < 3; ++a) {
    const auto samples = static_cast<int>(axis[a].size());
    out.shape[a] = samples;
    out.nodes[a] = (samples + 1) / 2 + 1;  // band_nodes of field_band.cuh
    std::vector<float> both(axis[a]);
    for (int n = 0; n < out.nodes[a]; ++n)
      both.push_back(axis[a][static_cast<size_t>(std::min(2 * n, samples - 1))]);
    auto* there = place.take<float>(static_cast<int64_t>(both.size()));
    place.upload(there, both.data(), both.size() * sizeof(float));
    out.axis[a] = there;
    out.node_axis[a] = there + samples;
  }
  return out;
}

DeviceBricks find_bricks(const BoundHead& head, const DeviceLattice& lattice, const float* frame,
                         float lipschitz) {
  return Search(head, lattice, frame, lipschitz).run();
}

}  // namespace facetalk::cuda
