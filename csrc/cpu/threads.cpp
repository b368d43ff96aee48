#include "cpu/threads.h"

#include <omp.h>

#include <atomic>
#include <string>

#include "core/status.h"

namespace facetalk::cpu {
namespace {
// Our own number, because omp_set_num_threads counts for the calling thread only.
std::atomic<int> g_threads{0};
}  // namespace

int threads() {
  const int count = g_threads.load(std::memory_order_relaxed);
  return count > 0 ? count : omp_get_max_threads();
}

void set_threads(int count) {
  if (count < 1 || count > 1024) throw ArgumentError("count", "1 to 1024 threads", std::to_string(count));
  g_threads.store(count, std::memory_order_relaxed);
}

}  // namespace facetalk::cpu
