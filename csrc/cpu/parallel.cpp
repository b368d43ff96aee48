#include "cpu/parallel.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "core/memory.h"
#include "core/platform/process.h"
#include "cpu/threads.h"

namespace facetalk::cpu {
namespace {

constexpr int kTurns = 16;  // the last helper is mostly done within these

// Shared by the caller and the helpers; a helper that comes late finds nothing left and lets go of it.
struct Job {
  explicit Job(const Memory& of) : memory(of) {}

  const std::function<void(int64_t, int64_t)>* work;  // the caller's; only touched while a piece is open
  int64_t size;
  int64_t grain;
  std::atomic<int64_t> next{0};
  std::atomic<int64_t> done{0};
  std::atomic<bool> failed{false};
  std::exception_ptr error;
  std::mutex mutex;
  std::condition_variable ended;
  const Memory memory;  // of the caller, from whom its helpers take too

  void run() {
    const MemoryScope scope(memory);
    for (;;) {
      const int64_t begin = next.fetch_add(grain, std::memory_order_relaxed);
      if (begin >= size) return;
      const int64_t end = std::min(begin + grain, size);
      try {
        (*work)(begin, end);
      } catch (...) {
        if (!failed.exchange(true)) error = std::current_exception();
      }
      if (done.fetch_add(end - begin, std::memory_order_acq_rel) + end - begin == size) {
        const std::lock_guard<std::mutex> lock(mutex);  // after which the caller has looked, or waits already
        ended.notify_all();
      }
    }
  }

  // Not by done.wait(), which on systems without futexes misses some calls of notify_all() (libstdc++ 12).
  void wait() {
    for (int turn = 0; turn < kTurns && !is_done(); ++turn) std::this_thread::yield();
    if (!is_done()) {
      std::unique_lock<std::mutex> lock(mutex);
      ended.wait(lock, [this] { return is_done(); });
    }
    if (failed.load()) std::rethrow_exception(std::exchange(error, nullptr));
  }

  bool is_done() const { return done.load(std::memory_order_acquire) >= size; }
};

class Pool {
 public:
  // Asks for up to `helpers` helpers. There may be fewer: where the system gives no more threads or memory, the
  // caller is left with more of the pieces, or all. It must run the job itself whatever happens here, because
  // helpers may hold it already; so nothing is thrown.
  void offer(const std::shared_ptr<Job>& job, int helpers) noexcept {
    const MemoryScope own({});
    try {
      const std::lock_guard<std::mutex> lock(mutex_);
      start(helpers);
      for (int n = 0; n < std::min(helpers, count_); ++n) jobs_.push_back(job);
    } catch (const std::exception&) {  // no memory for the list, which is what it was
    }
    wake_.notify_all();
  }

 private:
  // Raises the number of threads to `count`, or to what the system allows; later calls try again.
  void start(int count) {
    if (count_ == 0 && count > 0) platform::stay_loaded();
    try {
      for (; count_ < count; ++count_) std::thread(&Pool::serve, this).detach();
    } catch (const std::exception&) {  // std::system_error of pthread_create, or no memory for its arguments
    }
  }

  void serve() {
    for (;;) {
      std::shared_ptr<Job> job;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [this] { return !jobs_.empty(); });
        job = std::move(jobs_.front());
        jobs_.pop_front();
      }
      job->run();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::shared_ptr<Job>> jobs_;
  int count_ = 0;
};

// A process and its pool.
struct Owned {
  explicit Owned(int64_t process) : owner(process) {}
  const int64_t owner;
  Pool pool;
};

// Never destroyed, since its threads may outlive static destructors; one per process, since a fork copies no
// threads. Without a lock, which a fork could copy while it is held.
Pool& pool() {
  static std::atomic<Owned*> current{nullptr};
  const int64_t self = platform::process_id();
  Owned* found = current.load(std::memory_order_acquire);
  if (found != nullptr && found->owner == self) return found->pool;
  const MemoryScope own({});
  auto fresh = std::make_unique<Owned>(self);
  while (!current.compare_exchange_weak(found, fresh.get(), std::memory_order_acq_rel)) {
    if (found != nullptr && found->owner == self) return found->pool;  // another thread was faster
  }
  return fresh.release()->pool;
}

// A late helper may let go of it after the call.
std::shared_ptr<Job> make_job() {
  const Memory memory = thread_memory();
  const MemoryScope own({});
  return std::make_shared<Job>(memory);
}

}  // namespace

void parallel_for(int64_t size, int64_t grain, const std::function<void(int64_t, int64_t)>& work) {
  if (size <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  const int64_t pieces = (size + grain - 1) / grain;
  const int helpers = static_cast<int>(std::min<int64_t>(threads(), pieces)) - 1;
  if (helpers <= 0) {
    for (int64_t begin = 0; begin < size; begin += grain) work(begin, std::min(begin + grain, size));
    return;
  }
  const auto job = make_job();
  job->work = &work;
  job->size = size;
  job->grain = grain;
  pool().offer(job, helpers);
  job->run();
  job->wait();
}

}  // namespace facetalk::cpu
