// Where a handle of the C library works on a device: a stream of its own, and memory that is taken once and used
// again call after call. No CUDA headers here: what includes it need not be compiled by nvcc.
//
// One thread at a time. Functions throw CudaError.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace facetalk::cuda {

// Device memory that stays until its owner goes.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  explicit DeviceBuffer(size_t bytes);
  ~DeviceBuffer();
  DeviceBuffer(DeviceBuffer&& other) noexcept;
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept;

  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
};

// Memory for the time of a call, handed out from blocks that grow to what calls take. Once a call has come to its
// end, others like it take none from the driver.
class Arena {
 public:
  struct Mark {
    size_t block = 0, used = 0;
  };

  void* take(size_t bytes);
  Mark mark() const { return at_; }
  // What was taken since is given back: to what the stream is given after, since that runs in order.
  void release(const Mark& mark) { at_ = mark; }
  // The end of a call, when the device has done all of it: everything is given back, and where it took several
  // blocks, there is one of their size from now on.
  void reset();

 private:
  struct Block {
    DeviceBuffer memory;
    size_t bytes = 0;
  };
  std::vector<Block> blocks_;
  Mark at_;  // the block that is handed out from, and how much of it is
};

class Workplace {
 public:
  // The device is the current one, now and in every call.
  Workplace();
  ~Workplace();
  Workplace(const Workplace&) = delete;
  Workplace& operator=(const Workplace&) = delete;

  void* stream() const { return stream_; }
  Arena& arena() { return arena_; }

  template <typename T>
  T* take(int64_t count) {
    return static_cast<T*>(arena_.take(static_cast<size_t>(count) * sizeof(T)));
  }
  // To the device. `from` may change as soon as it returns.
  void upload(void* to, const void* from, size_t bytes);
  // From the device, when it has done all that it was given.
  void download(void* to, const void* from, size_t bytes);
  void copy(void* to, const void* from, size_t bytes);
  void wait();

 private:
  void* stream_ = nullptr;
  Arena arena_;
};

// A piece of a call whose memory is given back at its end.
class Piece {
 public:
  explicit Piece(Workplace& place) : arena_(place.arena()), mark_(arena_.mark()) {}
  ~Piece() { arena_.release(mark_); }
  Piece(const Piece&) = delete;
  Piece& operator=(const Piece&) = delete;

 private:
  Arena& arena_;
  Arena::Mark mark_;
};

// A whole call. However it ends, the device has come to rest then.
class Call {
 public:
  explicit Call(Workplace& place) : place_(place) {}
  ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

 private:
  Workplace& place_;
};

}  // namespace facetalk::cuda
