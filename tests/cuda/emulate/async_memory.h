// mbarriers and bulk copies, on the host, and what the async proxy sees of shared memory.
//
// Shared memory is there twice: as threads see it, and as the async proxy (bulk copies, wgmma) does, which
// learns of ordinary stores by fence_async_proxy alone. A bulk copy arrives when somebody waits for it, and
// its bytes are NaN until then.
#pragma once

#include <map>

#include "emulate/machine.h"

namespace facetalk::emulate {

struct BulkCopy {
  char* to;
  const char* from;
  size_t bytes;
};

struct Mbarrier {
  int64_t arrivals = 0, left = 0;  // of a phase, and those still to come
  int64_t bytes = 0;               // expected and not yet there
  uint32_t phase = 0;
  std::vector<BulkCopy> copies;  // under way
  std::vector<int> waiting;      // threads
};

// What a block has of all this; made anew with each block.
class AsyncMemory {
 public:
  void init(uint64_t* at, int64_t arrivals, const Site& site) {
    of_this_block();
    if (!holds(at, 8) || reinterpret_cast<uintptr_t>(at) % 8 != 0 || arrivals < 1)
      machine.fail(site.text() + " of a wrong place or count");
    Mbarrier made;
    made.arrivals = made.left = arrivals;
    barriers_[at] = made;
    *at = 0;
    inits_fenced_ = false;
  }
  void fence_inits() {
    of_this_block();
    inits_fenced_ = true;
  }

  void arrive(uint64_t* at, int64_t bytes, const Site& site) {
    Mbarrier& barrier = find(at, site);
    if (barrier.left == 0) machine.fail(site.text() + ": more arrivals than the barrier has in a phase");
    barrier.bytes += bytes;
    --barrier.left;
    settle(barrier);
    nudge(barrier);
  }

  void copy(void* shared, const void* global, size_t bytes, uint64_t* at, const Site& site) {
    Mbarrier& barrier = find(at, site);
    if (!inits_fenced_) machine.fail(site.text() + " without mbarrier_init_fence");
    if (!holds(shared, bytes)) machine.fail(site.text() + " to outside shared memory");
    if ((reinterpret_cast<uintptr_t>(shared) | reinterpret_cast<uintptr_t>(global) | bytes) % 16 != 0)
      machine.fail(site.text() + " of an address or size that is no multiple of 16");
    std::memset(shared, 0xff, bytes);
    std::memset(seen(shared), 0xff, bytes);
    barrier.copies.push_back({static_cast<char*>(shared), static_cast<const char*>(global), bytes});
    nudge(barrier);
  }

  void wait(uint64_t* at, uint32_t parity, const Site& site) {
    Mbarrier& barrier = find(at, site);
    while ((barrier.phase & 1u) == parity) {
      if (land(barrier)) continue;
      barrier.waiting.push_back(machine.current());
      machine.sleep(site);
    }
  }

  void fence() {
    of_this_block();
    std::memcpy(seen_.data(), machine.shared.begin(), seen_.size());
  }

  // In the dynamic shared memory, the only one that the async proxy has here.
  static bool holds(const void* address, size_t bytes) {
    const char* end = machine.shared.begin() + machine.shared.dynamic_end();
    return address >= machine.shared.dynamic() && static_cast<const char*>(address) + bytes <= end;
  }

  // The async proxy's bytes.
  char* seen(const void* address) {
    return seen_.data() + (static_cast<const char*>(address) - machine.shared.begin());
  }

 private:
  void of_this_block() {
    if (block_ == machine.block_number()) return;
    block_ = machine.block_number();
    barriers_.clear();
    seen_.resize(machine.shared.dynamic_end());
    std::memcpy(seen_.data(), machine.shared.begin(), seen_.size());
    inits_fenced_ = false;
  }

  Mbarrier& find(uint64_t* at, const Site& site) {
    of_this_block();
    const auto found = barriers_.find(at);
    if (found == barriers_.end()) machine.fail(site.text() + " of an mbarrier that nobody made");
    return found->second;
  }

  void settle(Mbarrier& barrier) {
    if (barrier.left != 0 || barrier.bytes != 0) return;
    barrier.left = barrier.arrivals;
    ++barrier.phase;
    for (int thread : barrier.waiting) machine.wake(thread);
    barrier.waiting.clear();
  }

  // Who waits may find that copies have arrived.
  void nudge(Mbarrier& barrier) {
    if (barrier.left != 0 || barrier.copies.empty()) return;
    for (int thread : barrier.waiting) machine.wake(thread);
    barrier.waiting.clear();
  }

  // Copies arrive as late as they can: when somebody waits, and nothing else is missing.
  bool land(Mbarrier& barrier) {
    if (barrier.left != 0 || barrier.copies.empty()) return false;
    for (const BulkCopy& copy : barrier.copies) {
      std::memcpy(copy.to, copy.from, copy.bytes);
      std::memcpy(seen(copy.to), copy.from, copy.bytes);
      barrier.bytes -= static_cast<int64_t>(copy.bytes);
    }
    barrier.copies.clear();
    settle(barrier);
    return true;
  }

  uint64_t block_ = ~uint64_t{0};
  std::map<uint64_t*, Mbarrier> barriers_;
  std::vector<char> seen_;
  bool inits_fenced_ = false;
};

inline AsyncMemory async_memory;

}  // namespace facetalk::emulate
