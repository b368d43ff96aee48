// Whose memory the calling thread takes. The C library's operator new asks; elsewhere nobody does.
#pragma once

#include <cstddef>

namespace facetalk {

// An allocator that a program handed in; without functions, the library's own.
struct Memory {
  void* (*allocate)(void* user, size_t size) = nullptr;
  void (*release)(void* user, void* memory) = nullptr;
  void* user = nullptr;
};

namespace detail {
inline thread_local Memory t_memory;
}

// That of the calling thread.
inline Memory thread_memory() noexcept { return detail::t_memory; }

// Takes from `memory` for as long as it lives, in the thread that made it. MemoryScope({}) is for what
// outlives the call: a program may end its allocator with its last handle.
class MemoryScope {
 public:
  explicit MemoryScope(const Memory& memory) noexcept : before_(detail::t_memory) {
    detail::t_memory = memory;
  }
  ~MemoryScope() { detail::t_memory = before_; }
  MemoryScope(const MemoryScope&) = delete;
  MemoryScope& operator=(const MemoryScope&) = delete;

 private:
  Memory before_;
};

}  // namespace facetalk
