// While it is switched on, tensors that torch makes on the CPU end where nobody may read or write, to within 16
// bytes: kernels that the tests run on the host and that touch what lies behind a tensor fail, see faults.h. Those
// made before or after are as always.
#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <unordered_map>

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

// By the address that torch knows: what asks for memory without a DataPtr, as oneDNN's products in 16 bit do, wants
// an allocator's context to be that address.
std::mutex mutex;
std::unordered_map<void*, Map> held;

void release(void* data) {
  Map map{};
  {
    const std::lock_guard<std::mutex> lock(mutex);
    const auto found = held.find(data);
    if (found != held.end()) {
      map = found->second;
      held.erase(found);
    }
  }
  if (map.memory == nullptr) return plain->raw_deallocate(data);
  munmap(map.memory, map.bytes);
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
    const std::lock_guard<std::mutex> lock(mutex);
    held[data] = {memory, all};
    return {data, data, &release, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
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
