// Switching between stacks on one host thread. Own code on x86-64, where makecontext's swapcontext would
// enter the kernel at every switch and a barrier of 256 threads take a tenth of a millisecond; ucontext
// elsewhere.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>

#if defined(__x86_64__) && !defined(FACETALK_EMULATE_UCONTEXT)
#define FACETALK_EMULATE_OWN_SWITCH 1
#else
#define FACETALK_EMULATE_OWN_SWITCH 0
#include <ucontext.h>
#endif

#if FACETALK_EMULATE_OWN_SWITCH
// void facetalk_emulate_switch(void** save, void* load): stores what a callee must keep, then takes the other
// stack.
extern "C" void facetalk_emulate_switch(void** save, void* load);
asm(R"(
.text
.p2align 4
.hidden facetalk_emulate_switch
.globl facetalk_emulate_switch
.type facetalk_emulate_switch, @function
facetalk_emulate_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size facetalk_emulate_switch, . - facetalk_emulate_switch
)");
#endif

namespace facetalk::emulate {

class Fiber {
 public:
  static constexpr size_t kStackBytes = 128 * 1024;

  // The next switch to this fiber calls entry() on the given stack; entry must never return.
  void prepare(char* stack, void (*entry)()) {
#if FACETALK_EMULATE_OWN_SWITCH
    auto** top = reinterpret_cast<void**>(stack + kStackBytes) - 2;
    *top = reinterpret_cast<void*>(entry);  // where `ret` goes; leaves the alignment that a call would
    for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
    stack_pointer_ = top;
#else
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack;
    context_.uc_stack.ss_size = kStackBytes;
    context_.uc_link = nullptr;
    makecontext(&context_, entry, 0);
#endif
  }

  static void change(Fiber& from, Fiber& to) {
#if FACETALK_EMULATE_OWN_SWITCH
    facetalk_emulate_switch(&from.stack_pointer_, to.stack_pointer_);
#else
    swapcontext(&from.context_, &to.context_);
#endif
  }

 private:
#if FACETALK_EMULATE_OWN_SWITCH
  void* stack_pointer_ = nullptr;
#else
  ucontext_t context_;
#endif
};

// Stacks of all threads of a block: address space only, until a thread touches its own.
class Stacks {
 public:
  explicit Stacks(size_t count) : bytes_(count * Fiber::kStackBytes) {
    memory_ =
        mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory_ == MAP_FAILED) throw std::bad_alloc();
  }
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;
  ~Stacks() { munmap(memory_, bytes_); }

  char* at(size_t number) const { return static_cast<char*>(memory_) + number * Fiber::kStackBytes; }

 private:
  size_t bytes_;
  void* memory_;
};

}  // namespace facetalk::emulate
