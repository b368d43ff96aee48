// Kernels that prove the emulation itself: what works must work, what is wrong must be found.
#include <string>

#include "cuda/platform/device_code.h"
#include "cuda/platform/matrix.cuh"
#include "cuda/platform/portable.h"
#include "cuda/platform/scan.cuh"

namespace facetalk::cuda {
namespace {

enum Fault : int { kNone, kEarlyExit, kOtherBarrier, kMissingBarrier };

// Reverses each block's numbers through shared memory.
__global__ void reverse(const int* in, int* out, int fault) {
  FACETALK_SHARED(int, tile, [256]);
  const int at = static_cast<int>(threadIdx.x);
  const int count = static_cast<int>(blockDim.x);
  const int64_t base = static_cast<int64_t>(blockIdx.x) * count;
  if (fault == kEarlyExit && at == 3) return;
  tile[at] = in[base + at];
  if (fault == kOtherBarrier && at < 32) {
    __syncthreads();
  } else if (fault != kMissingBarrier) {
    __syncthreads();
  }
  out[base + at] = tile[count - 1 - at];
}

// Writes past the dynamic (which = 0) or a static (1) shared array by `past` ints.
__global__ void overrun(int which, int past) {
  FACETALK_DYNAMIC_SHARED(int, dynamic);
  FACETALK_SHARED(int, fixed, [8]);
  int* target = which == 0 ? dynamic : fixed;
  target[static_cast<int>(threadIdx.x) + past] = 1;
}

__global__ void read_unwritten(float* out) {
  FACETALK_DYNAMIC_SHARED(float, scratch);
  out[threadIdx.x] = scratch[threadIdx.x];
}

// Per lane: sum by xor, prefix by up, neighbour by down, lane 5's, ballot of odd values, how many peers have
// its value.
__global__ void warp_tour(const int* in, int* out, int mask) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int value = in[threadIdx.x];
  const auto lanes = static_cast<unsigned>(mask);
  if ((lanes >> lane & 1u) == 0) return;
  int sum = value;
  int prefix = value;
  for (int step = 1; step < 32; step *= 2) {
    if (lanes == kAllLanes) {
      sum += __shfl_xor_sync(lanes, sum, step);
      const int below = __shfl_up_sync(lanes, prefix, static_cast<unsigned>(step));
      if (lane >= step) prefix += below;
    }
  }
  int* row = out + 6 * threadIdx.x;
  row[0] = sum;
  row[1] = prefix;
  row[2] = lanes == kAllLanes ? __shfl_down_sync(lanes, value, 1, 8) : 0;
  row[3] = __shfl_sync(lanes, value, 5);
  row[4] = static_cast<int>(__ballot_sync(lanes, value % 2 != 0));
  row[5] = __popc(__match_any_sync(lanes, value));
}

__global__ void half_warp_calls_whole(int* out) {
  if (threadIdx.x % 32 < 16) out[threadIdx.x] = static_cast<int>(__ballot_sync(kAllLanes, 1));
}

// One tile of d (16, 8) = a (16, 16) b (16, 8): a by cp.async and ldmatrix, b by ldmatrix.trans.
template <typename T>
__global__ void multiply(const T* a, const T* b, float* d, int wait) {
  FACETALK_DYNAMIC_SHARED(T, tiles);
  T* a_tile = tiles;
  T* b_tile = tiles + 256;
  const int lane = static_cast<int>(threadIdx.x);
  cp_async<16>(a_tile + 8 * lane, a + 8 * lane);
  cp_async_commit();
  cp_async<16>(b_tile + 8 * (lane % 16), b + 8 * (lane % 16), wait >= 0);
  cp_async_commit();
  if (wait != 0) cp_async_wait<0>();
  __syncthreads();
  uint32_t a_part[4];
  uint32_t b_part[2];
  ldmatrix(a_part, a_tile + 16 * (lane % 16) + 8 * (lane / 16));
  ldmatrix_trans(b_part, b_tile + 8 * (lane % 16));
  float sum[4] = {0, 0, 0, 0};
  mma_m16n8k16<T>(sum, a_part, b_part);
  const int row = lane / 4;
  const int column = 2 * (lane % 4);
  d[8 * row + column] = sum[0];
  d[8 * row + column + 1] = sum[1];
  d[8 * (row + 8) + column] = sum[2];
  d[8 * (row + 8) + column + 1] = sum[3];
}

// Two rounds through one stage; `early` sends for the second before everybody has read the first.
__global__ void reuse_stage(const float* in, float* out, int early) {
  FACETALK_SHARED(float, stage, [64]);
  const int at = static_cast<int>(threadIdx.x);
  cp_async<4>(stage + at, in + at);
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  if (early != 0) cp_async<4>(stage + at, in + 64 + at);
  const float first = stage[63 - at];
  __syncthreads();
  if (early == 0) cp_async<4>(stage + at, in + 64 + at);
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  out[at] = first + stage[63 - at];
}

__global__ void multiply_tf32(const float* a, const float* b, float* d) {
  const int row = static_cast<int>(threadIdx.x) / 4;
  const int t = static_cast<int>(threadIdx.x) % 4;
  auto bits = [](float v) { return __float_as_uint(to_tf32(v)); };
  const uint32_t a_part[4] = {bits(a[8 * row + t]), bits(a[8 * (row + 8) + t]), bits(a[8 * row + t + 4]),
                              bits(a[8 * (row + 8) + t + 4])};
  const uint32_t b_part[2] = {bits(b[8 * t + row]), bits(b[8 * (t + 4) + row])};
  float sum[4] = {0, 0, 0, 0};
  mma_m16n8k8_tf32(sum, a_part, b_part);
  d[8 * row + 2 * t] = sum[0];
  d[8 * row + 2 * t + 1] = sum[1];
  d[8 * (row + 8) + 2 * t] = sum[2];
  d[8 * (row + 8) + 2 * t + 1] = sum[3];
}

// Per thread: how many of the block have an odd number, whether any, whether all; then sum, least and
// greatest of a warp.
__global__ void votes(const int* in, int* out) {
  const int value = in[threadIdx.x];
  int* row = out + 6 * threadIdx.x;
  row[0] = __syncthreads_count(value % 2);
  row[1] = __syncthreads_or(value % 2);
  row[2] = __syncthreads_and(value % 2);
  row[3] = __reduce_add_sync(kAllLanes, value);
  row[4] = __reduce_min_sync(kAllLanes, value);
  row[5] = __reduce_max_sync(kAllLanes, value);
}

// Half of the block fills, half adds up, by a barrier that the two reach in different places.
__global__ void two_roles(int* out) {
  FACETALK_SHARED(int, box, [32]);
  if (threadIdx.x < 32) {
    box[threadIdx.x] = static_cast<int>(threadIdx.x);
    named_barrier(1, 64);
  } else {
    named_barrier(1, 64);
    atomicAdd(out, box[threadIdx.x - 32]);
  }
}

// Reads or writes one number `past` the end of an array.
__global__ void touch(int* numbers, int count, int past, int write) {
  if (threadIdx.x != 0) return;
  if (write != 0) {
    numbers[count - 1 + past] = 7;
  } else {
    numbers[0] = numbers[count - 1 + past];
  }
}

__global__ void block_order(int* next, int* order) {
  if (threadIdx.x == 0) order[atomicAdd(next, 1)] = static_cast<int>(blockIdx.x + gridDim.x * blockIdx.y);
}

__global__ void round_trip(const float* in, uint16_t* halves, uint16_t* brains, float* back) {
  const unsigned n = threadIdx.x + blockIdx.x * blockDim.x;
  halves[n] = __half_as_ushort(__float2half_rn(in[n]));
  brains[n] = __bfloat16_as_ushort(__float2bfloat16_rn(in[n]));
  back[2 * n] = unpack2<__half>(pack2<__half>(0.0f, in[n])).y;
  back[2 * n + 1] = unpack2<__nv_bfloat16>(pack2<__nv_bfloat16>(in[n], 0.0f)).x;
}

}  // namespace
}  // namespace facetalk::cuda

