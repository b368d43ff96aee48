"""The Inception network of the published FID, for those who have its weights.

Inception v3 (Szegedy et al. 2016) as Heusel et al. used it: the average pools leave the padding out of the
mean, and the last block takes a maximum. Weights: ``pt_inception-2015-12-05-6726825d.pth`` of pytorch-fid.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from facetalk.errors import InputError

_SIZE = 299
#: A layer: name, output channels, kernel (height, width), stride; odd kernels of stride 1 keep the size.
_Layer = tuple[str, int, tuple[int, int], int]
_POINT = (1, 1)


class _Conv(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(
        self, before: int, after: int, kernel: tuple[int, int], stride: int, keep: bool = True
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2) if keep and stride == 1 else 0
        self.conv = nn.Conv2d(before, after, kernel, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)))


class _Block(nn.Module):
    """Branches side by side, then a pooled one.

    Args:
        before: channels that come in.
        branches: chains of layers; layers in a last tuple of their own all read the chain's end.
        pool: "mean" or "max" (same size), or "half" (maximum, half the size).
        pooled: output channels of the pooled branch; 0 leaves it as it is.
    """

    def __init__(
        self, before: int, branches: list[tuple[list[_Layer], list[_Layer]]], pool: str, pooled: int
    ) -> None:
        super().__init__()
        self.plan: list[tuple[list[str], list[str]]] = []
        for chain, fork in branches:
            width = before
            for name, after, kernel, stride in chain:
                self.add_module(name, _Conv(width, after, kernel, stride))
                width = after
            for name, after, kernel, stride in fork:
                self.add_module(name, _Conv(width, after, kernel, stride))
            self.plan.append(([layer[0] for layer in chain], [layer[0] for layer in fork]))
        self.pool = pool
        self.branch_pool = _Conv(before, pooled, _POINT, 1) if pooled else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = []
        for chain, fork in self.plan:
            y = x
            for name in chain:
                y = self.get_submodule(name)(y)
            out += [self.get_submodule(name)(y) for name in fork] or [y]
        if self.pool == "half":
            pooled = functional.max_pool2d(x, 3, stride=2)
        elif self.pool == "max":
            pooled = functional.max_pool2d(x, 3, stride=1, padding=1)
        else:
            pooled = functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        return torch.cat([*out, self.branch_pool(pooled)], dim=1)


def _a(before: int, pooled: int) -> _Block:
    return _Block(before, [
        ([("branch1x1", 64, _POINT, 1)], []),
        ([("branch5x5_1", 48, _POINT, 1), ("branch5x5_2", 64, (5, 5), 1)], []),
        ([("branch3x3dbl_1", 64, _POINT, 1), ("branch3x3dbl_2", 96, (3, 3), 1),
          ("branch3x3dbl_3", 96, (3, 3), 1)], []),
    ], "mean", pooled)  # fmt: skip


def _b(before: int) -> _Block:
    return _Block(before, [
        ([("branch3x3", 384, (3, 3), 2)], []),
        ([("branch3x3dbl_1", 64, _POINT, 1), ("branch3x3dbl_2", 96, (3, 3), 1),
          ("branch3x3dbl_3", 96, (3, 3), 2)], []),
    ], "half", 0)  # fmt: skip


def _c(width: int) -> _Block:
    wide, tall = (1, 7), (7, 1)
    return _Block(768, [
        ([("branch1x1", 192, _POINT, 1)], []),
        ([("branch7x7_1", width, _POINT, 1), ("branch7x7_2", width, wide, 1),
          ("branch7x7_3", 192, tall, 1)], []),
        ([("branch7x7dbl_1", width, _POINT, 1), ("branch7x7dbl_2", width, tall, 1),
          ("branch7x7dbl_3", width, wide, 1), ("branch7x7dbl_4", width, tall, 1),
          ("branch7x7dbl_5", 192, wide, 1)], []),
    ], "mean", 192)  # fmt: skip


def _d() -> _Block:
    return _Block(768, [
        ([("branch3x3_1", 192, _POINT, 1), ("branch3x3_2", 320, (3, 3), 2)], []),
        ([("branch7x7x3_1", 192, _POINT, 1), ("branch7x7x3_2", 192, (1, 7), 1),
          ("branch7x7x3_3", 192, (7, 1), 1), ("branch7x7x3_4", 192, (3, 3), 2)], []),
    ], "half", 0)  # fmt: skip


def _e(before: int, pool: str) -> _Block:
    wide, tall = (1, 3), (3, 1)
    return _Block(before, [
        ([("branch1x1", 320, _POINT, 1)], []),
        ([("branch3x3_1", 384, _POINT, 1)], [("branch3x3_2a", 384, wide, 1), ("branch3x3_2b", 384, tall, 1)]),
        ([("branch3x3dbl_1", 448, _POINT, 1), ("branch3x3dbl_2", 384, (3, 3), 1)],
         [("branch3x3dbl_3a", 384, wide, 1), ("branch3x3dbl_3b", 384, tall, 1)]),
    ], pool, 192)  # fmt: skip


class InceptionFeatures(nn.Module):
    """(N, 3, H, W) uint8 pictures -> (N, 2048) features of Inception's last pool.

    Pictures are brought to 299 x 299 by antialiased bicubic resampling (Parmar et al. 2022) and to [-1, 1].
    """

    name = "inception"
    num_features = 2048

    def __init__(self) -> None:
        super().__init__()
        square = (3, 3)
        self.Conv2d_1a_3x3 = _Conv(3, 32, square, 2)
        self.Conv2d_2a_3x3 = _Conv(32, 32, square, 1, keep=False)
        self.Conv2d_2b_3x3 = _Conv(32, 64, square, 1)
        self.Conv2d_3b_1x1 = _Conv(64, 80, _POINT, 1)
        self.Conv2d_4a_3x3 = _Conv(80, 192, square, 1, keep=False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _a(192, 32), _a(256, 64), _a(288, 64)
        self.Mixed_6a = _b(288)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = _c(128), _c(160), _c(160), _c(192)
        self.Mixed_7a, self.Mixed_7b, self.Mixed_7c = _d(), _e(1280, "mean"), _e(2048, "max")

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W) uint8 -> (N, 2048)."""
        x = pictures.float()
        if x.shape[-2:] != (_SIZE, _SIZE):
            x = functional.interpolate(x, size=(_SIZE, _SIZE), mode="bicubic", antialias=True).clamp(
                0.0, 255.0
            )
        x = x / 127.5 - 1.0
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(functional.max_pool2d(x, 3, stride=2)))
        x = functional.max_pool2d(x, 3, stride=2)
        for name, block in self.named_children():
            if name.startswith("Mixed"):
                x = block(x)
        return x.mean(dim=(2, 3))

    @classmethod
    def load(cls, file: str | os.PathLike[str]) -> InceptionFeatures:
        """Read pytorch-fid's weights; nothing in the file is executed.

        Raises:
            InputError: there is no such file, or it holds something else.
        """
        module = cls()
        tensors = read_tensors(file, "pytorch-fid's pt_inception-2015-12-05-6726825d.pth")
        # The classifier behind the last pool is in the file and not needed.
        tensors = {name: value for name, value in tensors.items() if not name.startswith("fc.")}
        fit(module, tensors, file, "the Inception of pytorch-fid")
        return module.eval().requires_grad_(False)


