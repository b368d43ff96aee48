"""The emulation that tests kernels on the host is tested too: it runs what is right, finds what is wrong."""

import ctypes

import numpy as np
import pytest
import torch
from host_kernels import KernelError


@pytest.fixture(scope="module")
def machine(emulated):
    return emulated("machine")


EARLY_EXIT, OTHER_BARRIER, MISSING_BARRIER = 1, 2, 3


def reverse(machine, fault=0, blocks=5, threads=70):
    numbers = np.arange(blocks * threads, dtype=np.int32)
    out = np.full_like(numbers, -1)
    machine.call("test_reverse", numbers, out, blocks, threads, fault)
    return out.reshape(blocks, threads), numbers.reshape(blocks, threads)[:, ::-1]


def test_barrier_lets_threads_see_each_others_writes(machine):
    for threads in (1, 31, 32, 33, 70, 256):
        got, expected = reverse(machine, threads=threads)
        np.testing.assert_array_equal(got, expected)


def test_missing_barrier_is_seen_in_the_result(machine):
    got, expected = reverse(machine, MISSING_BARRIER)
    assert (got != expected).any()


def test_thread_that_ends_before_a_barrier_is_reported(machine):
    with pytest.raises(KernelError, match=r"69 at __syncthreads \(machine_entry.cpp:\d+\).* 1 have ended"):
        reverse(machine, EARLY_EXIT)
    reverse(machine)  # and the next launch is clean again


def test_two_barriers_for_one_block_are_reported(machine):
    with pytest.raises(KernelError, match="threads at different barriers"):
        reverse(machine, OTHER_BARRIER)


@pytest.mark.parametrize("past", [-1, 1, 500])
def test_write_beyond_dynamic_shared_memory_is_reported(machine, past):
    machine.call("test_overrun", 0, 0)
    with pytest.raises(KernelError, match="dynamic shared memory"):
        machine.call("test_overrun", 0, past)


def test_write_beyond_static_shared_memory_is_reported(machine):
    machine.call("test_overrun", 1, 0)
    with pytest.raises(KernelError, match="static shared variable of 32 bytes"):
        machine.call("test_overrun", 1, 1)


def test_shared_memory_nobody_wrote_is_nan(machine):
    out = np.zeros(32, np.float32)
    machine.call("test_read_unwritten", out)
    assert np.isnan(out).all()


def test_warp_operations(machine):
    values = np.random.default_rng(0).integers(0, 9, 64).astype(np.int32)
    out = np.zeros((64, 6), np.int32)
    machine.call("test_warp_tour", values, out, 64, -1)
    for warp in (slice(0, 32), slice(32, 64)):
        v, o = values[warp], out[warp]
        np.testing.assert_array_equal(o[:, 0], v.sum())
        np.testing.assert_array_equal(o[:, 1], np.cumsum(v))
        below = np.array([v[i + 1] if i % 8 < 7 else v[i] for i in range(32)])
        np.testing.assert_array_equal(o[:, 2], below)
        np.testing.assert_array_equal(o[:, 3], v[5])
        ballot = sum(1 << i for i in range(32) if v[i] % 2)
        np.testing.assert_array_equal(o[:, 4].astype(np.uint32), np.uint32(ballot))
        np.testing.assert_array_equal(o[:, 5], [(v == x).sum() for x in v])


@pytest.mark.parametrize("odd", [0, 5, 64])
def test_votes_of_the_block_and_sums_of_warps(machine, odd):
    values = 2 * np.random.default_rng(odd).integers(0, 100, 64).astype(np.int32)
    values[:odd] += 1
    out = np.zeros((64, 6), np.int32)
    machine.call("test_votes", values, out)
    assert (out[:, :3] == [odd, odd > 0, odd == 64]).all()
    for warp in (slice(0, 32), slice(32, 64)):
        v = values[warp]
        assert (out[warp, 3:] == [v.sum(), v.min(), v.max()]).all()


def test_warp_operations_of_some_lanes(machine):
    values = np.arange(32, dtype=np.int32)
    out = np.zeros((32, 6), np.int32)
    machine.call("test_warp_tour", values, out, 32, 0xF0)
    assert (out[4:8, 3] == 5).all()
    assert (out[4:8, 4] == 0xA0).all()
    assert not out[:4].any() and not out[8:].any()


def test_shuffle_from_an_absent_lane_is_reported(machine):
    with pytest.raises(KernelError, match=r"__shfl_sync \(.*\) reads lane 5"):
        machine.call("test_warp_tour", np.zeros(32, np.int32), np.zeros((32, 6), np.int32), 32, 0xF)


