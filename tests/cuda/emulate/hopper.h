// mbarriers, bulk copies and warpgroup products, on the host. Same names and arguments as
// csrc/cuda/platform/hopper.cuh.
//
// wgmma computes from the descriptors' bits what the hardware would, as soon as its 128 threads are there;
// its sums arrive when the threads wait for them, and are NaN until then.
//
// Found beside what machine.h and async_memory.h name: operands that differ between what threads and the
// async proxy see, or outside shared memory, or overwritten before every warp has waited; sums touched
// between wgmma and its wait, or not fenced; threads of a warpgroup in different products.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>

#include "emulate/async_memory.h"
#include "emulate/matrix.h"

#define FACETALK_HERE_PARAMETERS const char *file = __builtin_FILE(), int line = __builtin_LINE()

namespace facetalk::emulate {

// A product that is under way, of one warpgroup.
struct Product {
  std::vector<std::pair<const char*, size_t>> operands;
  uint64_t digest = 0;
  std::set<int> checked;  // warps
};

// A thread's sums that are under way.
struct Sums {
  std::vector<float> value;
  size_t group = 0;  // of the last product, by number
};

struct ProductThread {
  bool fenced = false;
  size_t committed = 0, done = 0;  // groups
  std::map<float*, Sums> sums;
  std::deque<std::pair<size_t, std::shared_ptr<Product>>> products;  // with their groups
};

// The threads of a warpgroup that have come to a product.
struct ProductGathering {
  std::map<int, float*> sums;  // of each
  Site site{"", "", 0};
  uint64_t a = 0, b = 0;
};

// What a block has of all this; made anew with each block.
class Warpgroups {
 public:
  ProductThread& self() {
    if (block_ != machine.block_number()) {
      block_ = machine.block_number();
      threads_.assign(static_cast<size_t>(machine.thread_count()), {});
      gatherings_.assign(static_cast<size_t>(machine.thread_count() + 127) / 128, {});
    }
    return threads_[static_cast<size_t>(machine.current())];
  }

  // compute(a (64, 16), b (columns, 16), all 128 operands), by the last thread of a warpgroup to come.
  template <typename Read>
  void multiply(float* d, int columns, uint64_t a, uint64_t b, Read read, const Site& site) {
    ProductThread& me = self();
    auto found = me.sums.find(d);
    if (found == me.sums.end()) {
      if (!me.fenced) machine.fail(site.text() + " without wgmma_fence since the sums were touched");
      found = me.sums.try_emplace(d).first;
      found->second.value.assign(d, d + columns / 2);
    } else if (found->second.value.size() != static_cast<size_t>(columns) / 2) {
      machine.fail(site.text() + " into sums of another width");
    }
    found->second.group = me.committed;
    for (int i = 0; i < columns / 2; ++i) d[i] = __uint_as_float(kTouched);
    ProductGathering& all = gatherings_[static_cast<size_t>(machine.current() / 128)];
    if (all.sums.empty()) {
      all.site = site;
      all.a = a;
      all.b = b;
    } else if (!(all.site == site) || all.a != a || all.b != b) {
      machine.fail("threads of one warpgroup in different products: " + all.site.text() + " and " +
                   site.text());
    }
    all.sums[machine.current()] = d;
    if (all.sums.size() < 128) {
      machine.sleep(site);
      return;
    }
    auto product = std::make_shared<Product>();
    std::vector<float> inputs = matrix(a, 64, read, *product, site);
    std::vector<float> weights = matrix(b, columns, read, *product, site);
    product->digest = digest(*product);
    std::vector<std::vector<float>*> values;
    for (const auto& [number, place] : all.sums) {
      ProductThread& thread = threads_[static_cast<size_t>(number)];
      values.push_back(&thread.sums[place].value);
      thread.products.emplace_back(thread.committed, product);
      if (number != machine.current()) machine.wake(number);
    }
    all.sums.clear();
    for (int row = 0; row < 64; ++row) {
      const float* x = &inputs[static_cast<size_t>(row) * 16];
      for (int column = 0; column < columns; ++column) {
        const float* w = &weights[static_cast<size_t>(column) * 16];
        const int thread = row / 16 * 32 + row % 8 * 4 + column % 8 / 2;
        float& sum = (*values[static_cast<size_t>(thread)])[static_cast<size_t>(
            column / 8 * 4 + row % 16 / 8 * 2 + column % 2)];
        double total = sum;
        for (int k = 0; k < 16; ++k) total += static_cast<double>(x[k]) * static_cast<double>(w[k]);
        sum = static_cast<float>(total);
      }
    }
  }

  void wait_products(size_t groups_left, const Site& site) {
    ProductThread& me = self();
    while (me.committed - me.done > groups_left) {
      while (!me.products.empty() && me.products.front().first <= me.done) {
        Product& product = *me.products.front().second;
        if (product.checked.insert(machine.current() / 32).second && digest(product) != product.digest)
          machine.fail(site.text() + ": what a product reads was overwritten before it was done");
        me.products.pop_front();
      }
      ++me.done;
    }
    for (auto at = me.sums.begin(); at != me.sums.end();) {
      if (at->second.group >= me.done) {
        ++at;
        continue;
      }
      for (size_t i = 0; i < at->second.value.size(); ++i) {
        if (__float_as_uint(at->first[i]) != kTouched)
          machine.fail(site.text() + ": sums were touched before they were there");
        at->first[i] = at->second.value[i];
      }
      me.fenced = false;
      at = me.sums.erase(at);
    }
  }