namespace fc = facetalk::cuda;

extern "C" {
int test_reverse(const int* in, int* out, int64_t blocks, int64_t threads, int64_t fault) {
  return fc::launch(fc::reverse, dim3(static_cast<unsigned>(blocks)), dim3(static_cast<unsigned>(threads)), 0,
                    nullptr, in, out, static_cast<int>(fault));
}
int test_overrun(int64_t which, int64_t past) {
  return fc::launch(fc::overrun, 1, 8, 32, nullptr, static_cast<int>(which), static_cast<int>(past));
}
int test_read_unwritten(float* out) { return fc::launch(fc::read_unwritten, 1, 32, 128, nullptr, out); }
int test_warp_tour(const int* in, int* out, int64_t threads, int64_t mask) {
  return fc::launch(fc::warp_tour, 1, static_cast<unsigned>(threads), 0, nullptr, in, out,
                    static_cast<int>(mask));
}
int test_half_warp(int* out) { return fc::launch(fc::half_warp_calls_whole, 1, 32, 0, nullptr, out); }
int test_multiply_half(const uint16_t* a, const uint16_t* b, float* d, int64_t wait) {
  return fc::launch(fc::multiply<__half>, 1, 32, 1024, nullptr, reinterpret_cast<const __half*>(a),
                    reinterpret_cast<const __half*>(b), d, static_cast<int>(wait));
}
int test_multiply_brain(const uint16_t* a, const uint16_t* b, float* d, int64_t wait) {
  return fc::launch(fc::multiply<__nv_bfloat16>, 1, 32, 1024, nullptr,
                    reinterpret_cast<const __nv_bfloat16*>(a), reinterpret_cast<const __nv_bfloat16*>(b), d,
                    static_cast<int>(wait));
}
int test_reuse_stage(const float* in, float* out, int64_t early) {
  return fc::launch(fc::reuse_stage, 1, 64, 0, nullptr, in, out, static_cast<int>(early));
}
int test_multiply_tf32(const float* a, const float* b, float* d) {
  return fc::launch(fc::multiply_tf32, 1, 32, 0, nullptr, a, b, d);
}
int test_votes(const int* in, int* out) { return fc::launch(fc::votes, 1, 64, 0, nullptr, in, out); }
int test_two_roles(int* out) { return fc::launch(fc::two_roles, 1, 64, 0, nullptr, out); }
int test_block_order(int* next, int* order, int64_t x, int64_t y) {
  return fc::launch(fc::block_order, dim3(static_cast<unsigned>(x), static_cast<unsigned>(y)), 33, 0, nullptr,
                    next, order);
}
int test_round_trip(const float* in, uint16_t* halves, uint16_t* brains, float* back, int64_t n) {
  return fc::launch(fc::round_trip, static_cast<unsigned>(n / 32), 32, 0, nullptr, in, halves, brains, back);
}
int test_exclusive_sum(const int64_t* in, int64_t* out, int64_t n, void* workspace) {
  return fc::exclusive_sum<int64_t>(in, out, n, workspace, nullptr);
}
int test_touch(int* numbers, int64_t count, int64_t past, int64_t write) {
  return fc::launch(fc::touch, 1, 32, 0, nullptr, numbers, static_cast<int>(count), static_cast<int>(past),
                    static_cast<int>(write));
}
// Dynamic shared memory that the kernel of test_launch may have now, on a device.
int64_t test_most_shared(int64_t device) {
  cudaFuncAttributes attributes;
  if (cudaSetDevice(static_cast<int>(device)) != cudaSuccess) return -1;
  cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(&fc::block_order));
  return attributes.maxDynamicSharedSizeBytes;
}
int test_set_device(int64_t device) { return cudaSetDevice(static_cast<int>(device)); }
const char* test_missing_code(const char* archs, int64_t major, int64_t minor) {
  static std::string text;
  text = fc::missing_code(archs, static_cast<int>(major), static_cast<int>(minor));
  return text.c_str();
}
const char* test_missing_driver(int64_t driver, int64_t runtime) {
  static std::string text;
  text = fc::missing_driver(static_cast<int>(driver), static_cast<int>(runtime));
  return text.c_str();
}
int64_t test_exclusive_sum_bytes(int64_t n) {
  return static_cast<int64_t>(fc::scan_workspace_bytes<int64_t>(n));
}
int test_launch(int64_t blocks, int64_t threads, int64_t bytes) {
  static int next;
  static int order[1];
  next = 0;
  return fc::launch(fc::block_order, static_cast<unsigned>(blocks), static_cast<unsigned>(threads),
                    static_cast<size_t>(bytes), nullptr, &next, order);
}
}
