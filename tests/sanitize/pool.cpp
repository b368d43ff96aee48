// The thread pool alone, for the thread sanitizer: many callers at a time, loops in loops, work that throws, a
// number of threads that changes meanwhile. Exits with 1 when a result is wrong; races are the sanitizer's to find.
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <thread>
#include <vector>

#include "cpu/parallel.h"
#include "cpu/threads.h"

namespace {

using facetalk::cpu::parallel_for;

std::atomic<int> g_wrong{0};

void expect(bool right, const char* what) {
  if (right) return;
  std::fprintf(stderr, "wrong: %s\n", what);
  ++g_wrong;
}

// Plain memory: pieces that overlapped, or ended after the call, would race on it.
void check_fill(int64_t size, int64_t grain) {
  std::vector<int64_t> seen(static_cast<size_t>(size), 0);
  parallel_for(size, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) seen[static_cast<size_t>(i)] += i;
  });
  bool right = true;
  for (int64_t i = 0; i < size; ++i) right = right && seen[static_cast<size_t>(i)] == i;
  expect(right, "every element once");
}

void check_throw(int64_t size) {
  bool thrown = false;
  try {
    parallel_for(size, 1, [&](int64_t begin, int64_t) {
      if (begin % 3 == 1) throw std::runtime_error("piece");
    });
  } catch (const std::runtime_error&) {
    thrown = true;
  }
  expect(thrown, "what work throws is thrown again");
}

void check_nested() {
  std::atomic<int64_t> sum{0};
  parallel_for(8, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      parallel_for(50, 4, [&](int64_t from, int64_t to) { sum += to - from; });
    }
  });
  expect(sum == 400, "loops in loops");
}

}  // namespace

int main() {
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 6; ++caller) {
    callers.emplace_back([caller] {
      for (int round = 0; round < 60; ++round) {
        facetalk::cpu::set_threads(1 + (caller + round) % 7);
        check_fill(1 + 37 * round, 1 + round % 5);
        if (round % 4 == 0) check_throw(20);
        if (round % 5 == 0) check_nested();
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  std::printf("pool: %d wrong\n", g_wrong.load());
  return g_wrong == 0 ? 0 : 1;
}
