"""What the audio encoder is told to learn: each term of its loss, and every way in which speech is spoilt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chance import Chance

from facetalk.data.phones import CLASSES
from facetalk.data.speech.corpus import Utterance
from facetalk.training.audio import augment
from facetalk.training.audio import train as audio_train
from facetalk.training.audio.augment import colour, noise, spoil
from facetalk.training.audio.mini_wav2vec2 import small_model, whiten_filters
from facetalk.training.audio.targets import CURVES, make_targets
from facetalk.units import SAMPLE_RATE

GAP_SCALE = CURVES[0][2]
A, M, F = (CLASSES.index(name) for name in ("a", "m", "f"))


def terms(classes: list[int], gaps: list[float], wrong: np.ndarray, closed: list[float]) -> dict[str, float]:
    """Losses of one clip with even logits and curves that are ``wrong`` (T, 9) off."""
    frames = len(classes)
    shares = torch.nn.functional.one_hot(torch.tensor(classes), len(CLASSES)).float()[None]
    values = torch.ones(1, frames, len(CURVES))
    values[0, :, 0] = torch.tensor(gaps) / GAP_SCALE
    outputs = (
        torch.zeros(1, frames, len(CLASSES)), values + torch.from_numpy(wrong).float(),
        torch.tensor([closed]),
    )  # fmt: skip
    return {name: value.item() for name, value in audio_train.loss_terms(outputs, shares, values).items()}


def test_frames_of_lips_weigh_three_and_of_teeth_two() -> None:
    wrong = np.zeros((3, 9))
    for frame, weight in ((0, 1.0), (1, 3.0), (2, 2.0)):
        wrong[:] = 0.0
        wrong[frame] = 0.3
        found = terms([A, M, F], [5.0, 0.0, 5.0], wrong, [0.0] * 3)
        assert found["curves"] == pytest.approx(0.09 * weight / 6.0, rel=1e-5)
        # A closed gap weighs two more.
        assert found["gap"] == pytest.approx(0.09 * (weight + 2.0 * (frame == 1)) / 6.0, rel=1e-5)


def test_parts_of_the_audio_loss() -> None:
    found = terms([A, M], [5.0, 0.4], np.full((2, 9), 0.1), [2.0, 2.0])
    assert found["phones"] == pytest.approx(np.log(len(CLASSES)), rel=1e-5)
    # A flag of 2 for closed lips: wrong for a gap of 5 mm, right for 0.4, where 0.5 is the limit.
    wrong, right = np.log1p(np.exp(2.0)), np.log1p(np.exp(-2.0))
    assert found["closed"] == pytest.approx((wrong + 3.0 * right) / 4.0, rel=1e-5)
    expected = found["phones"] + found["curves"] + 0.5 * found["gap"] + found["closed"]
    assert found["loss"] == pytest.approx(expected, rel=1e-6)
    assert min(found.values()) > 0.005
    right_logits = torch.full((1, 1, len(CLASSES)), -20.0)
    right_logits[..., A] = 20.0
    shares = torch.nn.functional.one_hot(torch.tensor([[A]]), len(CLASSES)).float()
    values = torch.ones(1, 1, 9)
    perfect = audio_train.loss_terms((right_logits, values, torch.tensor([[-20.0]])), shares, values)
    assert perfect["loss"].item() == pytest.approx(0.0, abs=1e-5)


NEVER = [0.99, 0.99, 0.99]
TONES = [60.0, 1000.0, 7000.0]


def levels(samples: np.ndarray) -> np.ndarray:
    """Amplitude at each of the tones."""
    time = np.arange(len(samples)) / SAMPLE_RATE
    return np.array([2 * np.abs(np.mean(samples * np.exp(-2j * np.pi * t * time))) for t in TONES])


@pytest.fixture(scope="module")
def chord() -> np.ndarray:
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    return sum(np.sin(2 * np.pi * t * time) for t in TONES).astype(np.float32)


def test_a_good_microphone_changes_nothing(chord: np.ndarray) -> None:
    np.testing.assert_allclose(colour(chord, Chance(NEVER)), chord, atol=1e-5)  # type: ignore[arg-type]


def test_a_microphone_colours_by_some_decibels(chord: np.ndarray) -> None:
    gains = np.array([20 * np.log10(levels(colour(chord, Chance([0.0, 0.99, 0.99])))) for _ in range(1)])  # type: ignore[arg-type]
    assert np.abs(gains).max() > 0.5
    many = []
    for seed in range(40):
        chance = Chance([0.69, 0.99, 0.99])
        chance.real = np.random.default_rng(seed)
        many.append(20 * np.log10(levels(colour(chord, chance))))  # type: ignore[arg-type]
    assert np.std(many) == pytest.approx(4.0, abs=1.0)
    np.testing.assert_allclose(colour(chord, Chance([0.71, 0.99, 0.99])), chord, atol=1e-5)  # type: ignore[arg-type]


def test_a_telephone_has_no_lows_and_no_highs(chord: np.ndarray) -> None:
    low, middle, high = levels(colour(chord, Chance([0.99, 0.34, 0.99])))  # type: ignore[arg-type]
    # Half way between the limits: 150 and 5600 Hz.
    assert low == pytest.approx((1 + (150 / 60) ** 8) ** -0.5, rel=0.02)
    assert middle == pytest.approx(1.0, abs=0.01)
    assert high == pytest.approx((1 + (7000 / 5600) ** 16) ** -0.5, rel=0.02)
    np.testing.assert_allclose(colour(chord, Chance([0.99, 0.36, 0.99])), chord, atol=1e-5)  # type: ignore[arg-type]


def test_a_room_rings_after_the_sound() -> None:
    click = np.zeros(SAMPLE_RATE, np.float32)
    click[1000] = 1.0
    out = colour(click, Chance([0.99, 0.99, 0.29]))  # type: ignore[arg-type]
    assert out[1000] == pytest.approx(1.0, abs=1e-4) and np.abs(out[:1000]).max() < 1e-4
    first = 1000 + int(0.0065 * SAMPLE_RATE)  # the way that is half between 1 and 12 ms
    assert np.abs(out[1001:first]).max() < 1e-4 and np.abs(out[first : first + 20]).max() > 1e-2
    energy = np.array([(out[a : a + 800] ** 2).sum() for a in (first, first + 2200)])
    # Half between 0.05 and 0.5 s to -60 dB: in 0.1375 s it falls by 30 dB.
    assert 10 * np.log10(energy[1] / energy[0]) == pytest.approx(-30.0, abs=2.0)
    assert 10 * np.log10((out[1001:] ** 2).sum()) == pytest.approx(-6.0, abs=0.1)
    np.testing.assert_allclose(colour(click, Chance([0.99, 0.99, 0.31])), click, atol=1e-5)  # type: ignore[arg-type]


def test_noise_has_a_slope_and_now_and_then_a_hum() -> None:
    hertz = np.fft.rfftfreq(SAMPLE_RATE, 1 / SAMPLE_RATE)

    def spectrum(share: float, coin: float) -> np.ndarray:
        out = noise(SAMPLE_RATE, Chance([coin], share))  # type: ignore[arg-type]
        assert out.std() == pytest.approx(1.0, abs=1e-4)
        return np.abs(np.fft.rfft(out)) ** 2

    def slope(power: np.ndarray) -> float:
        low, high = (power[(hertz > f) & (hertz < 2 * f)].mean() for f in (200, 3200))
        return float(np.log2(low / high) / 4)

    assert slope(spectrum(0.0, 0.99)) == pytest.approx(0.0, abs=0.2)
    assert slope(spectrum(1.0, 0.99)) == pytest.approx(2.4, abs=0.3)  # amplitude falls with f^-1.2
    hum, none = spectrum(0.5, 0.19), spectrum(0.5, 0.21)
    for tone, rings in ((50, True), (100, True), (150, True), (200, False), (250, True)):
        around = np.r_[hum[tone - 9 : tone - 2], hum[tone + 3 : tone + 10]].mean()
        assert (hum[tone] > 10 * around) == rings and none[tone] < 10 * around


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Colour and noise replaced by marks that can be told apart; the list says what was used."""
    used: list[str] = []
    monkeypatch.setattr(augment, "colour", lambda samples, rng: used.append("colour") or samples)
    monkeypatch.setattr(
        augment,
        "noise",
        lambda n, rng: used.append("noise") or np.tile([1.0, -1.0], n // 2).astype(np.float32),
    )
    return used


def voice(count: int = 4000) -> np.ndarray:
    return np.sin(np.arange(count) * 2 * np.pi / 40).astype(np.float32)


def high_band(samples: np.ndarray) -> float:
    """Amplitude at half the sampling rate, where only our noise is, relative to the voice."""
    spectrum = np.abs(np.fft.rfft(samples)) / len(samples)
    return float(spectrum[-1] / (2 * spectrum[len(samples) // 40]))


def test_a_quarter_is_left_clean(bare: list[str]) -> None:
    out = spoil(voice(), Chance([0.24]))  # type: ignore[arg-type]
    assert not bare and np.corrcoef(out, voice())[0, 1] > 0.999
    quiet = out / out.std() - voice() / voice().std()
    assert quiet.std() == pytest.approx(3e-3, rel=0.1)  # the faint noise that all recordings have
    spoil(voice(), Chance([0.26, 0.99, 0.99]))  # type: ignore[arg-type]
    assert bare == ["colour"]


def test_noise_lies_between_6_and_45_db_below_the_voice(bare: list[str]) -> None:
    for share, db in ((0.0, 6.0), (1.0, 45.0)):
        chance = Chance([0.5, 0.79, 0.99], share)
        found = high_band(spoil(voice(), chance))  # type: ignore[arg-type]
        assert 20 * np.log10(found * np.sqrt(2.0)) == pytest.approx(-db, abs=0.3)
    bare.clear()
    spoil(voice(), Chance([0.5, 0.81, 0.99]))  # type: ignore[arg-type]
    assert bare == ["colour"]


def test_other_voices_lie_between_6_and_25_db_below(bare: list[str]) -> None:
    other = np.tile([0.01, -0.01], 2000).astype(np.float32)  # whatever their own level
    for share, db in ((0.0, 6.0), (1.0, 25.0)):
        found = high_band(spoil(voice(), Chance([0.24], share), other))  # type: ignore[arg-type]
        assert 20 * np.log10(found * np.sqrt(2.0)) == pytest.approx(-db, abs=0.3)


def test_few_are_clipped(bare: list[str]) -> None:
    """At the level that half between 95 and 99.5 % of the samples lie under."""
    samples = np.random.default_rng(0).normal(size=4000).astype(np.float32)
    clipped, whole = (spoil(samples, Chance([0.5, 0.99, coin])) for coin in (0.07, 0.09))  # type: ignore[arg-type]
    share = float((np.abs(clipped) > 0.999 * np.abs(clipped).max()).mean())
    assert share == pytest.approx(1 - 0.9725, abs=0.004)
    assert (np.abs(whole) > 0.999 * np.abs(whole).max()).mean() < 0.001


def test_levels_are_about_one_with_a_gain_of_3_db() -> None:
    levels_db = [
        20 * np.log10(np.sqrt((spoil(voice(2000), np.random.default_rng(seed)) ** 2).mean()))
        for seed in range(300)
    ]
    assert np.mean(levels_db) == pytest.approx(0.0, abs=0.5) and np.std(levels_db) == pytest.approx(
        3.0, abs=0.4
    )


PHONES = [("AA", 0.0, 3.0), ("M", 3.0, 3.5), ("AA", 3.5, 6.0)]


@pytest.fixture
def speech(monkeypatch: pytest.MonkeyPatch) -> audio_train.Speech:
    """Six seconds whose samples tell their time: a ramp from 0 to 1."""
    ramp = np.linspace(0.0, 0.99, 6 * SAMPLE_RATE, dtype=np.float32)
    monkeypatch.setattr(Utterance, "samples", lambda self: ramp)
    said = Utterance("u", Path("u"), "", "v", "en", "CC0", "test", "train", PHONES, "arpabet")
    return audio_train.Speech([said])


def test_speed_varies_and_targets_follow(speech: audio_train.Speech, monkeypatch: pytest.MonkeyPatch) -> None:
    config = audio_train.AudioTraining(Path(), Path(), batch=1, crop_s=1.0)
    factors, babbles, asked = [], [], []
    change, at = audio_train.change_speed, type(speech.targets[0]).at
    monkeypatch.setattr(audio_train, "change_speed", lambda w, f: factors.append(f) or change(w, f))
    monkeypatch.setattr(audio_train, "spoil", lambda w, rng, babble: babbles.append(babble is not None) or w)
    monkeypatch.setattr(
        type(speech.targets[0]), "at", lambda self, times, s: asked.append((times, s)) or at(self, times, s)
    )
    wrong = []
    for step in range(300):
        batch = audio_train.make_batch(speech, config, step, (1680, 320))
        wave = batch["waves"][0].numpy()[680:][:16000]
        times, frame_s = asked[-1]
        assert frame_s == pytest.approx(factors[-1] / 25.0)
        middle = wave[(np.arange(25) * 640) + 320]
        inside = (times > 0.1) & (times < 5.9) & (np.abs(middle) > 1e-3)
        if inside[3:-3].any():
            wrong.append(np.abs(middle / 0.99 * 6.0 - times)[3:-3][inside[3:-3]].max())
    assert max(wrong) < 0.01, "targets are of another time than the sound"
    low, high = np.log(0.78), np.log(1.28)
    drawn = np.log(factors)
    assert drawn.min() >= low and drawn.max() <= high
    assert drawn.mean() == pytest.approx((low + high) / 2, abs=0.03)
    assert drawn.std() == pytest.approx((high - low) / np.sqrt(12), rel=0.1)
    assert np.mean(babbles) == pytest.approx(0.15, abs=0.06)
    starts = np.array([times[0] for times, _ in asked])
    assert starts.min() < 0.0 and np.array([times[-1] for times, _ in asked]).max() > 6.0  # over both edges


def test_silence_stays_quiet_and_speech_is_spoilt(
    speech: audio_train.Speech, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = audio_train.AudioTraining(Path(), Path(), batch=2, crop_s=1.0)
    spoilt: list[np.ndarray] = []
    monkeypatch.setattr(audio_train, "spoil", lambda w, rng, babble: spoilt.append(w) or w)
    speech.sound[0][:] = 0
    quiet = audio_train.make_batch(speech, config, 0, (1680, 320))["waves"]
    assert not spoilt and 0.08 < quiet[:, 680:-680].std() < 0.12
    speech.sound[0][:] = 1000
    audio_train.make_batch(speech, config, 0, (1680, 320))
    assert len(spoilt) == 2


def test_recorded_voices_are_drawn_twice_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Utterance, "samples", lambda self: np.zeros(int(self.id) * SAMPLE_RATE, np.float32))
    said = [
        Utterance(seconds, Path("u"), "", "v", "en", "CC0", source, "train", [], "arpabet")
        for seconds, source in (("1", "espeak"), ("2", "espeak"), ("1", "Debian sounds"))
    ]
    np.testing.assert_allclose(audio_train.Speech(said).weights, [0.2, 0.4, 0.4])


def test_crops_reach_over_the_ends(speech: audio_train.Speech) -> None:
    crop = speech.crop(0, -100, 300)
    assert not crop[:100].any() and crop[200] == pytest.approx(100 / 96000 * 0.99, abs=1e-4)
    assert not speech.crop(0, 6 * SAMPLE_RATE - 100, 300)[100:].any()
    assert not speech.crop(0, 10 * SAMPLE_RATE, 300).any() and not speech.crop(0, -400, 300).any()


def test_targets_are_curves_of_the_face_in_units_of_their_spread() -> None:
    from facetalk.data.expressions import INDEX
    from facetalk.data.visemes import curves, lip_gap

    targets = make_targets(PHONES, 6.0, "arpabet")
    weights = curves(PHONES, 6.0, 100.0, alphabet="arpabet")
    np.testing.assert_allclose(targets.curves[:, 0] * 3.5, lip_gap(weights), atol=0.02)
    for column, (_, names, scale) in enumerate(CURVES[1:], 1):
        mean = weights[:, [INDEX[name] for name in names]].mean(1)
        np.testing.assert_allclose(targets.curves[:, column] * scale, mean, atol=1e-3)
    shares, values = targets.at(np.array([2.994, 3.0]), 0.04)
    # A frame of 40 ms that ends 14 ms after the border has 3 of its 4 parts before it.
    assert shares[0, A] == pytest.approx(0.75) and shares[0, M] == pytest.approx(0.25)
    np.testing.assert_allclose(values[1], (targets.curves[299] + targets.curves[300]) / 2, atol=1e-2)


def test_bands_of_typical_speech_have_a_deviation_of_one() -> None:
    model = small_model(0)
    waves = torch.randn(2, 16000, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.1, 1, 16000)
    whiten_filters(model, waves)
    conv = model.feature_extractor.conv_layers[0].conv
    with torch.no_grad():
        heard = torch.nn.functional.conv1d(waves[:, None], conv.weight, stride=conv.stride)
    spread = heard.transpose(0, 1).reshape(160, -1)[:152].reshape(38, -1).std(1)
    torch.testing.assert_close(spread, torch.ones(38), atol=1e-3, rtol=0)
    assert not conv.weight[152:].any()


def test_the_encoders_gradients_are_clipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Asked(Exception):
        pass

    def loop(name: str, out: Path, modules: dict[str, Any], optimizer: Any, options: Any) -> None:
        assert (
            options.clip_norm == 1.0 and options.steps == 400 and options.warmup == 21 and options.seed == 3
        )
        trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
        assert {id(p) for module in modules.values() for p in module.parameters()} == trained
        raise Asked

    said = Utterance("u", Path("u"), "", "v", "en", "CC0", "test", "train", PHONES, "arpabet")
    monkeypatch.setattr(Utterance, "samples", lambda self: np.zeros(6 * SAMPLE_RATE, np.float32))
    monkeypatch.setattr(audio_train, "read_manifest", lambda corpus, split: [said])
    monkeypatch.setattr(audio_train, "TrainingLoop", loop)
    with pytest.raises(Asked):
        audio_train.train(audio_train.AudioTraining(tmp_path, tmp_path / "o", steps=400, batch=1, seed=3))
