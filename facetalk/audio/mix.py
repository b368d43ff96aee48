"""Several channels to one, without losing the voice."""

from __future__ import annotations

import numpy as np

from facetalk.arrays import Float32

_SILENT = 1e-6
"""Share of the loudest channel's power (-60 dB) below which another is silent beside it."""
_CANCELS = 0.25
"""Share of the power that unrelated channels would have in their mean; less means that they cancel."""


class Mixer:
    """Weights of the channels, by their covariance over the whole recording.

    Feed :meth:`update` every block, then :meth:`weights`.

    Args:
        channels: number of channels.
    """

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.total = np.zeros(channels)
        self.products = np.zeros((channels, channels))

    def update(self, block: Float32) -> None:
        """Take in (n, channels) samples."""
        data = np.nan_to_num(block.astype(np.float64), posinf=0.0, neginf=0.0)
        self.count += len(data)
        self.total += data.sum(axis=0)
        self.products += data.T @ data

    def weights(self) -> tuple[Float32, list[str]]:
        """(channels,) weights that sum the channels up to one, and what there is to say of it.

        The mean of the channels that are not silent; where these cancel (opposite signs), the mean with the
        signs turned to the loudest channel's, or that channel alone where turning does not help.
        """
        channels = len(self.total)
        mean = self.total / max(self.count, 1)
        covariance = self.products / max(self.count, 1) - np.outer(mean, mean)
        power = np.maximum(np.diag(covariance), 0.0)
        loudest = int(power.argmax())
        if channels == 1 or power[loudest] <= 0.0:
            return np.full(channels, 1.0 / channels, np.float32), []
        heard = power > _SILENT * power[loudest]
        notes = []
        if not heard.all():
            silent = [str(i + 1) for i in np.flatnonzero(~heard)]
            which = f"channel {silent[0]}" if len(silent) == 1 else f"channels {', '.join(silent)}"
            are = "is" if len(silent) == 1 else "are"
            notes.append(f"{which} of {channels} {are} silent and left out of the mix")
        weights = heard / heard.sum()
        unrelated = float(power[heard].sum()) / int(heard.sum()) ** 2
        if heard.sum() > 1 and weights @ covariance @ weights < _CANCELS * unrelated:
            turned = weights * np.where(covariance[loudest] < 0.0, -1.0, 1.0)
            if turned @ covariance @ turned >= unrelated:
                weights = turned
                notes.append("its channels are of opposite sign and cancel; one is read with its sign turned")
            else:
                weights = np.zeros(channels)
                weights[loudest] = 1.0
                notes.append(f"its channels cancel; channel {loudest + 1}, the loudest, is read alone")
        return weights.astype(np.float32), notes
