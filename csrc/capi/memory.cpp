// The library's operator new: all that C++ code inside takes comes from the allocator of the call it works for. The
// C++ library is linked in and none of these are exported, so the program's own operators are left alone.
//
// Every block knows whom it is from, so it goes back there whoever frees it, whenever.
#include "core/memory.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace {

constexpr size_t kAlign = 16;
struct alignas(kAlign) Header {
  void (*release)(void* user, void* memory);  // null: free()
  void* user;
  void* block;  // what the allocator gave
};
constexpr size_t kHeader = sizeof(Header);

void* take(size_t size, size_t align) {
  align = std::max(align, kAlign);
  const size_t more = kHeader + align;
  if (size > SIZE_MAX / 2 || align > SIZE_MAX / 4) throw std::bad_alloc();
  const facetalk::Memory memory = facetalk::thread_memory();
  void* block = memory.allocate ? memory.allocate(memory.user, size + more) : std::malloc(size + more);
  if (block == nullptr) throw std::bad_alloc();
  const auto first = reinterpret_cast<uintptr_t>(block) + kHeader;
  auto* out = static_cast<unsigned char*>(block) + kHeader + (align - first % align) % align;
  ::new (static_cast<void*>(out - kHeader))
      Header{memory.allocate ? memory.release : nullptr, memory.user, block};
  return out;
}

void give_back(void* pointer) noexcept {
  if (pointer == nullptr) return;
  const Header header = *reinterpret_cast<const Header*>(static_cast<unsigned char*>(pointer) - kHeader);
  if (header.release != nullptr) {
    header.release(header.user, header.block);
  } else {
    std::free(header.block);
  }
}

}  // namespace

// The others of the standard (arrays, nothrow) call these.
void* operator new(size_t size) { return take(size, kAlign); }
void* operator new(size_t size, std::align_val_t align) { return take(size, static_cast<size_t>(align)); }
void operator delete(void* pointer) noexcept { give_back(pointer); }
void operator delete(void* pointer, size_t) noexcept { give_back(pointer); }
void operator delete(void* pointer, std::align_val_t) noexcept { give_back(pointer); }
void operator delete(void* pointer, size_t, std::align_val_t) noexcept { give_back(pointer); }
