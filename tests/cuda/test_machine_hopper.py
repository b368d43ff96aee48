"""The emulation of wgmma, mbarriers and bulk copies: it runs what is right, finds what is wrong."""

import numpy as np
import pytest
import torch
from host_kernels import KernelError


@pytest.fixture(scope="module")
def machine(emulated):
    return emulated("hopper")


FAULTS = {
    1: "bulk_copy .* without mbarrier_init_fence",
    3: "stored without fence_async_proxy",
    4: "without wgmma_fence",
    6: "sums were touched before they were there",
    7: "what a product reads was overwritten",
    8: r"32 at wgmma_m64k16 .* 96 have ended",
}


def swizzled(matrix):
    """A (rows, 64) matrix as it lies in shared memory: address bits 4 to 6 exclusive-ored by bits 7 to 9."""
    image = torch.zeros(matrix.numel(), dtype=matrix.dtype)
    for row in range(len(matrix)):
        for column in range(64):
            address = row * 128 + column * 2
            image[(address ^ (address >> 7 & 7) << 4) // 2] = matrix[row, column]
    return image.view(torch.int16).numpy()


def product(machine, columns, dtype=torch.float16, fault=0):
    generator = torch.Generator().manual_seed(columns)
    a, b = (torch.randn(rows, 64, generator=generator).to(dtype) for rows in (64, columns))
    # Bulk copies want multiples of 16 bytes, which numpy does not promise.
    images = []
    for image in map(swizzled, (a, b)):
        room = np.zeros(len(image) + 8, np.int16)
        first = -(room.ctypes.data // 2) % 8
        room[first : first + len(image)] = image
        images.append(room[first : first + len(image)])
    d = np.zeros((64, columns), np.float32)
    name = "half" if dtype == torch.float16 else "brain"
    machine.call(f"test_product_{name}", columns, *images, d, fault)
    return d, (1.0 + a.double() @ b.double().T).numpy()


@pytest.mark.parametrize("columns", [64, 144, 256])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_wgmma_is_a_matrix_product(machine, columns, dtype):
    d, expected = product(machine, columns, dtype)
    np.testing.assert_allclose(d, expected, rtol=0, atol=4e-6 * np.abs(expected).max())


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_products_are_reported(machine, fault):
    with pytest.raises(KernelError, match=FAULTS[fault]):
        product(machine, 64, fault=fault)
    product(machine, 64)  # and the next launch is clean again


@pytest.mark.parametrize("fault", [2, 5])
def test_what_was_not_waited_for_is_poison(machine, fault):
    assert np.isnan(product(machine, 64, fault=fault)[0]).all()


def ring(machine, fault=0, rounds=7):
    room = np.arange(128 * rounds + 4, dtype=np.float32)
    first = -(room.ctypes.data // 4) % 4
    numbers = room[first : first + 128 * rounds]
    out = np.zeros(128, np.float32)
    machine.call("test_ring", numbers, out, rounds, fault)
    return out, numbers.reshape(rounds, 128)[:, ::-1].sum(0)


def test_ring_of_barriers_and_copies(machine):
    for seed in range(5):
        machine.seed(seed)
        for rounds in (1, 2, 3, 8):
            np.testing.assert_array_equal(*ring(machine, rounds=rounds))
    machine.seed(1)


def test_stage_that_is_sent_for_too_early_is_found(machine):
    with pytest.raises(KernelError, match="more arrivals than the barrier has"):
        ring(machine, 1)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (3, r"128 at mbarrier_wait .* 1 at mbarrier_wait|1 at mbarrier_wait .* 128 at mbarrier_wait"),
        (4, "threads wait for others that never come|more arrivals than the barrier has"),
        (5, "128 at mbarrier_wait"),
    ],
)
def test_wrong_rings_are_reported(machine, fault, message):
    with pytest.raises(KernelError, match=message):
        ring(machine, fault)


def test_wait_for_the_wrong_phase_reads_poison_or_never_ends(machine):
    try:
        out, _ = ring(machine, 2)
    except KernelError as error:
        assert "mbarrier_wait" in str(error) or "arrivals" in str(error)
    else:
        assert np.isnan(out).any()
