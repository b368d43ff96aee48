// What GPUs of compute capability 9.0 alone have: matrix products by a warpgroup with operands in shared
// memory (wgmma), barriers that count bytes (mbarrier), bulk copies and registers that move between
// warpgroups, by PTX. On the host they come from tests/cuda/emulate/hopper.h under the same names.
//
// A warpgroup is four warps from a multiple of four on. Operands lie in shared memory in atoms of 8 rows x 64
// 16-bit numbers, 1024 bytes at a multiple of 1024, along the depth of the product: row r has its 16-byte
// chunk c in place c ^ r. Rows 8, 16, ... of a matrix lie in the atoms that follow; see kSwizzleRows.
//
// d (64, kColumns) of a warpgroup: warp w holds rows 16 w + lane / 4 (d[n][0], d[n][1]) and 8 below (d[n][2],
// d[n][3]), columns 8 n + 2 (lane % 4) and the next, as mma_m16n8k16 would.
#pragma once

#include "cuda/platform/matrix.cuh"
#include "cuda/platform/portable.h"

namespace facetalk::cuda {

constexpr int kWarpgroup = 128;
constexpr int kSwizzleRows = 8;      // rows of an atom
constexpr int kSwizzleDepth = 64;    // 16-bit numbers of a row of it
constexpr int kSwizzleBytes = 1024;  // of it

// Elements from an atom's start to element k (0 to 63) of its row r (0 to 7).
__host__ __device__ constexpr int swizzled(int r, int k) {
  return r * kSwizzleDepth + ((k / 8 ^ r) * 8 + k % 8);
}

}  // namespace facetalk::cuda

#if defined(FACETALK_EMULATE_CUDA)

#define FACETALK_HAS_WGMMA 1
#include "emulate/hopper.h"

#else

// Only code for "90a", which no other GPU runs, has these instructions.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define FACETALK_HAS_WGMMA 1
#endif

namespace facetalk::cuda {

__device__ __forceinline__ void mbarrier_init(uint64_t* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals)
               : "memory");
}
// After the last init, before the barrier of the block that lets others use them.
__device__ __forceinline__ void mbarrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void mbarrier_arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
// Arrives, and has the phase wait for that many bytes of bulk copies.
__device__ __forceinline__ void mbarrier_arrive_expect(uint64_t* barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
               "r"(bytes)
               : "memory");
}
// Until the phase of this parity is over. Phases count from 0; before the first, the one of parity 1 is over.
__device__ __forceinline__ void mbarrier_wait(uint64_t* barrier, uint32_t parity) {
  uint32_t over;
  do {
    asm volatile(
        "{\n.reg .pred over;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 over, [%1], %2;\n"
        "selp.u32 %0, 1, 0, over;\n}"
        : "=r"(over)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
  } while (over == 0);
}

// Bytes and addresses are multiples of 16. Done when the barrier has counted the bytes.
__device__ __forceinline__ void bulk_copy(void* shared, const void* global, int bytes, uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          shared_address(shared)),
      "l"(global), "r"(bytes), "r"(shared_address(barrier))
      : "memory");
}

// What this thread stored to shared memory is seen by wgmma and bulk copies, of other threads after a
// barrier.
__device__ __forceinline__ void fence_async_proxy() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// threadIdx.x, asked for anew at every call: the compiler does not keep what follows from it.
__device__ __forceinline__ unsigned thread_anew() {
  unsigned number;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(number));
  return number;
}

// By all threads of a warpgroup: at most kCount registers each from here on, and others can have theirs.
template <int kCount>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}

// Before the first product of a series, whose sums the warpgroup has touched.
__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Until all but the kGroupsLeft groups committed last are done: their operands may be overwritten. Sums may
// be read after wgmma_wait_all alone.
template <int kGroupsLeft>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kGroupsLeft) : "memory");
}

// Keeps what computes these values before it, and what uses them behind, for the compiler does not know which
// instructions touch registers later than they say.
template <int kTiles>
__device__ __forceinline__ void pin(float (&values)[kTiles][4]) {
  FACETALK_UNROLL()
  for (int n = 0; n < kTiles; ++n) {
    asm volatile(""
                 : "+f"(values[n][0]), "+f"(values[n][1]), "+f"(values[n][2]), "+f"(values[n][3])::"memory");
  }
}
template <int kTiles>
__device__ __forceinline__ void pin(uint32_t (&values)[kTiles][2]) {
  FACETALK_UNROLL()
  for (int n = 0; n < kTiles; ++n) asm volatile("" : "+r"(values[n][0]), "+r"(values[n][1])::"memory");
}

