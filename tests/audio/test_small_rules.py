"""Rules of hearing that whole recordings hardly show: edges, counts, single windows."""

from __future__ import annotations

import io
import logging
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from facetalk.audio import AudioEncoder, encoder, wav2vec2
from facetalk.audio.hearing import Loudness, _runs
from facetalk.audio.level import _BATCH, _STEP, FRAME, HOP, Level, measure
from facetalk.audio.load import AudioReader
from facetalk.audio.mel import log_mel
from facetalk.audio.mix import Mixer
from facetalk.audio.riff import _after
from facetalk.errors import InputError
from facetalk.units import SAMPLE_RATE


def test_a_frame_of_the_level_lasts_two_periods_of_the_deepest_voice() -> None:
    assert round(0.04 * SAMPLE_RATE) == FRAME and round(0.02 * SAMPLE_RATE) == HOP
    tone = np.sin(2 * np.pi * 100 * np.arange(FRAME + 3 * HOP) / SAMPLE_RATE)
    power, voiced = measure(tone)
    assert len(power) == 4 and voiced.all()
    np.testing.assert_allclose(power, -3.01, atol=0.05)
    assert not measure(np.random.default_rng(0).normal(size=FRAME + 60 * HOP))[1].any()
    # From 60 to 400 Hz.
    for hertz, found in ((62, True), (390, True), (45, False)):
        pulses = (np.arange(2 * FRAME) % round(SAMPLE_RATE / hertz) < 3).astype(float)
        assert bool(measure(pulses - pulses.mean())[1].any()) is found, hertz


def test_what_was_counted_is_not_counted_again() -> None:
    sound = np.random.default_rng(0).normal(0.2, 0.1, 9000).astype(np.float32)
    whole, twice = Level.of([sound]), Level()
    twice.update(sound[:5000], 0)
    twice.update(sound[2000:6000], 2000)
    twice.update(sound[2000:5000], 2000)
    twice.update(sound[6000:], 6000)
    assert twice.count == whole.count == 9000
    assert twice.mean == pytest.approx(whole.mean) and twice.variance == pytest.approx(whole.variance)
    np.testing.assert_allclose(twice.scale(0, 9000, 1e-5), whole.scale(0, 9000, 1e-5))


def test_the_last_frame_is_measured_where_it_just_fits() -> None:
    fits = 5 * _BATCH * HOP + FRAME  # 321 frames: a point more than 320 have
    sound = np.random.default_rng(0).normal(size=fits).astype(np.float32)
    assert len(Level.of([sound])._points(1e-5)) == 5 * _BATCH // _STEP + 1 == 65
    assert len(Level.of([sound[:-1]])._points(1e-5)) == 64


