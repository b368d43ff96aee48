"""hama, a phone recognizer whose posteriors may teach: ``pip install hama==1.7.0`` (Apache-2.0)."""

from __future__ import annotations

import numpy as np

from facetalk.arrays import Float32
from facetalk.errors import InputError

_PEAK = 0.7


class Hama:
    """Log probabilities of 191 phones and signs, 50 times a second."""

    def __init__(self) -> None:
        try:
            from hama.asr import ASRModel
        except ModuleNotFoundError as error:
            raise InputError(
                "the phone recognizer hama is not there; pip install hama==1.7.0 (27 MB)"
            ) from error

        self._model = ASRModel()

    def __call__(self, samples: Float32) -> Float32:
        """(N,) sound at 16 kHz -> (T, 191) at 50 Hz."""
        model = self._model
        loud = samples / (np.abs(samples).max() + 1e-6) * _PEAK
        feeds = {
            model._waveform_input_name: loud[None].astype(np.float32),
            model._waveform_lengths_input_name: np.array([len(loud)], np.int64),
        }
        names = [model._log_probs_output_name, model._out_lengths_output_name]
        told, lengths = model.session.run(names, feeds)
        return np.asarray(told[0][: int(np.ravel(lengths)[0])], np.float32)