template <int kTiles>
__device__ __forceinline__ void wgmma_wait_all(float (&d)[kTiles][4]) {
  wgmma_wait<0>();
  pin(d);
}

// d (64, kColumns) += a (64, 16) b (16, kColumns). b lies as its transpose, (kColumns, 16), as a weight matrix
// (outputs, inputs) does. a and b are descriptors; d is not to be touched before wgmma_wait_all.
template <typename T, int kColumns>
__device__ __forceinline__ void wgmma_m64k16(float (&d)[32][4], uint64_t a, uint64_t b);

#define FACETALK_SUM(n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define FACETALK_SUMS4(n) FACETALK_SUM(n), FACETALK_SUM(n + 1), FACETALK_SUM(n + 2), FACETALK_SUM(n + 3)
#define FACETALK_SUMS16(n) \
  FACETALK_SUMS4(n), FACETALK_SUMS4(n + 4), FACETALK_SUMS4(n + 8), FACETALK_SUMS4(n + 12)
#define FACETALK_SUMS64 FACETALK_SUMS4(0), FACETALK_SUMS4(4)
#define FACETALK_SUMS144 FACETALK_SUMS16(0), FACETALK_SUM(16), FACETALK_SUM(17)
#define FACETALK_SUMS256 FACETALK_SUMS16(0), FACETALK_SUMS16(16)
#define FACETALK_NAMES32                                                   \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define FACETALK_NAMES72                                                               \
  FACETALK_NAMES32                                                                     \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "   \
  "%64, %65, %66, %67, %68, %69, %70, %71"
#define FACETALK_NAMES128                                                                            \
  FACETALK_NAMES72                                                                                   \
  ", %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, %85, %86, %87, "               \
  "%88, %89, %90, %91, %92, %93, %94, %95, %96, %97, %98, %99, %100, %101, %102, %103, "             \
  "%104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, %115, %116, %117, %118, %119, " \
  "%120, %121, %122, %123, %124, %125, %126, %127"
// a_name, b_name: of the two operands after the sums.
#define FACETALK_WGMMA(type, ptx, columns, names, a_name, b_name, ...)                                     \
  template <>                                                                                              \
  __device__ __forceinline__ void wgmma_m64k16<type, columns>(float (&d)[32][4], uint64_t a, uint64_t b) { \
    asm volatile(                                                                                          \
        "{\n.reg .pred add;\nsetp.ne.b32 add, 1, 0;\n"                                                     \
        "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." ptx "." ptx " {" names "}, " a_name        \
        ", " b_name ", add, 1, 1, 0, 0;\n}"                                                                \
        : __VA_ARGS__                                                                                      \
        : "l"(a), "l"(b));                                                                                 \
  }
#define FACETALK_WGMMA_OF(type, ptx)                                               \
  FACETALK_WGMMA(type, ptx, 64, FACETALK_NAMES32, "%32", "%33", FACETALK_SUMS64)   \
  FACETALK_WGMMA(type, ptx, 144, FACETALK_NAMES72, "%72", "%73", FACETALK_SUMS144) \
  FACETALK_WGMMA(type, ptx, 256, FACETALK_NAMES128, "%128", "%129", FACETALK_SUMS256)
FACETALK_WGMMA_OF(__half, "f16")
FACETALK_WGMMA_OF(__nv_bfloat16, "bf16")
#undef FACETALK_WGMMA_OF
#undef FACETALK_WGMMA
#undef FACETALK_NAMES128
#undef FACETALK_NAMES72
#undef FACETALK_NAMES32
#undef FACETALK_SUMS256
#undef FACETALK_SUMS144
#undef FACETALK_SUMS64
#undef FACETALK_SUMS16
#undef FACETALK_SUMS4
#undef FACETALK_SUM

}  // namespace facetalk::cuda

#endif

namespace facetalk::cuda {

// Of a matrix in atoms whose first rows lie in `atoms`, of its 16 columns from the step-th 16 of an atom on:
// address / 16 in bits 0 to 13, the distance of atoms / 16 in bits 32 to 45, and the swizzle of 128-byte rows
// (1) in bits 62 and 63. Bits 16 to 29, the distance of chunks, mean nothing with this swizzle and are 1.
__host__ __device__ constexpr uint64_t wgmma_descriptor_at(uint32_t shared, int step) {
  const uint64_t address = (shared + 32u * static_cast<uint32_t>(step)) & 0x3ffffu;
  return address >> 4 | uint64_t{1} << 16 | uint64_t{kSwizzleBytes / 16} << 32 | uint64_t{1} << 62;
}
__device__ __forceinline__ uint64_t wgmma_descriptor(const void* atoms, int step) {
  return wgmma_descriptor_at(shared_address(atoms), step);
}

}  // namespace facetalk::cuda