def test_lanes_missing_in_a_warp_operation_are_reported(machine):
    with pytest.raises(KernelError, match=r"16 at __ballot_sync .* 16 have ended"):
        machine.call("test_half_warp", np.zeros(32, np.int32))
    with pytest.raises(KernelError, match="names lanes that the block does not have"):
        machine.call("test_warp_tour", np.zeros(20, np.int32), np.zeros((20, 6), np.int32), 20, -1)


def tiles(dtype):
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(16, 16, generator=generator).to(dtype)
    b = torch.randn(16, 8, generator=generator).to(dtype)
    return a, b


@pytest.mark.parametrize(("dtype", "name"), [(torch.float16, "half"), (torch.bfloat16, "brain")])
def test_mma_with_ldmatrix_is_a_matrix_product(machine, dtype, name):
    a, b = tiles(dtype)
    raw = [t.view(torch.int16).numpy() for t in (a, b)]
    d = np.zeros((16, 8), np.float32)
    machine.call(f"test_multiply_{name}", *raw, d, 1)
    # Sums in double, rounded once.
    np.testing.assert_array_equal(d, (a.double() @ b.double()).float().numpy())


def test_copy_that_was_not_waited_for_is_poison(machine):
    a, b = tiles(torch.float16)
    d = np.zeros((16, 8), np.float32)
    machine.call("test_multiply_half", a.view(torch.int16).numpy(), b.view(torch.int16).numpy(), d, 0)
    assert np.isnan(d).all()


def test_stage_that_is_filled_again_too_early_is_poison(machine):
    numbers, out = np.arange(128, dtype=np.float32), np.zeros(64, np.float32)
    machine.call("test_reuse_stage", numbers, out, 0)
    np.testing.assert_array_equal(out, (numbers[:64] + numbers[64:])[::-1])
    machine.call("test_reuse_stage", numbers, out, 1)
    assert np.isnan(out).sum() == 32  # of two that read each other's place, whoever comes second


def test_copy_that_is_not_valid_writes_zeros(machine):
    a, b = tiles(torch.float16)
    d = np.ones((16, 8), np.float32)
    machine.call("test_multiply_half", a.view(torch.int16).numpy(), b.view(torch.int16).numpy(), d, -1)
    assert not d.any()


