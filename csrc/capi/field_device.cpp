#include "capi/field_device.h"

#include <mutex>
#include <string>
#include <utility>

#include "capi/guard.h"

#if defined(FACETALK_WITH_CUDA) || defined(FACETALK_EMULATE_CUDA)
#include "cuda/head/head_surface.h"
#include "cuda/platform/device.h"
#else
#ifndef FACETALK_CUDA_NOTE
#define FACETALK_CUDA_NOTE "built without CUDA"
#endif
#endif

namespace facetalk::capi {

#if defined(FACETALK_WITH_CUDA) || defined(FACETALK_EMULATE_CUDA)

namespace {

class CudaField : public FieldDevice {
 public:
  explicit CudaField(int device) : device_(device) {}

  void bind(const FieldModel& model, int32_t precision) override {
    auto fresh =
        std::make_unique<cuda::DeviceHead>(device_, model, static_cast<cuda::FieldPrecision>(precision));
    const std::lock_guard<std::mutex> lock(mutex_);
    head_ = std::move(fresh);
  }

  void query(const float* biases, const float* points, int64_t n, float* distances) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    head_->query(biases, points, n, distances);
  }

  cpu::SurfaceMesh extract(const float* biases, bool is_backward, const head::Box& box) override {
    head::Place place = head::place_of(box);
    cuda::HeadLattice lattice;
    for (int a = 0; a < 3; ++a) {
      lattice.axis[a] = std::move(place.lattice.axis[a]);
      lattice.origin[a] = place.grid.origin[a];
      lattice.step[a] = place.grid.step[a];
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    cuda::HeadMesh found = head_->extract(biases, is_backward, lattice, head::kMetres);
    return {std::move(found.vertices), std::move(found.faces), {}};
  }

 private:
  const int device_;
  std::mutex mutex_;
  std::unique_ptr<cuda::DeviceHead> head_;
};

}  // namespace

std::unique_ptr<FieldDevice> FieldDevice::open(const Context& context) {
  if (context.device == FACETALK_DEVICE_CPU) return nullptr;
  const std::string who = "options: device CUDA: ";
  const cuda::Report report = cuda::query_devices(FACETALK_CUDA_ARCH_LIST);
  if (report.devices.empty()) throw Unsupported(who + report.reason + "; use FACETALK_DEVICE_CPU");
  const auto count = static_cast<int32_t>(report.devices.size());
  if (context.device_index < 0 || context.device_index >= count)
    throw ArgumentError("device_index", "0 to " + std::to_string(count - 1) + ", as this machine has GPUs",
                        std::to_string(context.device_index));
  const cuda::DeviceInfo& device = report.devices[static_cast<size_t>(context.device_index)];
  if (!device.missing.empty()) throw Unsupported(who + device.missing);
  if (context.is_logging())
    context.log(FACETALK_LOG_INFO,
                ("GPU " + std::to_string(context.device_index) + ": " + device.name).c_str());
  return std::make_unique<CudaField>(context.device_index);
}

#else

std::unique_ptr<FieldDevice> FieldDevice::open(const Context& context) {
  if (context.device == FACETALK_DEVICE_CPU) return nullptr;
  throw Unsupported("options: device CUDA: this library was " FACETALK_CUDA_NOTE "; use FACETALK_DEVICE_CPU");
}

#endif

}  // namespace facetalk::capi
