// Shared memory of a block on the host, poisoned before each block and guarded on all sides.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "emulate/types.h"

namespace facetalk::emulate {

// A NaN as float, half, bfloat16 and double; as an integer far out of any range.
constexpr uint16_t kPoison = 0x7ff1;

// Shared memory of one block: guard, dynamic part, guard, then each static variable followed by a guard.
class SharedMemory {
 public:
  static constexpr size_t kGuard = 4096;
  static constexpr size_t kSmallGuard = 256;
  static constexpr size_t kMostStatic = 48 * 1024;

  void begin_launch(size_t dynamic_bytes) {
    dynamic_bytes_ = dynamic_bytes;
    slots_.clear();
    const size_t rounded = (dynamic_bytes + 1023) / 1024 * 1024;
    static_begin_ = kGuard + rounded + kGuard;
    static_end_ = static_begin_;
    static_bytes_ = 0;
    const size_t need = static_begin_ + 4 * kMostStatic + 2048;
    if (memory_.size() < need) memory_.resize(need);
    base_ = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(memory_.data()) + 1023) / 1024 * 1024);
  }
  void begin_block() { fill(base_, base_ + static_end_); }

  char* dynamic() const { return base_ + kGuard; }
  size_t dynamic_bytes() const { return dynamic_bytes_; }
  // What addresses in shared memory count from, at a multiple of 1024, and the dynamic part's last plus 1.
  char* begin() const { return base_; }
  size_t dynamic_end() const { return kGuard + dynamic_bytes_; }

  // Null when the block's static shared memory is used up.
  void* variable(const void* key, size_t bytes) {
    for (const Slot& slot : slots_) {
      if (slot.key == key) return base_ + slot.begin;
    }
    static_bytes_ += bytes;
    if (static_bytes_ > kMostStatic || static_bytes_ + dynamic_bytes_ > kMostShared) return nullptr;
    const size_t begin = (static_end_ + 127) / 128 * 128;
    slots_.push_back({key, begin, bytes});
    fill(base_ + static_end_, base_ + begin + bytes + kSmallGuard);
    static_end_ = begin + bytes + kSmallGuard;
    return base_ + begin;
  }

  // What was written that belongs to nobody; empty when nothing was.
  std::string damage() const {
    if (!is_poison(0, kGuard)) return "a write before the dynamic shared memory";
    if (!is_poison(kGuard + dynamic_bytes_, static_begin_)) {
      return "a write beyond the " + std::to_string(dynamic_bytes_) + " bytes of dynamic shared memory";
    }
    for (size_t n = 0; n < slots_.size(); ++n) {
      const size_t end = n + 1 < slots_.size() ? slots_[n + 1].begin : static_end_;
      if (!is_poison(slots_[n].begin + slots_[n].bytes, end)) {
        return "a write beyond a static shared variable of " + std::to_string(slots_[n].bytes) + " bytes";
      }
    }
    return "";
  }

  bool holds(const void* address, size_t bytes) const {
    const auto at = static_cast<size_t>(static_cast<const char*>(address) - base_);
    if (at >= kGuard && at + bytes <= kGuard + dynamic_bytes_) return true;
    for (const Slot& slot : slots_) {
      if (at >= slot.begin && at + bytes <= slot.begin + slot.bytes) return true;
    }
    return false;
  }

 private:
  struct Slot {
    const void* key;
    size_t begin, bytes;
  };
  static char pattern(size_t offset) {
    return static_cast<char>(offset % 2 == 0 ? kPoison & 0xff : kPoison >> 8);
  }
  void fill(char* begin, char* end) {
    for (char* at = begin; at != end; ++at) *at = pattern(static_cast<size_t>(at - base_));
  }
  bool is_poison(size_t begin, size_t end) const {
    for (size_t at = begin; at < end; ++at) {
      if (base_[at] != pattern(at)) return false;
    }
    return true;
  }

  std::vector<char> memory_;
  char* base_ = nullptr;
  size_t dynamic_bytes_ = 0, static_begin_ = 0, static_end_ = 0, static_bytes_ = 0;
  std::vector<Slot> slots_;
};

}  // namespace facetalk::emulate
