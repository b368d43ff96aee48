#include "cpu/threads.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <string>

#include "core/platform/process.h"
#include "core/status.h"

namespace facetalk::cpu {
namespace {

constexpr int kMost = 1024;
std::atomic<int> g_threads{0};

// OMP_NUM_THREADS by its first number ("4,2" asks for 4 at the outermost level), since that is how schedulers
// of clusters and of data loaders tell a process its share; else the cores that the process may run on.
int default_threads() {
  if (const char* text = std::getenv("OMP_NUM_THREADS")) {
    char* end = nullptr;
    const long asked = std::strtol(text, &end, 10);
    if (end != text && asked >= 1) return static_cast<int>(std::min<long>(asked, kMost));
  }
  return std::clamp(platform::usable_processors(), 1, kMost);
}

}  // namespace

int threads() {
  const int count = g_threads.load(std::memory_order_relaxed);
  if (count > 0) return count;
  static const int kDefault = default_threads();
  return kDefault;
}

void set_threads(int count) {
  if (count < 1 || count > kMost) {
    throw ArgumentError("count", "1 to 1024 threads", std::to_string(count));
  }
  g_threads.store(count, std::memory_order_relaxed);
}

}  // namespace facetalk::cpu