def test_mma_tf32_rounds_operands_to_ten_bits(machine):
    generator = torch.Generator().manual_seed(2)
    a, b = torch.randn(16, 8, generator=generator), torch.randn(8, 8, generator=generator)
    d = np.zeros((16, 8), np.float32)
    machine.call("test_multiply_tf32", a.numpy(), b.numpy(), d)

    def tf32(t):
        return ((t.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32).double()

    np.testing.assert_array_equal(d, (tf32(a) @ tf32(b)).float().numpy())


def test_named_barrier_joins_two_roles(machine):
    for seed in range(5):
        machine.seed(seed)
        out = np.zeros(1, np.int32)
        machine.call("test_two_roles", out)
        assert out[0] == 31 * 16
    machine.seed(1)


def test_every_block_runs_once_in_no_fixed_order(machine):
    orders = []
    for seed in (1, 2):
        machine.seed(seed)
        order = np.full(12, -1, np.int32)
        machine.call("test_block_order", np.zeros(1, np.int32), order, 4, 3)
        assert sorted(order) == list(range(12))
        orders.append(order.tolist())
    machine.seed(1)
    assert orders[0] != orders[1] and orders[0] != sorted(orders[0])


def test_halves_round_like_torch(machine):
    special = [0.0, -0.0, 65504.0, 65519.9, 65520.0, 1e9, 2**-14, 2**-24, 2**-25, 1.5 * 2**-24, 3e-8, np.inf]
    rng = np.random.default_rng(3)
    values = np.concatenate([special, rng.standard_normal(500) * 10.0 ** rng.integers(-9, 6, 500)])
    values = np.concatenate([values, -values]).astype(np.float32)[:1024]
    values = np.ascontiguousarray(values[: len(values) // 32 * 32])
    n = len(values)
    halves, brains = np.zeros(n, np.uint16), np.zeros(n, np.uint16)
    back = np.zeros((n, 2), np.float32)
    machine.call("test_round_trip", values, halves, brains, back, n)
    tensor = torch.from_numpy(values)
    for got, wide, dtype in ((halves, back[:, 0], torch.float16), (brains, back[:, 1], torch.bfloat16)):
        expected = tensor.to(dtype)
        np.testing.assert_array_equal(got, expected.view(torch.int16).numpy().view(np.uint16))
        np.testing.assert_array_equal(wide, expected.float().numpy())


def test_launches_that_no_gpu_takes_are_refused(machine):
    machine.call("test_launch", 1, 1024, 227 * 1024)
    for blocks, threads, size in ((1, 1025, 0), (0, 32, 0), (1, 0, 0), (1, 32, 228 * 1024)):
        with pytest.raises(KernelError, match="launch with"):
            machine.call("test_launch", blocks, threads, size)


def test_shared_memory_of_a_kernel_does_not_follow_its_launches(machine):
    """The limit is the kernel's on a device, whichever thread launches: a small launch must not lower it."""
    most = 227 * 1024
    machine.call("test_set_device", 1)
    assert machine.value("test_most_shared", 1) == 48 * 1024
    machine.call("test_launch", 1, 32, 200 * 1024)
    machine.call("test_launch", 1, 32, 64 * 1024)
    assert machine.value("test_most_shared", 1) == most
    machine.call("test_launch", 1, 32, 200 * 1024)
    machine.call("test_set_device", 0)  # which has a limit of its own
    machine.call("test_launch", 1, 32, 200 * 1024)
    assert machine.value("test_most_shared", 0) == most


def test_touching_what_is_no_memory_is_reported(machine):
    for count in (5, 1024, 1500):
        numbers = np.arange(count, dtype=np.int32)
        machine.call("test_touch", numbers, count, 0, 0)
        for write in (0, 1):
            for past in (4, 300, -count - 4096):
                with pytest.raises(
                    KernelError, match=r"status 700, block .* illegal memory access.* thread \(0"
                ):
                    machine.call("test_touch", numbers, count, past, write)
    machine.call("test_touch", numbers, count, 0, 1)  # and the next launch is clean again
    with pytest.raises(AssertionError, match="outside an array"):
        machine.call("test_touch", np.arange(5, dtype=np.int32), 5, 1, 1)  # between the array and the page


def test_touching_what_lies_behind_a_tensor_is_reported(machine):
    numbers = torch.arange(1000, dtype=torch.int32)
    pointer = ctypes.c_void_p(numbers.data_ptr())
    machine.call("test_touch", pointer, 1000, 0, 1)
    assert numbers[-1] == 7
    with pytest.raises(KernelError, match=r"status 700, block .* illegal memory access"):
        machine.call("test_touch", pointer, 1000, 1, 0)


def text_of(machine, name, *args):
    function = getattr(machine.library, name)
    function.restype = ctypes.c_char_p
    values = [a.encode() if isinstance(a, str) else ctypes.c_int64(a) for a in args]
    return function(*values).decode()


@pytest.mark.parametrize(
    ("archs", "capability", "runs"),
    [
        ("80,86,89,90a,100,120", (8, 0), True),
        ("80,86,89,90a,100,120", (8, 7), True),  # by the code for 8.6
        ("80,86,89,90a,100,120", (9, 0), True),
        ("80,86,89,90a,100,120", (10, 3), True),
        ("80,86,89,90a,100,120", (12, 1), True),
        ("80,86,89,90a,100,120", (13, 0), True),  # from PTX
        ("80,86,89,90a,100,120", (7, 5), False),
        ("80,86,89,90a,100,120", (11, 0), False),  # between code for 10.0 and PTX for 12.0
        ("86", (8, 0), False),
        ("90a", (9, 0), True),
        ("90a", (8, 9), False),
        ("90a", (12, 0), True),
        ("100f", (10, 3), True),
    ],
)
def test_devices_that_a_build_has_code_for(machine, archs, capability, runs):
    said = text_of(machine, "test_missing_code", archs, *capability)
    major, minor = capability
    wanted = f"capability {major}.{minor}, and this build has code for {archs} alone"
    assert said == "" if runs else wanted in said and f"FACETALK_CUDA_ARCHS={major}{minor}" in said


def test_drivers_that_a_runtime_runs_on(machine):
    said = text_of(machine, "test_missing_driver", 12080, 13000)
    assert said.startswith("the driver is one for CUDA 12.8, and this build needs one for CUDA 13.0")
    assert "update the driver" in said
    assert text_of(machine, "test_missing_driver", 13000, 13010) == ""
    assert text_of(machine, "test_missing_driver", 13020, 12080) == ""
    assert text_of(machine, "test_missing_driver", 0, 13000) == "no NVIDIA driver on this machine"


@pytest.mark.parametrize("count", [0, 1, 3, 4, 255, 1024, 1025, 5000, 270_000])
@pytest.mark.parametrize("in_place", [False, True])
def test_exclusive_sum(machine, count, in_place):
    """270 000 numbers are more tiles than one block has threads."""
    values = np.random.default_rng(count).integers(-(2**40), 2**40, count)
    expected = np.concatenate([[0], np.cumsum(values)])
    size = machine.value("test_exclusive_sum_bytes", count)
    workspace = np.full(size // 8 + 1, -7, np.int64)
    out = np.concatenate([values, [99]]) if in_place else np.full(count + 1, 99)
    machine.call("test_exclusive_sum", out if in_place else values, out, count, workspace)
    np.testing.assert_array_equal(out, expected)
    assert workspace[-1] == -7  # no more than it asked for