def read_tensors(file: str | os.PathLike[str], expected: str) -> dict[str, Tensor]:
    """A state dict from a .pth file, by ``torch.load(weights_only=True)``.

    Args:
        file: the file.
        expected: what the file should be, for the message.

    Raises:
        InputError: there is no such file, or it is not a state dict.
    """
    path = Path(file)
    if not path.is_file():
        raise InputError(f"no file at {path}; give {expected}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of whatever kind torch has for a damaged file
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"{path} is not a file of weights ({reason}); give {expected}") from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path} holds no table of tensors; give {expected}")
    return content


def fit(module: nn.Module, tensors: dict[str, Tensor], file: str | os.PathLike[str], kind: str) -> None:
    """Put ``tensors`` into ``module``; counters of batch normalisation may be missing.

    Raises:
        InputError: they are not the module's.
    """
    own = {name: value.shape for name, value in module.state_dict().items()}
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    missing = sorted(own.keys() - counters - tensors.keys())
    unknown = sorted(tensors.keys() - own.keys())
    wrong = [name for name in own.keys() & tensors.keys() if own[name] != tensors[name].shape]
    for names, what in (
        (missing, "lacks"),
        (unknown, "has an unknown"),
        (sorted(wrong), "has another size of"),
    ):
        if names:
            raise InputError(f"{file} is not {kind}: it {what} {names[0]}")
    module.load_state_dict(tensors, strict=False)
