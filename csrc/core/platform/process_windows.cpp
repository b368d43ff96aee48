#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>

#include <bit>
#include <thread>

#include "core/platform/process.h"

namespace facetalk::platform {

// Nothing forks here, but the number is as good as elsewhere.
int64_t process_id() { return static_cast<int64_t>(::GetCurrentProcessId()); }

int usable_processors() {
  DWORD_PTR ours = 0, all = 0;
  // Zero for a process that runs on several groups of 64 processors.
  if (::GetProcessAffinityMask(::GetCurrentProcess(), &ours, &all) && ours != 0) return std::popcount(ours);
  return static_cast<int>(std::thread::hardware_concurrency());
}

void stay_loaded() {
  HMODULE self = nullptr;
  ::GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN,
                       reinterpret_cast<LPCWSTR>(&stay_loaded), &self);
}

}  // namespace facetalk::platform
