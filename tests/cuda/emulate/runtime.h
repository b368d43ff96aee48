// The part of CUDA's runtime that a program without a framework uses, on the host: devices, memory, streams. For
// tests of what owns those, beside types.h.
//
// Memory of the "device" is filled with NaN, ends where nobody may touch it, and copies to and from it are refused
// where they leave it or go the wrong way. A test says how many devices there are, when memory ends, and which
// launch fails.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>

#include "core/memory.h"
#include "emulate/machine.h"
#include "emulate/types.h"

constexpr int CUDART_VERSION = 13000;
constexpr unsigned cudaStreamNonBlocking = 1;

struct cudaDeviceProp {
  char name[256];
  int major, minor;
  size_t totalGlobalMem;
};

namespace facetalk::emulate {

class DeviceMemory {
 public:
  int64_t devices = kDevices, room = INT64_MAX;  // bytes that may be held
  int64_t held = 0, taken = 0;                   // bytes now, and blocks that were ever asked for
  int64_t streams = 0;                           // that are there

  cudaError_t take(void** out, size_t bytes) {
    const MemoryScope plain({});
    *out = nullptr;
    ++taken;
    if (bytes == 0) return cudaSuccess;
    if (held + static_cast<int64_t>(bytes) > room) return cudaErrorMemoryAllocation;
    const size_t inside = (bytes + kPage - 1) / kPage * kPage;
    void* base = mmap(nullptr, inside + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return cudaErrorMemoryAllocation;
    mprotect(static_cast<char*>(base) + inside, kPage, PROT_NONE);
    std::memset(base, 0xff, inside);
    // Blocks are as aligned as CUDA's, so what is behind them is not always the guard.
    char* at = static_cast<char*>(base) + (inside - bytes) / kAlign * kAlign;
    blocks_[reinterpret_cast<uintptr_t>(at)] = {base, inside + kPage, bytes};
    held += static_cast<int64_t>(bytes);
    *out = at;
    return cudaSuccess;
  }

  cudaError_t give_back(void* pointer) {
    const MemoryScope plain({});
    if (pointer == nullptr) return cudaSuccess;
    const auto found = blocks_.find(reinterpret_cast<uintptr_t>(pointer));
    if (found == blocks_.end()) return cudaErrorInvalidValue;
    munmap(found->second.base, found->second.mapped);
    held -= static_cast<int64_t>(found->second.bytes);
    blocks_.erase(found);
    return cudaSuccess;
  }

  // Whether all of these bytes, or none, belong to one block.
  bool is_device(const void* pointer, size_t bytes, bool expected) const {
    const auto at = reinterpret_cast<uintptr_t>(pointer);
    auto found = blocks_.upper_bound(at);
    if (found == blocks_.begin()) return !expected;
    --found;
    const bool begins = at < found->first + found->second.bytes;
    return begins == expected && (!begins || at + bytes <= found->first + found->second.bytes);
  }

 private:
  static constexpr size_t kPage = 4096, kAlign = 256;
  struct Block {
    void* base;
    size_t mapped, bytes;
  };
  std::map<uintptr_t, Block> blocks_;
};

inline DeviceMemory device_memory;

}  // namespace facetalk::emulate

inline cudaError_t cudaMalloc(void** out, size_t bytes) {
  return facetalk::emulate::device_memory.take(out, bytes);
}
inline cudaError_t cudaFree(void* pointer) { return facetalk::emulate::device_memory.give_back(pointer); }
// Of a test that hands in its own memory nothing is known: it makes no streams.
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                                   cudaStream_t) {
  const auto& memory = facetalk::emulate::device_memory;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (bytes == 0) return cudaSuccess;
  if (memory.streams > 0 &&
      (!memory.is_device(to, bytes, to_device) || !memory.is_device(from, bytes, from_device)))
    return cudaErrorInvalidValue;
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = reinterpret_cast<cudaStream_t>(++facetalk::emulate::device_memory.streams);
  return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (stream == nullptr) return cudaSuccess;
  --facetalk::emulate::device_memory.streams;
  return cudaSuccess;
}
inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = static_cast<int>(facetalk::emulate::device_memory.devices);
  return *count == 0 ? cudaErrorNoDevice : cudaSuccess;
}
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::memset(properties, 0, sizeof *properties);
  std::strcpy(properties->name, "Emulated");
  properties->major = 9;
  properties->totalGlobalMem = size_t{1} << 34;
  return cudaSuccess;
}
inline cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
inline cudaError_t cudaDriverGetVersion(int* version) {
  *version = facetalk::emulate::device_memory.devices == 0 ? 0 : CUDART_VERSION;
  return cudaSuccess;
}

// For ctypes.
extern "C" {
inline void facetalk_emulate_devices(int64_t count) __attribute__((used, visibility("default")));
inline void facetalk_emulate_devices(int64_t count) { facetalk::emulate::device_memory.devices = count; }
inline void facetalk_emulate_room(int64_t bytes) __attribute__((used, visibility("default")));
inline void facetalk_emulate_room(int64_t bytes) { facetalk::emulate::device_memory.room = bytes; }
inline void facetalk_emulate_fail_launch(int64_t number) __attribute__((used, visibility("default")));
inline void facetalk_emulate_fail_launch(int64_t number) { facetalk::emulate::launches_left = number; }
inline int64_t facetalk_emulate_held() __attribute__((used, visibility("default")));
inline int64_t facetalk_emulate_held() { return facetalk::emulate::device_memory.held; }
inline int64_t facetalk_emulate_taken() __attribute__((used, visibility("default")));
inline int64_t facetalk_emulate_taken() { return facetalk::emulate::device_memory.taken; }
inline int64_t facetalk_emulate_streams() __attribute__((used, visibility("default")));
inline int64_t facetalk_emulate_streams() { return facetalk::emulate::device_memory.streams; }
inline int64_t facetalk_emulate_current() __attribute__((used, visibility("default")));
inline int64_t facetalk_emulate_current() { return facetalk::emulate::current_device; }
}
