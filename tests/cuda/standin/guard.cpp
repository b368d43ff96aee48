// Tells torch that there is one CUDA device, so that a torch without CUDA makes, moves and differentiates
// tensors "on" it; device.py keeps their memory and runs their operations. Streams are numbers: work is done
// at once.
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <mutex>
#include <vector>

namespace {

using c10::Device;
using c10::DeviceType;
using c10::Stream;

thread_local c10::StreamId current_stream = 0;

struct Guard final : c10::impl::DeviceGuardImplInterface {
  DeviceType type() const override { return DeviceType::CUDA; }
  Device exchangeDevice(Device) const override { return getDevice(); }
  Device getDevice() const override { return Device(DeviceType::CUDA, 0); }
  void setDevice(Device device) const override {
    TORCH_CHECK(device.index() <= 0, "CUDA error: invalid device ordinal");
  }
  void uncheckedSetDevice(Device) const noexcept override {}
  Stream getStream(Device) const override { return Stream(Stream::UNSAFE, getDevice(), current_stream); }
  Stream getDefaultStream(Device) const override { return Stream(Stream::UNSAFE, getDevice(), 0); }
  Stream exchangeStream(Stream stream) const override {
    const Stream before = getStream(getDevice());
    current_stream = stream.id();
    return before;
  }
  void record(void**, const Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  bool queryStream(const Stream&) const override { return true; }
  void synchronizeStream(const Stream&) const override {}
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(const c10::DeviceIndex) const override {}
};

std::mutex mutex;
std::vector<void*> freed;

}  // namespace

extern "C" {
void standin_register() {
  static const Guard guard;
  static const c10::impl::DeviceGuardImplRegistrar registrar(DeviceType::CUDA, &guard);
}
// The deleter of blocks, in C++ because it may run while a Python exception is on its way.
void standin_delete(void* managed) {
  const std::lock_guard<std::mutex> lock(mutex);
  freed.push_back(managed);
}
// One that was freed since the last look, or null.
void* standin_next_freed() {
  const std::lock_guard<std::mutex> lock(mutex);
  if (freed.empty()) return nullptr;
  void* const one = freed.back();
  freed.pop_back();
  return one;
}
}
