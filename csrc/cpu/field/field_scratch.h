// Scratch memory of the field kernels, owned by one call.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "core/tensor_view.h"
#include "cpu/field/field.h"

namespace facetalk::cpu {

// Pieces that parts of a parallel_for take and give back, so that a part needs no thread number. As many are
// allocated as parts ever run at once; a piece keeps its address, and with it its place in the caches.
class ScratchPool {
 public:
  ScratchPool(const FieldRunner& runner, bool gradients)
      : bytes_(static_cast<int64_t>(runner.kernels->scratch(*runner.model, gradients) * sizeof(float))) {}

  // A piece, until the end of the scope.
  class Lease {
   public:
    explicit Lease(ScratchPool& pool) : pool_(pool), memory_(pool.take()) {}
    ~Lease() { pool_.give_back(std::move(memory_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    float* get() const { return static_cast<float*>(memory_.get()); }

   private:
    ScratchPool& pool_;
    std::shared_ptr<void> memory_;
  };

 private:
  std::shared_ptr<void> take() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!free_.empty()) {
        std::shared_ptr<void> last = std::move(free_.back());
        free_.pop_back();
        return last;
      }
      // Room for its way back, which must not throw.
      free_.reserve(static_cast<size_t>(++made_));
    }
    return allocate(bytes_);
  }

  void give_back(std::shared_ptr<void> memory) {
    const std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back(std::move(memory));
  }

  const int64_t bytes_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<void>> free_;
  int made_ = 0;
};

}  // namespace facetalk::cpu