 private:
  static constexpr unsigned kTouched = 0x7fc0beefu;  // a NaN of our own

  // (rows, 16) by the bits of a descriptor.
  template <typename Read>
  std::vector<float> matrix(uint64_t descriptor, int rows, Read read, Product& product, const Site& site) {
    const auto field = [&](int from, int bits) { return descriptor >> from & ((uint64_t{1} << bits) - 1); };
    if (field(62, 2) != 1 || field(49, 3) != 0)
      machine.fail(site.text() + " with a layout other than 128-byte swizzle at a multiple of 1024");
    const uint64_t start = field(0, 14) * 16, stride = field(32, 14) * 16;
    std::vector<float> made(static_cast<size_t>(rows) * 16);
    for (int r = 0; r < rows; ++r) {
      for (int chunk = 0; chunk < 2; ++chunk) {
        uint64_t address =
            start + static_cast<uint64_t>(r / 8) * stride + static_cast<uint64_t>(r % 8 * 128 + chunk * 16);
        address ^= (address >> 7 & 7) << 4;
        const char* at = machine.shared.begin() + address;
        if (!AsyncMemory::holds(at, 16)) machine.fail(site.text() + " reads outside shared memory");
        if (std::memcmp(at, async_memory.seen(at), 16) != 0)
          machine.fail(site.text() + " reads what was stored without fence_async_proxy");
        product.operands.emplace_back(at, 16);
        for (int i = 0; i < 8; ++i) {
          uint16_t bits;
          std::memcpy(&bits, at + 2 * i, 2);
          made[static_cast<size_t>(r * 16 + chunk * 8 + i)] = read(bits);
        }
      }
    }
    return made;
  }

  static uint64_t digest(const Product& product) {
    uint64_t value = 1;
    for (const auto& [at, bytes] : product.operands) {
      for (size_t i = 0; i < bytes; i += 8) {
        uint64_t word;
        std::memcpy(&word, at + i, 8);
        value = (value ^ word) * 0x9e3779b97f4a7c15u;
        value ^= value >> 29;
      }
    }
    return value;
  }

  uint64_t block_ = ~uint64_t{0};
  std::vector<ProductThread> threads_;
  std::vector<ProductGathering> gatherings_;
};

inline Warpgroups warpgroups;

}  // namespace facetalk::emulate

namespace facetalk::cuda {

inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(static_cast<const char*>(pointer) - facetalk::emulate::machine.shared.begin());
}

inline void mbarrier_init(uint64_t* barrier, int arrivals, FACETALK_HERE_PARAMETERS) {
  facetalk::emulate::async_memory.init(barrier, arrivals, {"mbarrier_init", file, line});
}
inline void mbarrier_init_fence() { facetalk::emulate::async_memory.fence_inits(); }
inline void mbarrier_arrive(uint64_t* barrier, FACETALK_HERE_PARAMETERS) {
  facetalk::emulate::async_memory.arrive(barrier, 0, {"mbarrier_arrive", file, line});
}
inline void mbarrier_arrive_expect(uint64_t* barrier, int bytes, FACETALK_HERE_PARAMETERS) {
  facetalk::emulate::async_memory.arrive(barrier, bytes, {"mbarrier_arrive_expect", file, line});
}
inline void mbarrier_wait(uint64_t* barrier, uint32_t parity, FACETALK_HERE_PARAMETERS) {
  facetalk::emulate::async_memory.wait(barrier, parity, {"mbarrier_wait", file, line});
}
inline void bulk_copy(void* shared, const void* global, int bytes, uint64_t* barrier,
                      FACETALK_HERE_PARAMETERS) {
  facetalk::emulate::async_memory.copy(shared, global, static_cast<size_t>(bytes), barrier,
                                       {"bulk_copy", file, line});
}
inline void fence_async_proxy() { facetalk::emulate::async_memory.fence(); }

inline unsigned thread_anew() { return threadIdx.x; }
template <int kCount>
void give_registers() {
  static_assert(kCount % 8 == 0 && kCount >= 24 && kCount <= 256,
                "setmaxnreg takes multiples of 8, 24 to 256");
}
template <int kCount>
void take_registers() {
  give_registers<kCount>();
}

inline void wgmma_fence() { facetalk::emulate::warpgroups.self().fenced = true; }
inline void wgmma_commit() { ++facetalk::emulate::warpgroups.self().committed; }
template <int kGroupsLeft>
void wgmma_wait(FACETALK_HERE_PARAMETERS) {
  facetalk::emulate::warpgroups.wait_products(kGroupsLeft, {"wgmma_wait", file, line});
}
template <typename Values>
void pin(Values&) {}
template <int kTiles>
void wgmma_wait_all(float (&)[kTiles][4], FACETALK_HERE_PARAMETERS) {
  facetalk::emulate::warpgroups.wait_products(0, {"wgmma_wait_all", file, line});
}

template <typename T, int kColumns>
void wgmma_m64k16(float (&d)[32][4], uint64_t a, uint64_t b, FACETALK_HERE_PARAMETERS) {
  static_assert(kColumns % 8 == 0 && kColumns >= 8 && kColumns <= 256, "wgmma has 8 to 256 columns");
  facetalk::emulate::warpgroups.multiply(&d[0][0], kColumns, a, b,
                                         [](uint16_t bits) -> float { return T::of_bits(bits); },
                                         {"wgmma_m64k16", file, line});
}

}  // namespace facetalk::cuda
#undef FACETALK_HERE_PARAMETERS
