#include <unistd.h>

#include <thread>
#if defined(__linux__)
#include <sched.h>
#endif

#include "core/platform/process.h"

namespace facetalk::platform {

int64_t process_id() { return ::getpid(); }

int usable_processors() {
#if defined(__linux__)
  cpu_set_t cores;
  if (::sched_getaffinity(0, sizeof(cores), &cores) == 0) return CPU_COUNT(&cores);
#endif
  return static_cast<int>(std::thread::hardware_concurrency());
}

void stay_loaded() {}

}  // namespace facetalk::platform
