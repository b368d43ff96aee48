"""Adam in the eigenbasis of Shampoo's preconditioner.

Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam", ICLR 2025. For small networks that fit a
function, whose layers' inputs are far from equally scaled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ["Soap"]

_LARGEST = 600
"""Sides of a matrix longer than this are not turned; their eigenbasis would take longer than the gradient."""


class Soap(torch.optim.Optimizer):
    """SOAP for matrices and stacks of them, Adam for all else.

    Args:
        params: what is trained.
        lr: learning rate, as of Adam.
        betas: decay of the mean gradient, and of its squares and of both preconditioners.
        eps: added to the root of the mean square.
        every: steps between updates of the eigenbases.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        eps: float = 1e-8,
        every: int = 10,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "every": every})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update. The first one of a matrix only measures its gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, self.state[parameter], group)

    def _update(self, x: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        mean, square = group["betas"]
        sides = [side for side in (-2, -1) if x.ndim in (2, 3) and x.shape[side] <= _LARGEST]
        # A checkpoint of before stacks of matrices had bases, and by other names: it begins to measure anew.
        new = not state or any(f"basis{side}" not in state for side in sides)
        if new:
            state.clear()
            state["step"], state["mean"], state["square"] = 0, torch.zeros_like(x), torch.zeros_like(x)
        for side in sides:
            spread = gradient @ gradient.mT if side == -2 else gradient.mT @ gradient
            state.setdefault(f"spread{side}", torch.zeros_like(spread)).lerp_(spread, 1.0 - square)
            if new:
                state[f"basis{side}"] = torch.linalg.eigh(state[f"spread{side}"]).eigenvectors.flip(-1)
        if new and sides:
            return

        def turned(matrix: Tensor, back: bool) -> Tensor:
            for side in sides:
                basis = state[f"basis{side}"] if back else state[f"basis{side}"].mT
                matrix = basis @ matrix if side == -2 else matrix @ basis.mT
            return matrix

        state["step"] += 1
        count = state["step"]
        state["mean"].lerp_(gradient, 1.0 - mean)
        along = turned(gradient, back=False)
        state["square"].mul_(square).addcmul_(along, along, value=1.0 - square)
        scale = (state["square"] / (1.0 - square**count)).sqrt() + group["eps"]
        step = turned(state["mean"], back=False) / (1.0 - mean**count) / scale
        x.add_(turned(step, back=True), alpha=-group["lr"])
        if count % group["every"] == 0:
            for side in sides:
                self._follow(state, side)

    @staticmethod
    def _follow(state: dict[str, Any], side: int) -> None:
        """One power iteration of an eigenbasis, sorted; the mean squares go with their directions."""
        basis, spread = state[f"basis{side}"], state[f"spread{side}"]
        order = ((spread @ basis) * basis).sum(-2).argsort(-1, descending=True)
        rows = order[..., None] if side == -2 else order[..., None, :]
        state["square"] = state["square"].gather(side, rows.expand_as(state["square"]))
        basis = basis.gather(-1, order[..., None, :].expand_as(basis))
        state[f"basis{side}"] = torch.linalg.qr(spread @ basis).Q
