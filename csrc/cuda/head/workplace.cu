#include <algorithm>
#include <utility>

#include "cuda/head/workplace.h"
#include "cuda/platform/error.h"

namespace facetalk::cuda {
namespace {

constexpr size_t kArenaAlign = 256;
constexpr size_t kLeastBlock = size_t{8} << 20;

cudaStream_t stream_of(void* stream) { return static_cast<cudaStream_t>(stream); }

}  // namespace

DeviceBuffer::DeviceBuffer(size_t bytes) {
  const cudaError_t status = cudaMalloc(&data_, std::max<size_t>(bytes, 1));
  if (status == cudaSuccess) return;
  cudaGetLastError();  // it is told here; it must not surface in the next call
  throw CudaError(std::to_string(bytes) + " bytes of the device's memory", status);
}

DeviceBuffer::~DeviceBuffer() {
  if (data_ != nullptr) cudaFree(data_);
}

DeviceBuffer::DeviceBuffer(DeviceBuffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}

DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  return *this;
}

void* Arena::take(size_t bytes) {
  bytes = (std::max<size_t>(bytes, 1) + kArenaAlign - 1) / kArenaAlign * kArenaAlign;
  for (; at_.block < blocks_.size(); ++at_.block, at_.used = 0) {
    const Block& block = blocks_[at_.block];
    if (block.bytes - at_.used < bytes) continue;
    char* out = block.memory.as<char>() + at_.used;
    at_.used += bytes;
    return out;
  }
  const size_t size = std::max(bytes, blocks_.empty() ? kLeastBlock : 2 * blocks_.back().bytes);
  at_.used = 0;  // also where there is no memory for another
  // Where there is too little for the large block, the piece alone may fit.
  try {
    blocks_.push_back({DeviceBuffer(size), size});
  } catch (const CudaError&) {
    if (size == bytes) throw;
    blocks_.push_back({DeviceBuffer(bytes), bytes});
  }
  at_.used = bytes;
  return blocks_.back().memory.as<char>();
}

void Arena::reset() {
  at_ = {};
  if (blocks_.size() < 2) return;
  size_t total = 0;
  for (const Block& block : blocks_) total += block.bytes;
  blocks_.clear();
  blocks_.push_back({DeviceBuffer(total), total});
}

Workplace::Workplace() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  stream_ = stream;
}

Workplace::~Workplace() {
  cudaStreamSynchronize(stream_of(stream_));
  cudaStreamDestroy(stream_of(stream_));
}

void Workplace::upload(void* to, const void* from, size_t bytes) {
  // From pageable memory it returns when the bytes were taken.
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_of(stream_)),
        "copying to the device");
}

void Workplace::download(void* to, const void* from, size_t bytes) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_of(stream_)),
        "copying from the device");
  wait();
}

void Workplace::copy(void* to, const void* from, size_t bytes) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_of(stream_)),
        "copying on the device");
}

void Workplace::wait() { check(cudaStreamSynchronize(stream_of(stream_)), "the device"); }

Call::~Call() {
  cudaStreamSynchronize(stream_of(place_.stream()));
  cudaGetLastError();
  try {
    place_.arena().reset();
  } catch (...) {  // there is less memory than before: the next call asks for it again
  }
}

}  // namespace facetalk::cuda
