// The machine that runs a kernel on the host: one block after the other, in shuffled order; each thread of a
// block is a fiber that runs until it must wait for others.
//
// What it catches: threads that wait for others that never come (at a barrier of the block or in a warp-wide
// operation), barriers reached in different places, writes beyond shared memory, touches of memory that is not
// there, and, because shared memory
// is filled with NaN before each block and the order of blocks, warps and lanes is shuffled anew, most reads
// of what nobody wrote and most orders that were only hoped for. It is stricter than CUDA: a thread that has
// ended counts as missing at a barrier and in a warp-wide operation.
#pragma once

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "emulate/faults.h"
#include "emulate/fiber.h"
#include "emulate/shared_memory.h"
#include "emulate/types.h"

// Read by kernels under CUDA's own names; set at every switch.
inline uint3 threadIdx{}, blockIdx{};
inline dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace facetalk::emulate {

struct Site {
  const char* what;
  const char* file;
  int line;
  bool operator==(const Site& other) const {
    return line == other.line && std::string(what) == other.what && std::string(file) == other.file;
  }
  std::string text() const {
    const std::string path(file);
    const size_t slash = path.rfind('/');
    return std::string(what) + " (" + (slash == std::string::npos ? path : path.substr(slash + 1)) + ":" +
           std::to_string(line) + ")";
  }
};

struct PendingCopy {
  void* to;
  const void* from;
  int bytes;
  int valid;
};

struct Thread {
  enum class State : uint8_t { kReady, kWaiting, kDone };
  Fiber fiber;
  uint3 index{};
  State state = State::kReady;
  Site site{"", "", 0};
  std::vector<PendingCopy> copies;  // of cp.async, not done yet, oldest first
  std::vector<size_t> groups;       // number of copies in each committed group, oldest first
  size_t open = 0;                  // copies since the last commit
};

struct Barrier {
  std::vector<int> waiting;
  Site site{"", "", 0};
};

struct WarpGathering {
  unsigned arrived = 0;
  unsigned mask = 0;
  Site site{"", "", 0};
  std::array<void*, 32> operands{};  // of each lane, on its own stack
};

class Machine {
 public:
  std::string error;  // of the last launch that failed
  uint32_t seed = 1;
  SharedMemory shared;

  cudaError_t run(dim3 grid, dim3 block, size_t shared_bytes, std::function<void()> body) {
    error.clear();
    const uint64_t threads = uint64_t{block.x} * block.y * block.z;
    if (threads == 0 || threads > 1024 || block.z > 64)
      return refuse("a block of " + std::to_string(threads));
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 ||
        grid.z > 65535) {
      return refuse("a grid of (" + std::to_string(grid.x) + ", " + std::to_string(grid.y) + ", " +
                    std::to_string(grid.z) + ")");
    }
    if (shared_bytes > kMostShared) return refuse(std::to_string(shared_bytes) + " bytes of shared memory");
    body_ = std::move(body);
    blockDim = block;
    gridDim = grid;
    random_.seed(seed);
    shared.begin_launch(shared_bytes);
    if (!stacks_) stacks_ = std::make_unique<Stacks>(1024);
    threads_.resize(threads);
    warps_.resize((threads + 31) / 32);
    std::vector<uint64_t> order(uint64_t{grid.x} * grid.y * grid.z);
    std::iota(order.begin(), order.end(), uint64_t{0});
    std::shuffle(order.begin(), order.end(), random_);
    running() = this;
    const FaultTrap trap(&Machine::fault);
    for (uint64_t number : order) {
      blockIdx = {static_cast<unsigned>(number % grid.x), static_cast<unsigned>(number / grid.x % grid.y),
                  static_cast<unsigned>(number / grid.x / grid.y)};
      if (!run_block()) {
        error = "block (" + std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) + ", " +
                std::to_string(blockIdx.z) + "): " + error;
        return std::exchange(faulted_, false) ? cudaErrorIllegalAddress : cudaErrorLaunchFailure;
      }
    }
    return cudaSuccess;
  }

  int current() const { return current_; }
  int thread_count() const { return static_cast<int>(threads_.size()); }
  Thread& self() { return threads_[static_cast<size_t>(current_)]; }
  uint64_t block_number() const { return block_number_; }  // of all blocks that have run

  // Leaves the processor until another thread wakes this one.
  void sleep(const Site& site) { wait(site); }
  void wake(int number) { threads_[static_cast<size_t>(number)].state = Thread::State::kReady; }

  // Ends the launch with an error; called by a thread of the kernel.
  [[noreturn]] void fail(const std::string& text) {
    if (error.empty()) error = text + ", thread " + name(current_);
    self().state = Thread::State::kDone;
    Fiber::change(self().fiber, scheduler_);
    __builtin_unreachable();
  }

  // Waits until `expected` threads are at this barrier. Only the barrier of the whole block insists on one
  // place.
  void wait_at(int id, int expected, const Site& site, bool one_place) {
    Barrier& barrier = barriers_[static_cast<size_t>(id)];
    if (barrier.waiting.empty()) barrier.site = site;
    if (one_place && !(barrier.site == site)) {
      fail("threads at different barriers: " + barrier.site.text() + " and " + site.text());
    }
    if (static_cast<int>(barrier.waiting.size()) + 1 < expected) {
      barrier.waiting.push_back(current_);
      wait(site);
      return;
    }
    if (const std::string damage = shared.damage(); !damage.empty())
      fail(damage + ", seen at " + site.text());
    for (int waiting : barrier.waiting) threads_[static_cast<size_t>(waiting)].state = Thread::State::kReady;
    barrier.waiting.clear();
  }

  // Gathers the operands of all lanes in mask; the last to come runs combine(operands, mask) for all of them.
  template <typename Operand, typename Combine>
  void gather(unsigned mask, Operand& mine, const Site& site, Combine combine) {
    const int lane = current_ % 32;
    WarpGathering& warp = warps_[static_cast<size_t>(current_ / 32)];
    if ((mask >> lane & 1) == 0)
      fail(site.text() + " by lane " + std::to_string(lane) + ", which its mask leaves out");
    const int lanes = std::min(32, thread_count() - current_ / 32 * 32);
    if (lanes < 32 && mask >> lanes != 0) fail(site.text() + " names lanes that the block does not have");
    if (warp.arrived == 0) {
      warp.mask = mask;
      warp.site = site;
    } else if (!(warp.site == site) || warp.mask != mask) {
      fail("lanes of one warp in different operations: " + warp.site.text() + " and " + site.text());
    }
    warp.operands[static_cast<size_t>(lane)] = &mine;
    warp.arrived |= 1u << lane;
    if (warp.arrived != mask) {
      wait(site);
      return;
    }
    std::array<Operand*, 32> operands{};
    for (int other = 0; other < 32; ++other) {
      if (mask >> other & 1)
        operands[static_cast<size_t>(other)] =
            static_cast<Operand*>(warp.operands[static_cast<size_t>(other)]);
    }
    combine(operands, mask);
    warp.arrived = 0;
    for (int other = 0; other < 32; ++other) {
      if ((mask >> other & 1) && other != lane) {
        threads_[static_cast<size_t>(current_ / 32 * 32 + other)].state = Thread::State::kReady;
      }
    }
  }

 private:
  cudaError_t refuse(const std::string& what) {
    error = "launch with " + what;
    return cudaErrorInvalidConfiguration;
  }

  std::string name(int number) const {
    const uint3& index = threads_[static_cast<size_t>(number)].index;
    return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " + std::to_string(index.z) +
           ")";
  }

  void wait(const Site& site) {
    self().state = Thread::State::kWaiting;
    self().site = site;
    Fiber::change(self().fiber, scheduler_);
  }

  static Machine*& running() {
    static Machine* machine = nullptr;
    return machine;
  }

  static void enter() {
    Machine& machine = *running();
    machine.body_();
    machine.self().state = Thread::State::kDone;
    Fiber::change(machine.self().fiber, machine.scheduler_);
    __builtin_unreachable();
  }

  // Called by the signal's handler, on the stack of the thread.
  static void fault(void* address) {
    Machine& machine = *running();
    if (!machine.in_thread_) abort();  // the emulation's own mistake
    machine.faulted_ = true;
    char text[32];
    std::snprintf(text, sizeof text, "%p", address);
    machine.fail(std::string("an illegal memory access at ") + text);
  }

  void resume(int number) {
    current_ = number;
    threadIdx = threads_[static_cast<size_t>(number)].index;
    in_thread_ = true;
    Fiber::change(scheduler_, self().fiber);
    in_thread_ = false;
  }

  bool run_block() {
    ++block_number_;
    shared.begin_block();
    for (Barrier& barrier : barriers_) barrier.waiting.clear();
    for (WarpGathering& warp : warps_) warp.arrived = 0;
    for (size_t n = 0; n < threads_.size(); ++n) {
      Thread& thread = threads_[n];
      const auto number = static_cast<unsigned>(n);
      thread.index = {number % blockDim.x, number / blockDim.x % blockDim.y,
                      number / blockDim.x / blockDim.y};
      thread.state = Thread::State::kReady;
      thread.copies.clear();
      thread.groups.clear();
      thread.open = 0;
      thread.fiber.prepare(stacks_->at(n), &Machine::enter);
    }
    std::vector<int> order(warps_.size());
    std::iota(order.begin(), order.end(), 0);
    for (bool moved = true; moved;) {
      moved = false;
      std::shuffle(order.begin(), order.end(), random_);
      for (int warp : order) {
        if (!run_warp(warp, moved)) return false;
      }
    }
    if (!explain_who_waits()) return false;
    error = shared.damage();
    return error.empty();
  }

  // Runs the lanes of a warp until each has ended or waits.
  bool run_warp(int warp, bool& moved) {
    const int first = warp * 32;
    const int count = std::min(32, thread_count() - first);
    // An odd factor makes a permutation of a power of two; lanes that are not there are passed over.
    const unsigned factor = static_cast<unsigned>(random_()) | 1u;
    const unsigned shift = static_cast<unsigned>(random_());
    for (bool again = true; again;) {
      again = false;
      for (unsigned n = 0; n < 32; ++n) {
        const int lane = static_cast<int>((n * factor + shift) % 32);
        if (lane >= count || threads_[static_cast<size_t>(first + lane)].state != Thread::State::kReady)
          continue;
        resume(first + lane);
        if (!error.empty()) return false;
        again = moved = true;
      }
    }
    return true;
  }

  bool explain_who_waits() {
    std::map<std::string, std::pair<int, int>> places;  // where -> how many, first
    int ended = 0;
    for (int n = 0; n < thread_count(); ++n) {
      const Thread& thread = threads_[static_cast<size_t>(n)];
      if (thread.state == Thread::State::kDone) {
        ++ended;
        continue;
      }
      auto [place, added] = places.try_emplace(thread.site.text(), 0, n);
      ++place->second.first;
    }
    if (places.empty()) return true;
    error = "threads wait for others that never come:";
    for (const auto& [place, who] : places) {
      error += " " + std::to_string(who.first) + " at " + place + ", the first " + name(who.second) + ";";
    }
    error += " " + std::to_string(ended) + " have ended";
    return false;
  }

  std::function<void()> body_;
  std::mt19937 random_;
  std::unique_ptr<Stacks> stacks_;
  std::vector<Thread> threads_;
  std::vector<WarpGathering> warps_;
  std::array<Barrier, 16> barriers_;
  Fiber scheduler_;
  int current_ = 0;
  bool in_thread_ = false;  // a kernel's code runs, not the scheduler's
  bool faulted_ = false;
  uint64_t block_number_ = 0;
};

