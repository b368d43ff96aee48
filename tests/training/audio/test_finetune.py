"""Fine-tuning: what spoils the sound, where it is cut, what reads the lips, and a run of two steps."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from facetalk.audio import AudioEncoder
from facetalk.audio.live import LiveFeatures
from facetalk.cli import main
from facetalk.data.speech.corpus import CorpusWriter, read_manifest
from facetalk.data.speech.synth import Speech as Spoken
from facetalk.diffusion import MotionModel
from facetalk.errors import InputError
from facetalk.models import find_model
from facetalk.nphm.head.head import HeadModel
from facetalk.training.audio import degrade, finetune_batches
from facetalk.training.audio.degrade import codec, heard, heard_live, mu_law, pops, rumble
from facetalk.training.audio.finetune import FineTuning, finetune
from facetalk.training.audio.finetune_batches import Batches
from facetalk.training.audio.finetune_losses import _LEAST_TRUST, LipReader, Losses
from facetalk.training.audio.train import Heads, Speech
from facetalk.training.audio.unspoken import KINDS, unspoken
from facetalk.training.openings import lips_of
from facetalk.units import DEFAULT_FPS, SAMPLE_RATE

DEFAULT = find_model("default").folder
FLOOR = 1e-5


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    """Syllables of 120 Hz, (48000,)."""
    time = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    sound = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 20))
    return np.asarray(0.1 * np.clip(np.sin(2 * np.pi * 3 * time), 0.01, None) * sound, np.float32)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, voice: np.ndarray) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    writer = CorpusWriter(folder)
    phones = [("SIL", 0.0, 0.3), ("M", 0.3, 0.5), ("AA", 0.5, 1.0), ("B", 1.0, 1.2), ("IY", 1.2, 3.0)]
    for name in ("a", "b", "flite-rms"):
        told = {"text": "", "voice": name, "language": "en", "licence": "CC0", "source": "test"}
        writer.add(f"{name}/0", Spoken(voice, phones, "arpabet"), **told)
    writer.flush()
    return folder


@pytest.fixture(scope="module")
def encoder() -> AudioEncoder:
    return AudioEncoder.from_pretrained(DEFAULT / "audio")


@pytest.fixture(scope="module")
def batches(corpus: Path, encoder: AudioEncoder) -> Batches:
    return Batches(Speech(read_manifest(corpus, split="train")), FineTuning(corpus, corpus, batch=3), encoder)


@pytest.fixture(scope="module")
def losses(batches: Batches, encoder: AudioEncoder) -> Losses:
    return Losses(encoder, LipReader(MotionModel.load(DEFAULT / "motion")).eval(), batches)


def test_degraded_speech_keeps_its_length_and_bounds(voice: np.ndarray) -> None:
    changed = 0
    for seed in range(40):
        one, two = (
            degrade.degrade(voice, np.random.default_rng(seed), lambda: voice[::-1], lambda: voice)
            for _ in range(2)
        )
        assert one.shape == voice.shape and one.dtype == np.float32 and np.abs(one).max() <= 1.0
        assert np.isfinite(one).all() and np.array_equal(one, two)
        changed += not np.allclose(one / (one.std() + 1e-9), voice / voice.std(), atol=0.05)
    assert 20 < changed < 40  # and some are good


def test_codecs_neither_move_nor_lose_speech(voice: np.ndarray) -> None:
    kinds = set()
    for seed in range(24):
        out = codec(voice, np.random.default_rng(seed))
        spectrum = np.fft.rfft(out, 2 * len(out)) * np.conj(np.fft.rfft(voice, 2 * len(out)))
        assert out.shape == voice.shape and np.fft.irfft(spectrum).argmax() in (0, 1)
        assert np.corrcoef(out, voice)[0, 1] > 0.9
        kinds.add(round(float(np.abs(np.fft.rfft(out))[13000:].mean()), 6))
    assert len(kinds) > 4


def test_mu_law_has_eight_bits() -> None:
    x = np.linspace(-1, 1, 20001, dtype=np.float32)
    y = mu_law(x)
    assert len(np.unique(y)) == 255 and np.array_equal(np.sign(y[::400]), np.sign(x[::400]))
    loud = np.abs(x) > 0.05
    assert (np.abs(y - x)[loud] / np.abs(x)[loud]).max() < 0.03


def test_rumble_is_low_and_pops_are_short() -> None:
    rng = np.random.default_rng(0)
    for _ in range(6):
        spectrum = np.abs(np.fft.rfft(rumble(SAMPLE_RATE * 2, rng))) ** 2
        assert spectrum[: 2 * 90].sum() > 0.97 * spectrum.sum()
        knock = np.abs(pops(SAMPLE_RATE * 3, rng))
        assert knock.max() > 0.05 and (knock > 0.01 * knock.max()).mean() < 0.35


def test_sound_is_brought_to_level_as_the_encoder_does_it(voice: np.ndarray, encoder: AudioEncoder) -> None:
    """Features of what ``heard`` gives are those of the encoder."""
    for sound in (0.05 * voice, voice + rumble(len(voice), np.random.default_rng(1)) * voice.std() * 3):
        margin = (encoder.field - encoder.stride) // 2
        wave = np.pad(heard(sound, FLOOR), (margin, encoder.field - encoder.stride - margin))
        expected = encoder.features(sound, fps=DEFAULT_FPS)
        plain = AudioEncoder(encoder.model, normalize=False)
        found = plain.features(wave[margin : margin + len(sound)], fps=DEFAULT_FPS)
        assert (found - expected).abs().max() < 2e-3


def test_another_tract_speaks_and_the_target_is_the_voice_as_it_is(
    batches: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetune_batches, "_UNSPOKEN", 0.0)
    monkeypatch.setattr(finetune_batches, "degrade", lambda wave, *_: wave)
    monkeypatch.setattr(finetune_batches, "_OTHER_TRACT", 0.0)
    before = batches(5)
    monkeypatch.setattr(finetune_batches, "_OTHER_TRACT", 1.0)
    # The tract draws chance, so the hiss that follows is another one; it is 10 dB and more below the voice.
    monkeypatch.setattr(finetune_batches, "change_tract", lambda wave, rng: -wave)
    after = batches(5)
    for name, sign in (("clean", 1.0), ("spoilt", -1.0)):
        one, other = before[name].double().flatten(), after[name].double().flatten()
        assert sign * float(torch.corrcoef(torch.stack([one, other]))[0, 1]) > 0.9


@pytest.mark.parametrize("frame", [40, 47])
def test_a_cut_is_what_live_sound_has(
    voice: np.ndarray, encoder: AudioEncoder, losses: Losses, frame: int
) -> None:
    """The features of a frame by a cut at its moment are those that LiveFeatures gives for it."""
    for look_ahead in (0.06, 0.18):
        live = LiveFeatures(encoder, DEFAULT_FPS, look_ahead)
        expected = live.push(voice)[frame]
        until = int(np.ceil(((frame + 0.5) / DEFAULT_FPS + look_ahead) * SAMPLE_RATE - 1e-6))
        known = until // encoder.stride * encoder.stride
        cut = losses.batches.cut_at(known)
        wave = heard_live(voice, FLOOR)
        around = (losses.batches.margin, losses.batches.length + encoder.field - len(wave))
        whole = [0, losses.batches.length // encoder.stride, losses.batches.frames]
        cuts = torch.tensor([[whole, [known, cut.extracted, max(cut.frames, frame + 1)]]])
        with torch.no_grad():
            found = losses.encode(encoder.model, torch.from_numpy(np.pad(wave, around))[None], cuts)[1]
        assert cut.frames >= frame
        assert (found[frame] - expected).abs().max() < 1e-3


def test_the_reader_is_the_student_in_one_step(encoder: AudioEncoder, losses: Losses) -> None:
    motion = MotionModel.load(DEFAULT / "motion")
    features = torch.randn(1, 30, 192, generator=torch.Generator().manual_seed(0)) * motion.feature_scale
    weights = motion.sample(features[0], steps=1, guidance=1.5, seed=5)
    from facetalk.diffusion.noise import INITIAL, frame_noise

    noise = torch.from_numpy(frame_noise(5, INITIAL, 0, 30, motion.representation.dim))[None]
    gap = losses.reader(features, noise)[1][0].detach().numpy()
    expected = motion.contact.gap(weights)
    inside = expected > 0.0  # contact and the limits of the weights come after
    assert inside.sum() > 10 and np.median(np.abs(gap - expected)[inside]) < 0.2


def test_frames_without_weight_are_not_asked_for(batches: Batches, losses: Losses) -> None:
    batch = batches(3)
    asked, heads = losses.targets(batch), Heads(192)
    batch = {**batch, "cuts": batch["cuts"][:, :1], "weight": torch.ones(batch["classes"].shape[:2])}
    batch["weight"][:, -5:] = 0.0
    found = asked.features.clone()
    one = losses.judge(found, asked, heads, batch, 1000)
    found[:, -5:] += 3.0 * losses.reader.scale
    for name in ("features", "phones"):  # of the frame itself; lips are read from those around it too
        assert float(losses.judge(found, asked, heads, batch, 1000)[name]) == pytest.approx(float(one[name]))
    batch["weight"][:, -5:] = 1.0
    assert float(losses.judge(found, asked, heads, batch, 1000)["features"]) > float(one["features"]) + 0.05


def test_a_batch_is_the_steps_own_and_silence_is_the_target_of_music(
    batches: Batches, losses: Losses
) -> None:
    one, two = batches(7), batches(7)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["spoilt"], batches(8)["spoilt"])
    whole, cut = one["cuts"].unbind(1)
    assert (whole[:, 0] == batches.length).all() and (cut[:, 0] < batches.length).all()
    assert len(set(cut[:, 0].tolist())) == 3
    one["spoken"][:] = torch.tensor([0.0, 1.0, 0.0])
    wanted = losses.targets(one)
    assert torch.equal(wanted.features[0], wanted.features[2])
    assert not torch.equal(wanted.features[0], wanted.features[1])
    assert float(wanted.gap[0].median()) < 1.5


def test_features_are_held_where_lips_are_right_and_let_go_where_wrong(
    batches: Batches, losses: Losses, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batches(3)
    batch["spoken"][:] = 1.0
    batch["curves"][..., -1] = 0.0
    gap = losses.targets(batch).gap
    model, heads = copy.deepcopy(losses.teacher), Heads(192)
    batch["curves"][..., 0] = gap.clamp(min=0.0) / 3.5
    held = losses(model, heads, batch, 0)
    batch["curves"][..., 0] = (gap.clamp(min=0.0) + 30.0) / 3.5
    free = losses(model, heads, batch, 0)
    assert float(free["features"]) == pytest.approx(_LEAST_TRUST * float(held["features"]), rel=0.2)
    assert float(held["gap_error_before_mm"]) < 0.2


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_unspoken_sound(kind: str) -> None:
    one, two, other = (unspoken(16_000, np.random.default_rng(seed), kind) for seed in (0, 0, 1))
    assert np.abs(one).max() == pytest.approx(0.5, abs=1e-3) and one.shape == (16_000,)
    assert np.array_equal(one, two) and not np.array_equal(one, other)


def test_two_steps_and_two_more(corpus: Path, tmp_path: Path) -> None:
    command = ["train", "audio", "--init", "default", "--corpus", str(corpus), "--out", str(tmp_path / "run"),
               "--batch", "2"]  # fmt: skip
    assert main([*command, "--steps", "2"]) == 0
    first = AudioEncoder.from_pretrained(tmp_path / "run/encoder")
    assert main([*command, "--steps", "4"]) == 2  # a history of a shell loses nothing
    assert main([*command, "--steps", "4", "--resume"]) == 0
    again = AudioEncoder.from_pretrained(tmp_path / "run/encoder")
    shipped = AudioEncoder.from_pretrained(DEFAULT / "audio")
    sizes = [sum(p.numel() for p in e.model.parameters()) for e in (first, again, shipped)]
    assert len(set(sizes)) == 1
    # It was made for the motion model that was trained on the first one's features.
    assert shipped.feature_space is not None
    assert again.feature_space == first.feature_space == shipped.feature_space
    moved = [
        max(float((a - b).abs().max()) for a, b in zip(x.parameters(), y.parameters(), strict=True))
        for x, y in ((first, shipped), (again, first))
    ]
    assert all(0.0 < distance < 0.05 for distance in moved)


def test_what_cannot_be_fine_tuned(corpus: Path, tmp_path: Path) -> None:
    settings = FineTuning(corpus, tmp_path / "out", steps=1, batch=1)
    with pytest.raises(InputError, match="no model 'nobody'"):
        finetune(dataclasses.replace(settings, init="nobody"))
    with pytest.raises(InputError, match="must be positive"):
        finetune(dataclasses.replace(settings, batch=0))
    model = MotionModel.load(DEFAULT / "motion")
    model.student = None
    with pytest.raises(InputError, match="few-step student"):
        LipReader(model)
    assert finetune_batches._UNSPOKEN < 0.5


def test_everything_is_where_the_training_is(encoder: AudioEncoder, batches: Batches) -> None:
    """On a device that computes nothing, but refuses tensors that are elsewhere."""
    reader = LipReader(MotionModel.load(DEFAULT / "motion"), np.zeros((53, 3)))
    losses = Losses(copy.deepcopy(encoder), reader.eval().requires_grad_(False), batches, "meta")
    batch = batches(0)
    batch["lower"] = torch.zeros(*batch["curves"].shape[:2], 3)
    model, heads = copy.deepcopy(encoder).model.to("meta").requires_grad_(True), Heads(192).to("meta")
    terms = losses(model, heads, batch, 500)
    assert {value.device.type for value in terms.values()} == {"meta"} and "teeth" in terms
    terms["loss"].backward()
    assert {p.grad.device.type for p in model.parameters() if p.grad is not None} == {"meta"}
    with torch.no_grad():
        assert losses(model, heads, batch, 500)["loss"].device.type == "meta"


def test_a_lower_lip_away_from_the_teeth_costs(encoder: AudioEncoder, batches: Batches) -> None:
    lower = lips_of(HeadModel.load(DEFAULT / "head")).lower_mm
    losses = Losses(encoder, LipReader(MotionModel.load(DEFAULT / "motion"), lower).eval(), batches)
    batch = batches(5)  # one that is little degraded
    batch["spoken"][:] = 1.0
    batch["curves"][..., -1] = 3.5  # an f all the time
    today = losses.targets(batch)
    assert today.lower is not None
    model, heads, costs = copy.deepcopy(losses.teacher), Heads(192), []
    for away in (0.0, 6.0):
        batch["lower"] = today.lower.detach() + torch.tensor([0.0, away, 0.0])
        terms = losses(model, heads, batch, 0)
        costs.append(float(terms["teeth"].detach()))
    assert costs[0] < 6.0, costs
    assert costs[1] > costs[0] + 4.0
    batch["curves"][..., -1] = 0.0
    assert float(losses(model, heads, batch, 0)["teeth"].detach()) == 0.0


def test_workers_change_nothing(corpus: Path, tmp_path: Path) -> None:
    runs = []
    for workers in ("0", "2"):
        out = tmp_path / workers
        command = ["train", "audio", "--init", "default", "--corpus", str(corpus), "--out", str(out)]
        assert main([*command, "--batch", "1", "--steps", "3", "--workers", workers]) == 0
        runs.append(AudioEncoder.from_pretrained(out / "encoder"))
    for one, other in zip(runs[0].parameters(), runs[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
