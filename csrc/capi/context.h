// What a program asked for with facetalk_options; every handle has a copy.
#pragma once

#include <string>

#include "core/memory.h"
#include "facetalk.h"

namespace facetalk::capi {

struct Context {
  Memory memory;
  facetalk_log_callback logged = nullptr;
  void* log_user = nullptr;
  int32_t device = FACETALK_DEVICE_CPU, device_index = 0;

  bool is_logging() const noexcept { return logged != nullptr; }
  void log(int32_t level, const char* message) const noexcept {
    if (logged != nullptr) logged(log_user, level, message);
  }
};

// NULL gives the defaults. Throws ArgumentError. Whether a device is there is not asked.
Context checked(const facetalk_options* options);

// Throws Unsupported where the options ask for another device than the CPU; `what` is what runs there alone.
void require_cpu(const Context& context, const char* what);

// That of a handle, or the defaults for NULL.
template <typename Handle>
Context context_of(const Handle* handle) noexcept {
  return handle == nullptr ? Context{} : handle->context;
}

}  // namespace facetalk::capi