inline Machine machine;
inline int64_t launches_left = 0;  // until one fails, which is the last of them; 0: none does

template <typename T>
T& static_shared(const void* key) {
  void* memory = machine.shared.variable(key, sizeof(T));
  if (memory == nullptr)
    machine.fail("more than 48 KiB of static shared memory, or more of both kinds than a block has");
  return *static_cast<T*>(memory);
}

template <typename... Params, typename... Args>
cudaError_t launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes, Args&&... args) {
  if (const int most = most_dynamic_of(reinterpret_cast<const void*>(kernel));
      shared_bytes > static_cast<size_t>(most)) {
    machine.error = "launch with " + std::to_string(shared_bytes) +
                    " bytes of dynamic shared memory, of which this kernel may have " + std::to_string(most);
    return cudaErrorInvalidValue;
  }
  if (launches_left > 0 && --launches_left == 0) {
    machine.error = "a test asked for it";
    return cudaErrorLaunchFailure;
  }
  std::tuple<std::remove_cv_t<Params>...> values(std::forward<Args>(args)...);
  return machine.run(grid, block, shared_bytes, [&] { std::apply(kernel, values); });
}

}  // namespace facetalk::emulate

// For ctypes: each test module is one translation unit that includes this header once.
extern "C" {
inline const char* facetalk_emulate_error() __attribute__((used, visibility("default")));
inline const char* facetalk_emulate_error() { return facetalk::emulate::machine.error.c_str(); }
inline void facetalk_emulate_seed(uint32_t seed) __attribute__((used, visibility("default")));
inline void facetalk_emulate_seed(uint32_t seed) { facetalk::emulate::machine.seed = seed; }
}
