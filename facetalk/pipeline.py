"""The whole way from speech to meshes: ``FaceTalk.from_pretrained`` -> ``generate`` -> ``decode``.

Here is what hears; :mod:`facetalk.loaded` has the parts of the model, :mod:`facetalk.decoding` the way from a
motion to meshes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from facetalk.ambient import plainly
from facetalk.arguments import check_whisper_ahead, look_ahead_seconds, real_number, whole_number
from facetalk.arrays import Float32
from facetalk.audio.containers import RATES
from facetalk.audio.load import AudioReader, SampleReader, Source, open_audio
from facetalk.audio.padding import DEFAULT_PAD, Padded, padding
from facetalk.backend import SpeechParts, by_torch, start
from facetalk.casting import cast, hear, seed_of
from facetalk.data.expressions import with_upper_face
from facetalk.decoding import RESOLUTION_RANGE, Decoder, Detail, Topology
from facetalk.errors import InputError
from facetalk.motion import Motion, ease_ends
from facetalk.native import WHOLE, NativeStream
from facetalk.pose.generator import AHEAD_S, head_motion
from facetalk.streaming import LiveHead, LiveStream, run_through
from facetalk.style import Style, StyleFilter, checked_style
from facetalk.units import SAMPLE_RATE

if TYPE_CHECKING:
    import torch

    from facetalk.torch_backend import TorchEngine

__all__ = ["RESOLUTION_RANGE", "Audio", "Detail", "FaceTalk", "Topology"]

Audio = Source | AudioReader

_SETTLING_S = 0.6
"""Silence that is heard beyond the padding: after as much a mouth is closed."""


class FaceTalk(Decoder):
    """A talking head: audio encoder, motion model and neural head.

    The three parts are loaded when first used, so decoding a stored motion needs no audio encoder. torch is
    imported where it does the work: on a GPU, with ``backend="torch"``, with a model that the C library does
    not run, for marching cubes, landmarks and identities other than the default.
    """

    @plainly
    def generate(
        self,
        audio: Audio,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        seed: int | None = None,
        identity: ArrayLike | str | None = None,
        track: int | None = None,
        pad: float | None = 0.0,
        look_ahead: float | None = None,
        style: Style | None = None,
        progress: bool = False,
    ) -> Motion:
        """Sample a motion for a recording.

        Args:
            audio: path of any file that libsndfile or FFmpeg reads, a pipe, an open file, or
                ``(samples, rate)``; see :func:`facetalk.audio.load_audio`.
            steps: denoising steps. 1, 2, 4 and 8 are taken by the few-step student where the model has one,
                others by the full model. None: the model's default (``motion/config.json`` says what chose
                it).
            guidance: weight w of classifier-free guidance, 1 = none; the model's default when None, and for
                mouths that Whisper hears its adapter's. The student takes 1 to 2.5; with
                other weights None steps means the full model.
            seed: noise seed; the same seed, audio and steps give the same motion. None = a fresh one,
                which is kept in ``Motion.provenance["seed"]``.
            identity: (I,) identity code of the head; the default identity when None. ``"voice"`` or
                ``"voice:SEED"`` draws one for the voice: see :meth:`identity_from_voice`.
            track: number, from 1, of the sound track of a file; None takes the one that is marked as default,
                or the first that is not silent.
            pad: seconds of near-silence to put before and after the recording, so that the face comes from
                rest and goes to rest; the motion is longer by both, and ``Motion.pad`` says by how much: give
                it to :func:`facetalk.export`, which puts as much before the sound. None: 0.2 s on the sides
                where the recording is cut in a word.
            look_ahead: seconds after a frame's middle that may be heard for it, 0 to 60: what :meth:`stream`
                with it would give; with Whisper 0 to 1. None: the whole recording.
            style: sliders of the expression, the blinks, the gaze and the head's motion; None changes
                nothing of what is sampled, and moves the head as people do.
            progress: show a progress bar on stderr.

        Returns:
            Motion of ``frame_count(samples, fps)`` frames, padding included; its
            ``provenance["hearing"]`` lists what was not well with the sound.

        Raises:
            InputError: the audio cannot be used, an option is out of range, or a face is to be drawn for a
                voice of which not enough is heard.

        Warns:
            HearingWarning: silence, near-silence, clipping, missing sound, channels that cancel.
        """
        seed = int.from_bytes(os.urandom(4), "little") if seed is None else whole_number("seed", seed)
        steps = None if steps is None else whole_number("steps", steps)
        guidance = None if guidance is None else real_number("guidance", guidance)
        ahead = None if look_ahead is None else self._look_ahead(look_ahead)
        drawn = seed_of(identity) if isinstance(identity, str) else None
        code = None if drawn is not None else self._identity(identity)
        sound = open_audio(audio, track=track)
        if code is None:
            code = self.identity_from_voice(sound, seed=drawn or 0)
        before, after = padding(sound, pad)
        # The model hears more silence than there will be, and so comes to rest whatever the padding is.
        fps = self.config.fps
        settling = round(_SETTLING_S * fps)
        silent = (settling if before else 0, settling if after else 0)
        heard = Padded(sound, before + silent[0] / fps, after + silent[1] / fps)
        style = checked_style(style)
        provenance: dict[str, Any] = {"model": self.config.name, "seed": seed}
        if (heard_by := self.hears(whole=ahead is None)) != "model":
            provenance["encoder"] = heard_by
        if style.changed():
            provenance["style"] = style.changed()
        styled = self._styled(style, seed)
        if ahead is not None:
            provenance["look_ahead"] = ahead
        if drawn is not None:
            provenance["identity"] = f"voice:{drawn}"
        if ahead is not None or self.native_model is not None:
            engine = self._engine(WHOLE if ahead is None else ahead, steps, guidance, seed, SAMPLE_RATE)
            expressions, touch, _ = run_through(engine, heard, progress=progress)
            provenance |= {"steps": engine.steps, "guidance": engine.guidance}
        else:
            motion = self.motion_model
            told: list[Float32] = []
            features = by_torch("features").features(self.speech_encoder, heard, self.config.fps)
            if self.tongue is not None:
                features = self._overheard(features, told)
            # By Whisper little is left to guess, and mouths may differ as people's do.
            of_mouth = self.speech_encoder.guidance if guidance is None else guidance
            expressions = motion.sample(
                features, steps=steps, guidance=of_mouth, seed=seed, progress=progress
            )
            if self.speech_encoder is not self.audio_encoder:
                # Brows, lids and gaze go with the voice more than with the words, and with the features of
                # the encoder that they were learned from.
                own = by_torch("features").features(self.audio_encoder, heard, self.config.fps)
                upper = motion.sample(own, steps=steps, guidance=guidance, seed=seed)
                expressions = with_upper_face(expressions, upper, motion.expression_names)
            provenance["steps"] = motion.steps_for(steps, of_mouth)
            provenance["guidance"] = motion.default_guidance if of_mouth is None else of_mouth
            touch = np.concatenate(told) if told else None
        eased = (round(min(before, DEFAULT_PAD) * fps), round(min(after, DEFAULT_PAD) * fps))
        pose = None
        if style.head_motion:
            pose = head_motion(
                heard, fps, len(expressions), seed=seed, amount=style.head_motion,
                look_ahead=AHEAD_S if ahead is None else ahead,
            )[silent[0] : len(expressions) - silent[1]]  # fmt: skip
        frames = slice(silent[0], len(expressions) - silent[1])
        expressions = ease_ends(styled.apply(np.asarray(expressions)), silent, eased)
        tongue = None
        if touch is not None and self.tongue is not None:
            tongue = self.tongue.reach.weights(touch[frames], expressions)
        if isinstance(sound, AudioReader):
            provenance["audio"] = Path(sound.name).name
        if before or after:
            provenance["pad"] = [before, after]
        provenance["seconds"] = before + heard.seconds + after
        provenance["hearing"] = sound.notes
        return Motion(expressions, fps, code, provenance, pose, tongue)

    def _overheard(self, features: Iterator[torch.Tensor], told: list[Float32]) -> Iterator[torch.Tensor]:
        """Features as they are, whose contacts of the tongue are noted on the way."""
        assert self.tongue is not None
        for piece in features:
            told.append(self.tongue.network(piece.cpu().numpy()))
            yield piece

    @plainly
    def identity_from_voice(
        self, audio: Audio | SampleReader, *, seed: int = 0, track: int | None = None
    ) -> Float32:
        """Draw an identity code for a voice.

        The face is invented. What the pitch and formants of voices of men and women have to do with the size
        of faces, by published means, shifts the draw; the rest goes by timbre through a map that is the
        seed's, so that a voice gets about the same face in every recording. It is nobody's likeness, and no
        evidence of who speaks, or of what they look like: ``facetalk/models/timbre/README.md``.

        Args:
            audio: as :meth:`generate` takes it; it is heard until there was half a minute of voiced
                sound.
            seed: of the draw; another one gives another face.
            track: number, from 1, of the sound track of a file.

        Returns:
            (I,) float32 code.

        Raises:
            InputError: less than a second of voiced speech is heard; or the audio cannot be used.
        """
        seed = whole_number("seed", seed)
        if seed < 0:
            raise InputError(f"seed must be at least 0, got {seed}")
        sound = audio if isinstance(audio, SampleReader) else open_audio(audio, track=track)
        name = Path(sound.name).name if isinstance(sound, AudioReader) else "the sound"
        return cast(hear(sound, name), self.head, seed)

    @plainly
    def stream(
        self,
        *,
        look_ahead: float = 0.2,
        steps: int | None = None,
        seed: int = 0,
        guidance: float | None = None,
        rate: float = SAMPLE_RATE,
        identity: ArrayLike | None = None,
        style: Style | None = None,
    ) -> LiveStream:
        """Start a motion for sound that is still to come.

        Args:
            look_ahead: seconds after a frame's middle that are heard before it is given, 0 to 60; with
                Whisper 0 to 1. With less than about 0.2 lips lag behind quick sounds, whose frames are given
                before they are heard.
            steps, seed, guidance, identity, style: as those of :meth:`generate`.
            rate: sampling rate of the sound that will be pushed, Hz.

        Returns:
            a stream with ``push(samples)``, ``finish()`` and ``latency``; its frames are those of
            ``generate(..., look_ahead=look_ahead)`` to 1e-5, however the sound is cut.

        Raises:
            InputError: an option is out of range, the audio encoder has to hear the whole recording, or the
                adapter for Whisper hears whole recordings alone.
        """
        seed = whole_number("seed", seed)
        steps = None if steps is None else whole_number("steps", steps)
        guidance = None if guidance is None else real_number("guidance", guidance)
        rate, look_ahead = real_number("rate", rate), self._look_ahead(look_ahead)
        if not RATES[0] <= rate <= RATES[1]:
            raise InputError(f"rate must be between {RATES[0]} and {RATES[1]} Hz, got {rate:g}")
        engine = self._engine(look_ahead, steps, guidance, seed, rate)
        provenance: dict[str, Any] = {"model": self.config.name, "seed": seed, "look_ahead": look_ahead}
        if (heard_by := self.hears(whole=False)) != "model":
            provenance["encoder"] = heard_by
        style = checked_style(style)
        if style.changed():
            provenance["style"] = style.changed()
        head = None
        if style.head_motion:
            head = LiveHead(self.config.fps, seed, rate, look_ahead=look_ahead, amount=style.head_motion)
        return LiveStream(
            engine, curves=self.any_head.expression_dim, fps=self.config.fps, rate=rate,
            identity=self._identity(identity), provenance=provenance, style=self._styled(style, seed),
            head=head, reach=None if self.tongue is None else self.tongue.reach,
        )  # fmt: skip

    def _look_ahead(self, seconds: float) -> float:
        ahead = look_ahead_seconds(seconds)
        if self.hears(whole=False) == "whisper":
            check_whisper_ahead(ahead)
        return ahead

    def _styled(self, style: Style, seed: int) -> StyleFilter:
        # Most talk has no slider moved, and asks nothing of the head for it.
        names = self.any_head.expression_names if style.changed() else ()
        return StyleFilter(style, names, self.config.fps, seed)

    def _engine(
        self, look_ahead: float, steps: int | None, guidance: float | None, seed: int, rate: float
    ) -> NativeStream | TorchEngine:
        whole = look_ahead == WHOLE
        return start(
            self.native_model if whole else self.live_native_model, partial(self._torch_parts, whole),
            fps=self.config.fps, look_ahead=look_ahead, steps=steps, guidance=guidance, seed=seed, rate=rate,
        )  # fmt: skip

    def _torch_parts(self, whole: bool) -> SpeechParts:
        encoder = self.speech_encoder if whole else self.live_encoder
        own = None if encoder is self.audio_encoder else self.audio_encoder
        tongue = None if self.tongue is None else self.tongue.network
        return SpeechParts(encoder, own, self.motion_model, tongue)

    @plainly
    def features(self, audio: Audio, *, track: int | None = None, look_ahead: float | None = None) -> Float32:
        """Audio features of a recording, one row for each frame that :meth:`generate` would give.

        Args:
            audio: as :meth:`generate` takes it.
            track: number, from 1, of the sound track of a file.
            look_ahead: seconds after a frame's middle that may be heard for it, 0 to 60, with Whisper 0 to 1,
                as in :meth:`stream`. None: the whole recording.

        Returns:
            (T, A) float32, frame ``i`` centred at ``(i + 0.5) / fps`` seconds.

        Raises:
            InputError: the audio cannot be used, the look-ahead is out of range, or the audio encoder has to
                hear the whole recording.
        """
        ahead = WHOLE if look_ahead is None else self._look_ahead(look_ahead)
        sound = open_audio(audio, track=track)
        samples, fps = np.concatenate([*sound, np.zeros(0, np.float32)]), self.config.fps
        whole = look_ahead is None
        native = self.native_model if whole else self.live_native_model
        if native is not None:
            return native.features(samples, look_ahead=ahead)
        encoder = self.speech_encoder if whole else self.live_encoder
        rows: Float32 = by_torch("features").feature_rows(encoder, samples, fps, ahead)
        return rows
