// Turns a kernel's read or write of memory that is not there into an error of its launch, as on a device. What lies
// behind the tensors of a test is such memory: see guarded.py and guarded_heap.cpp.
#pragma once

#include <signal.h>

namespace facetalk::emulate {

// Calls `caught` on the stack of who touched the memory, for as long as this object lives; it must not return.
class FaultTrap {
 public:
  explicit FaultTrap(void (*caught)(void* address)) {
    function() = caught;
    struct sigaction action{};
    action.sa_sigaction = [](int, siginfo_t* info, void*) { function()(info->si_addr); };
    // Nobody comes back from the handler, so the signal must not stay blocked.
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    sigaction(SIGSEGV, &action, &segv_);
    sigaction(SIGBUS, &action, &bus_);
  }
  ~FaultTrap() {
    sigaction(SIGSEGV, &segv_, nullptr);
    sigaction(SIGBUS, &bus_, nullptr);
  }
  FaultTrap(const FaultTrap&) = delete;
  FaultTrap& operator=(const FaultTrap&) = delete;

 private:
  static void (*&function())(void*) {
    static void (*made)(void*) = nullptr;
    return made;
  }
  struct sigaction segv_{}, bus_{};
};

}  // namespace facetalk::emulate
