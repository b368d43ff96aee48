#include "cpu/parallel.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>

#include "cpu/threads.h"

namespace facetalk::cpu {
namespace {

// Shared by the caller and the helpers; a helper that comes late finds nothing left and lets go of it.
struct Job {
  const std::function<void(int64_t, int64_t)>* work;  // the caller's; only touched while a piece is open
  int64_t size;
  int64_t grain;
  std::atomic<int64_t> next{0};
  std::atomic<int64_t> done{0};
  std::atomic<bool> failed{false};
  std::exception_ptr error;

  void run() {
    for (;;) {
      const int64_t begin = next.fetch_add(grain, std::memory_order_relaxed);
      if (begin >= size) return;
      const int64_t end = std::min(begin + grain, size);
      try {
        (*work)(begin, end);
      } catch (...) {
        if (!failed.exchange(true)) error = std::current_exception();
      }
      if (done.fetch_add(end - begin, std::memory_order_acq_rel) + end - begin == size) done.notify_all();
    }
  }

  void wait() {
    for (int64_t seen = done.load(std::memory_order_acquire); seen < size;
         seen = done.load(std::memory_order_acquire)) {
      done.wait(seen, std::memory_order_acquire);
    }
    if (failed.load()) std::rethrow_exception(error);
  }
};

class Pool {
 public:
  void offer(const std::shared_ptr<Job>& job, int helpers) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      for (int n = 0; n < helpers; ++n) jobs_.push_back(job);
      for (; count_ < helpers; ++count_) std::thread(&Pool::serve, this).detach();
    }
    wake_.notify_all();
  }

 private:
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

// Never destroyed, since its threads may outlive static destructors; one per process, since a fork copies no
// threads.
Pool& pool() {
  static std::atomic<Pool*> current{nullptr};
  static std::atomic<pid_t> owner{0};
  const pid_t self = getpid();
  if (owner.load(std::memory_order_acquire) != self) {
    static std::atomic_flag making = ATOMIC_FLAG_INIT;
    if (!making.test_and_set(std::memory_order_acquire)) {
      current.store(new Pool, std::memory_order_release);
      owner.store(self, std::memory_order_release);
      making.clear(std::memory_order_release);
    } else {
      while (owner.load(std::memory_order_acquire) != self) std::this_thread::yield();
    }
  }
  return *current.load(std::memory_order_acquire);
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
  const auto job = std::make_shared<Job>();
  job->work = &work;
  job->size = size;
  job->grain = grain;
  pool().offer(job, helpers);
  job->run();
  job->wait();
}

}  // namespace facetalk::cpu