def test_decibels_are_interpolated_at_the_middle_of_frames() -> None:
    level = Level.of([np.zeros(10 * HOP * _STEP, np.float32)])
    level._curve = level.count, np.arange(10.0) * 10.0
    scale = level.scale(0, 4 * HOP * _STEP, 1e-5)
    for sample in (FRAME // 2, FRAME // 2 + HOP * _STEP, 5000):
        expected = (sample - FRAME / 2) / (HOP * _STEP) * 10.0
        assert -20 * np.log10(scale[sample]) == pytest.approx(expected, abs=0.01)


def test_silent_channels_do_not_count_and_nothing_is_a_plain_mean() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(size=(4000, 1)).astype(np.float32)

    def mixed(*channels: np.ndarray) -> tuple[list[float], list[str]]:
        mixer = Mixer(len(channels))
        mixer.update(np.concatenate(channels, 1))
        weights, notes = mixer.weights()
        return [round(float(weight), 3) for weight in weights], notes

    assert mixed(0 * one, 0 * one) == ([0.5, 0.5], [])
    assert mixed(one, 0 * one)[0] == [1.0, 0.0] and "channel 2 of 2 is silent" in mixed(one, 0 * one)[1][0]
    assert "channels 1, 3 of 3 are silent" in mixed(0 * one, one, 0 * one)[1][0]
    assert mixed(one, -one)[0] == [0.5, -0.5] and "opposite sign" in mixed(one, -one)[1][0]
    other = rng.normal(size=(4000, 1)).astype(np.float32)
    assert mixed(one, other) == ([0.5, 0.5], [])  # unrelated is not cancelling
    third = -(one + other)
    assert mixed(one, other, third)[0] == [-0.333, -0.333, 0.333] and len(mixed(one, other, third)[1]) == 1
    # Quarter weights: 1 over the number of channels that are heard.
    assert mixed(one, one, one, 0 * one)[0] == [0.333, 0.333, 0.333, 0.0]
    mixer = Mixer(2)
    mixer.update(np.array([[np.inf, 1], [-np.inf, 2], [np.nan, 3], [4, 4]], np.float32))
    assert mixer.total.tolist() == [4.0, 10.0] and mixer.count == 4


def test_runs_of_clipped_samples_are_counted_whole() -> None:
    flags = np.zeros((20, 2), bool)
    flags[3:5, 0] = flags[8:13, 0] = True  # 2 and 5
    flags[17:, 1] = True  # 3, up to the end
    assert _runs(flags, 2) == 7 and _runs(flags, 3) == 5 and _runs(flags[:, 1:], 3) == 3
    assert _runs(flags, 4) == 5 and _runs(flags, 6) == 0 and _runs(flags[:1], 2) == 0
    assert _runs(np.ones((4, 1), bool), 2) == 4


@pytest.mark.parametrize("lowest", [-0.25, -1.0])
def test_clipping_is_told_at_any_level_and_waves_that_only_touch_are_not(lowest: float) -> None:
    wave = np.sin(np.arange(16000) * 2 * np.pi / 160)[:, None]
    clipped, whole = Loudness(16000), Loudness(16000)
    clipped.update((np.clip(2 * wave, -1, 1) * -lowest).astype(np.float32))
    whole.update((wave * -lowest).astype(np.float32))
    assert any("clipped" in note for note in clipped.notes()) and not whole.notes()
    nothing = Loudness(16000)
    nothing.update(np.zeros((0, 2), np.float32))
    assert nothing.peak == 0.0 and "silent" in nothing.notes()[0]


def test_chunks_begin_at_even_places_but_not_everywhere() -> None:
    """What follows the sound: chunks up to the end, another recording, or more sound."""
    note = b"LIST" + struct.pack("<I", 6) + b"abcdef"
    for before in (4, 5):
        for padded in (False, True):
            content = b"x" * before + (b"\0" if padded and before % 2 else b"") + note
            assert _after(io.BytesIO(content), before, len(content)) == len(content), (before, padded)
    riff = b"RIFF" + struct.pack("<I", 4) + b"WAVE"
    assert _after(io.BytesIO(b"xxxx" + riff), 4, 16) == 4
    assert _after(io.BytesIO(b"xxxxx\0" + riff), 5, 18) == 6
    assert _after(io.BytesIO(b"xxxx" + note + riff), 4, 30) == 18
    assert _after(io.BytesIO(b"xxxx" + bytes(range(128, 168))), 4, 44) is None
    assert _after(io.BytesIO(b"xxxx" + bytes(40)), 4, 44) == 44


class Failing:
    """A decoder that gives some samples and fails."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.sound = seconds, SimpleNamespace(rate=1000, channels=1)

    def read(self, frames: int, say: Any) -> Any:
        yield np.ones((round(self.seconds * 1000), 1), np.float32)
        from facetalk.audio.decoders import Unreadable

        raise Unreadable("bent")


@pytest.mark.parametrize(("seconds", "promised", "said"), [
    (2.0, 2.04, False), (2.0, 2.06, True), (2.0, 2.0, False), (2.0, 1.5, False), (2.0, None, True),
])  # fmt: skip
def test_what_is_missing_is_said_from_a_twentieth_of_a_second_on(
    monkeypatch: pytest.MonkeyPatch, seconds: float, promised: float | None, said: bool
) -> None:
    from facetalk.audio import load

    def none(path: Any) -> Any:
        raise InputError("no other decoder")

    notes: list[str] = []
    monkeypatch.setattr(load, "FFmpegDecoder", type("Other", (), {"__init__": lambda self, path: none(path)}))
    monkeypatch.setattr(AudioReader, "duration", promised, raising=False)
    reader = AudioReader.__new__(AudioReader)
    reader.__dict__.update(_decoder=Failing(seconds), path="p", _notes=SimpleNamespace(say=notes.append))
    assert sum(len(block) for block in reader._decoded(100)) == 2000
    assert bool(notes) is said


def test_a_late_window_looks_no_farther_back_than_its_context(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = []

    def hidden(model: Any, wave: torch.Tensor, positions: torch.Tensor, span: Any) -> torch.Tensor:
        lengths.append(wave.shape[1])
        assert positions.min() > -2 and positions.max() < wave.shape[1] / 320 + 2
        return positions.float()[None, :, None]

    monkeypatch.setattr(encoder, "hidden_states", hidden)
    sound = np.random.default_rng(0).normal(0, 0.1, 70 * SAMPLE_RATE).astype(np.float32)
    found = AudioEncoder.from_pretrained(tiny_folder).features(sound, fps=25.0)
    assert len(found) == 70 * 25 and len(lengths) > 2
    longest = (encoder.WINDOW_S + 1.0) * SAMPLE_RATE
    assert max(lengths) < longest


def test_frames_of_a_spectrum_are_centred_and_its_floor_is_80_db_down() -> None:
    click = np.zeros(1600, np.float32)
    click[800:803] = 1.0
    mel = log_mel(click)
    assert len(mel) == 10 and abs(int(mel.sum(1).argmax()) - 4.5) <= 0.5
    assert mel.max() - mel.min() <= 80.01
    assert len(log_mel(np.zeros(0, np.float32))) in (0, 1)


def test_a_model_that_cannot_be_fetched_or_asks_for_too_much_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    from safetensors.torch import save_file

    def fail(name: str, **_: Any) -> str:
        assert name == "org/name"
        raise OSError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(InputError, match="hf:org/name: not reachable on the hub") as caught:
        AudioEncoder.from_pretrained("hf:org/name")
    assert "\n" not in str(caught.value)
    (tmp_path / "config.json").write_text('{"model_type": "wav2vec2", "hidden_size": 768}')
    save_file({"x": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="the settings ask for"):
        AudioEncoder.from_pretrained(tmp_path)
    save_file({"x": torch.full((3,), float("nan"))}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"finite"):
        AudioEncoder.from_pretrained(tmp_path)


def test_transformers_keeps_quiet_only_while_a_model_is_read() -> None:
    from transformers.utils import logging as transformers_logging

    logger = transformers_logging.get_logger("transformers")
    before = logger.level
    with wav2vec2._quiet():
        assert logger.level == logging.ERROR
    assert logger.level == before
