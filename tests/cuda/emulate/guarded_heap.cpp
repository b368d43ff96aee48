// While it is switched on, tensors that torch makes on the CPU end where nobody may read or write, to within 16
// bytes: kernels that the tests run on the host and that touch what lies behind a tensor fail, see faults.h. Those
// made before or after are as always.
#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

namespace {

constexpr size_t kAlign = 16;     // what kernels may count on: the widest load
constexpr size_t kGuard = 65536;  // on both sides
constexpr int kMostMaps = 16000;  // of a process's 65530 each takes three

std::atomic<bool> on{false};
std::atomic<int> maps{0};
c10::Allocator* plain = nullptr;

struct Map {
  void* memory;
  size_t bytes;
};

void unmap(void* context) {
  auto* map = static_cast<Map*>(context);
  munmap(map->memory, map->bytes);
  delete map;
  --maps;
}

struct Guarded final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    if (!on || bytes == 0 || maps >= kMostMaps) return plain->allocate(bytes);
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t inside = (bytes + page - 1) / page * page, all = inside + 2 * kGuard;
    void* memory = mmap(nullptr, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return plain->allocate(bytes);
    char* first = static_cast<char*>(memory) + kGuard;
    mprotect(first, inside, PROT_READ | PROT_WRITE);
    ++maps;
    char* data = first + inside - (bytes + kAlign - 1) / kAlign * kAlign;
    return {data, new Map{memory, all}, &unmap, c10::Device(c10::DeviceType::CPU)};
  }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

}  // namespace

extern "C" void guarded_heap(int switch_on) {
  static Guarded allocator;
  if (plain == nullptr) {
    plain = c10::GetCPUAllocator();
    c10::SetCPUAllocator(&allocator, 1);
  }
  on = switch_on != 0;
}
