"""Drawing a model's motions beside truth, and what the pictures' distances say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from truth import speech

from facetalk.data.visemes import curves
from facetalk.errors import InputError
from facetalk.metrics.manifest import Spoken
from facetalk.metrics.rendered import ROWS, evaluate_rendered
from facetalk.metrics.syncnet import SyncNet
from facetalk.motion import Motion
from facetalk.pipeline import FaceTalk

_TEXT = "Bob may move."
_SAID = speech(_TEXT)


class Reader:
    """A pipeline that reads the phones instead of the sound."""

    def __init__(self, model: FaceTalk) -> None:
        self.head, self.decode, self.landmarks = model.head, model.decode, model.landmarks

    def generate(self, audio: Any, **options: Any) -> Motion:
        rng = np.random.default_rng(99 + options["seed"])
        weights = curves(_SAID.phones, len(_SAID.samples) / 16000, 25.0, alphabet=_SAID.alphabet, rng=rng)
        return Motion(weights, 25.0, np.zeros(0, np.float32))


class Judge(SyncNet):
    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def score(self, audio: Any, faces: np.ndarray) -> dict[str, float]:
        self.shapes.append(faces.shape)
        return {"lse_d": 8.0, "lse_c": 2.0, "offset_frames": 1.0, "distance": 9.0}


def test_rows(tmp_path: Path) -> None:
    file = tmp_path / "said.wav"
    soundfile.write(file, _SAID.samples, 16000)
    item = Spoken(file, "f2", _SAID.phones, _SAID.alphabet, _TEXT, "en")
    pipeline, judge = Reader(FaceTalk.from_pretrained(device="cpu")), Judge()
    report = evaluate_rendered(pipeline, [item], crops=12, syncnet=judge)
    assert tuple(report.rows) == ROWS and report.settings["features"] == "mouth-ae"
    fid = {name: row["fid"] for name, row in report.rows.items()}
    assert max(fid["model"], fid["truth again"]) < min(fid["smoothed"], fid["frozen"])
    assert len(judge.shapes) == 2 and judge.shapes[0][1:] == (224, 224, 3)
    assert report.rows["model"]["lse_d"] == 8.0 and "lse_d" not in report.rows["frozen"]
    table = report.table().splitlines()
    assert "mouth-ae" in table[0] and len(table) == 1 + len(ROWS) and table[-1].rstrip().endswith("-")
    for options, message in (({"limit": 0}, "limit"), ({"crops": 1}, "crops")):
        with pytest.raises(InputError, match=message):
            evaluate_rendered(pipeline, [item], **options)
