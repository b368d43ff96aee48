"""The whole way from speech to meshes: ``FaceTalk.from_pretrained`` -> ``generate`` -> ``decode``."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from facetalk import posing
from facetalk.ambient import plainly
from facetalk.arguments import real_number, whole_number
from facetalk.arrays import Float32
from facetalk.audio.containers import RATES
from facetalk.audio.load import AudioReader, SampleReader, Source, open_audio
from facetalk.audio.padding import DEFAULT_PAD, Padded, padding
from facetalk.backend import Backend, by_torch, native_model, pick_for, start
from facetalk.casting import cast, hear, seed_of
from facetalk.errors import InputError
from facetalk.mesh import Mesh, RiggedSequence
from facetalk.mesh.smoothing import FacialSmoothing
from facetalk.models import ModelConfig, find_model
from facetalk.models.heads import open_head, with_rig
from facetalk.motion import Motion, ease_ends
from facetalk.native import WHOLE, NativeModel, NativeStream
from facetalk.nphm.head.head import HeadModel
from facetalk.optional import needed_for
from facetalk.pose.generator import AHEAD_S, head_motion
from facetalk.streaming import LiveHead, LiveStream, run_through
from facetalk.style import Style, StyleFilter
from facetalk.tongue import Tongue, TongueNetwork
from facetalk.units import SAMPLE_RATE

if TYPE_CHECKING:
    import torch

    from facetalk.audio.encoder import AudioEncoder
    from facetalk.diffusion.model import MotionModel
    from facetalk.nphm.plain_head import PlainHead
    from facetalk.torch_backend import TorchEngine

Topology = Literal["fixed", "marching-cubes"]
Detail = Literal["high", "medium", "low"]
Audio = Source | AudioReader

RESOLUTION_RANGE = (16, 1024)
"""Grid points per axis that ``decode`` accepts; 1024^3 is what a box of a head can use (0.3 mm)."""


_DETAILS: tuple[Detail, ...] = ("high", "medium", "low")
_SETTLING_S = 0.6
"""Silence that is heard beyond the padding: after as much a mouth is closed."""

_LARGEST_WEIGHT, _LARGEST_CODE = 100.0, 1000.0
"""Beyond anything that is a face, and far below what overflows."""


class FaceTalk:
    """A talking head: audio encoder, motion model and neural head.

    The three parts are loaded when first used, so decoding a stored motion needs no audio encoder. torch is
    imported where it does the work: on a GPU, with ``backend="torch"``, with a model that the C library does
    not run, for marching cubes, landmarks and identities other than the default.
    """

    def __init__(self, config: ModelConfig, device: str | torch.device, backend: Backend = "auto") -> None:
        self.config = config
        self._device = device
        self.backend = backend

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str] = "default",
        device: str = "auto",
        *,
        backend: Backend = "auto",
    ) -> FaceTalk:
        """Load a model by name (``"default"`` travels with the package) or from a folder.

        Args:
            name_or_path: built-in name or a folder with config.json, head/, audio/ and motion/.
            device: ``"auto"``, ``"cpu"``, ``"cuda"``, ... for the audio encoder and the denoiser, and for
                marching cubes where this build has kernels for it.
            backend: what turns speech into motion: ``"native"``, the C library, on the CPU; ``"torch"``; or
                ``"auto"``, the C library on the CPU where it runs the model. They agree to 1e-4.

        Raises:
            InputError: no such model, device not usable, or the C library asked for on another.
        """
        return cls(find_model(name_or_path), pick_for(device, backend), backend)

    @property
    def device(self) -> torch.device:
        """The device of the audio encoder and the denoiser, as torch has it."""
        device: torch.device = by_torch("a device").as_device(self._device)
        return device

    @cached_property
    def native_model(self) -> NativeModel | None:
        """The model in the C library; None where torch does the work.

        Raises:
            InputError: the library was asked for by name and does not run this model.
        """
        return native_model(self.config.folder, self._device, self.backend)

    @cached_property
    def audio_encoder(self) -> AudioEncoder:
        """Wav2Vec 2.0."""
        kind: type[AudioEncoder] = by_torch("the audio encoder by torch").AudioEncoder
        return kind.from_pretrained(self.config.folder / "audio", device=self._device)

    @cached_property
    def motion_model(self) -> MotionModel:
        """The diffusion model of expression codes."""
        kind: type[MotionModel] = by_torch("the motion model by torch").MotionModel
        return kind.load(self.config.folder / "motion", device=self._device)

    @cached_property
    def any_head(self) -> HeadModel | PlainHead:
        """The neural parametric head, with a rig or, of an NPHM, without one."""
        return open_head(self.config.folder / "head")

    @property
    def head(self) -> HeadModel:
        """The neural parametric head.

        Raises:
            InputError: it is an NPHM, whose codes have no names and no rig.
        """
        return with_rig(self.any_head, self.config.folder)

    @cached_property
    def tongue(self) -> Tongue | None:
        """What the tongue does with speech; None of a model without that, or whose head has none to move.

        Raises:
            InputError: its files are damaged.
        """
        head = self.any_head
        return Tongue.of(self.config.folder, head.tables.reach if isinstance(head, HeadModel) else None)

    @cached_property
    def facial_smoothing(self) -> FacialSmoothing:
        """The paper's spatial weight on deformations, which stills the back of the head and the neck."""
        return FacialSmoothing(self.config.mouth_centre, self.config.mouth_sigma, self.config.bounds)

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
            guidance: weight w of classifier-free guidance, 1 = none; the model's default when None. The
                student takes 1 to 2.5; with other weights None steps means the full model.
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
            look_ahead: seconds after a frame's middle that may be heard for it: what :meth:`stream` with it
                would give. None: the whole recording.
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
        ahead = None if look_ahead is None else real_number("look_ahead", look_ahead)
        style = Style() if style is None else style
        provenance: dict[str, Any] = {"model": self.config.name, "seed": seed}
        if style.changed():
            provenance["style"] = style.changed()
        styled = self._styled(style, seed)
        if ahead is not None:
            provenance["look_ahead"] = ahead
        if drawn is not None:
            provenance["identity"] = f"voice:{drawn}"
        if ahead is not None or self.native_model is not None:
            engine = self._engine(WHOLE if ahead is None else ahead, steps, guidance, seed, SAMPLE_RATE)
            expressions, touch = run_through(engine, heard, progress=progress)
            provenance |= {"steps": engine.steps, "guidance": engine.guidance}
        else:
            motion = self.motion_model
            told: list[Float32] = []
            features = by_torch("features").features(self.audio_encoder, heard, self.config.fps)
            if self.tongue is not None:
                features = self._overheard(features, told)
            expressions = motion.sample(
                features, steps=steps, guidance=guidance, seed=seed, progress=progress
            )
            provenance["steps"] = motion.steps_for(steps, guidance)
            provenance["guidance"] = motion.default_guidance if guidance is None else guidance
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
            look_ahead: seconds after a frame's middle that are heard before it is given, 0 to 60. With less
                than about 0.2 lips lag behind quick sounds, whose frames are given before they are heard.
            steps, seed, guidance, identity, style: as those of :meth:`generate`.
            rate: sampling rate of the sound that will be pushed, Hz.

        Returns:
            a stream with ``push(samples)``, ``finish()`` and ``latency``; its frames are those of
            ``generate(..., look_ahead=look_ahead)`` to 1e-5, however the sound is cut.

        Raises:
            InputError: an option is out of range, or the audio encoder has to hear the whole recording.
        """
        seed = whole_number("seed", seed)
        steps = None if steps is None else whole_number("steps", steps)
        guidance = None if guidance is None else real_number("guidance", guidance)
        rate, look_ahead = real_number("rate", rate), real_number("look_ahead", look_ahead)
        if not RATES[0] <= rate <= RATES[1]:
            raise InputError(f"rate must be between {RATES[0]} and {RATES[1]} Hz, got {rate:g}")
        engine = self._engine(look_ahead, steps, guidance, seed, rate)
        provenance: dict[str, Any] = {"model": self.config.name, "seed": seed, "look_ahead": look_ahead}
        style = Style() if style is None else style
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

    def _styled(self, style: Style, seed: int) -> StyleFilter:
        # Most talk has no slider moved, and asks nothing of the head for it.
        names = self.any_head.expression_names if style.changed() else ()
        return StyleFilter(style, names, self.config.fps, seed)

    def _engine(
        self, look_ahead: float, steps: int | None, guidance: float | None, seed: int, rate: float
    ) -> NativeStream | TorchEngine:
        return start(
            self.native_model, self._torch_parts, fps=self.config.fps, look_ahead=look_ahead, steps=steps,
            guidance=guidance, seed=seed, rate=rate,
        )  # fmt: skip

    def _torch_parts(self) -> tuple[AudioEncoder, MotionModel, TongueNetwork | None]:
        return self.audio_encoder, self.motion_model, None if self.tongue is None else self.tongue.network

    @plainly
    def features(self, audio: Audio, *, track: int | None = None, look_ahead: float | None = None) -> Float32:
        """Audio features of a recording, one row for each frame that :meth:`generate` would give.

        Args:
            audio: as :meth:`generate` takes it.
            track: number, from 1, of the sound track of a file.
            look_ahead: seconds after a frame's middle that may be heard for it, as in :meth:`stream`. None:
                the whole recording.

        Returns:
            (T, A) float32, frame ``i`` centred at ``(i + 0.5) / fps`` seconds.

        Raises:
            InputError: the audio cannot be used, the look-ahead is out of range, or the audio encoder has to
                hear the whole recording.
        """
        sound = open_audio(audio, track=track)
        samples, fps = np.concatenate([*sound, np.zeros(0, np.float32)]), self.config.fps
        ahead = WHOLE if look_ahead is None else real_number("look_ahead", look_ahead)
        if self.native_model is not None:
            return self.native_model.features(samples, look_ahead=ahead)
        rows: Float32 = by_torch("features").feature_rows(self.audio_encoder, samples, fps, ahead)
        return rows

    @plainly
    def decode(
        self,
        motion: Motion,
        *,
        resolution: int = 128,
        topology: Topology = "fixed",
        smooth: bool = True,
        tolerance_mm: float | None = None,
        temporal_sigma: float | None = None,
        exact: bool = False,
        detail: Detail = "high",
    ) -> RiggedSequence | Iterator[Mesh]:
        """Turn a motion into meshes, in metres.

        Args:
            motion: expression codes; an empty ``motion.identity`` means the default identity.
            resolution: grid points per axis of ``topology="marching-cubes"``.
            topology: ``"fixed"`` carries the canonical mesh to every frame (constant faces; the result is a
                ``RiggedSequence``, which is iterable, or of a head without a rig an iterator);
                ``"marching-cubes"`` extracts every frame anew from the backward-deformed field, as the paper
                does, looks at eyes and lips again on a finer lattice, takes out what is no head, paints it by
                the first, gives it more vertices wherever the paint changes, and closes lips and lids as the
                first has them.
            smooth: weight the deformation by the model's facial smoothing.
            tolerance_mm: with marching cubes, how far a mesh may be from that of the dense grid before lips
                and lids are closed, millimetres: more is quicker. 0 keeps to short cuts that change nothing;
                None is 0.05, which nobody sees. At 0 the mesh is the lattice's own, with vertices for the
                paint alone.
            temporal_sigma: standard deviation in seconds of a Gaussian over time; None = the model's setting.
            exact: with marching cubes, evaluate the dense grid instead of a band around the surface.
            detail: of the fixed topology: about 24, 11 or 5 thousand vertices, the fewer ones among the more;
                of a head without a rig those of an extraction with 128, 96 or 64 samples along every axis.

        Raises:
            InputError: the motion does not fit this head, or an option is out of range or would do nothing.
        """
        low, high = RESOLUTION_RANGE
        resolution = whole_number("resolution", resolution)
        if not low <= resolution <= high:
            raise InputError(f"resolution must lie in [{low}, {high}] grid points per axis, got {resolution}")
        if topology not in ("fixed", "marching-cubes"):
            raise InputError(f"topology must be 'fixed' or 'marching-cubes', got {topology!r}")
        if detail not in _DETAILS:
            raise InputError(f"detail must be one of {', '.join(_DETAILS)}, got {detail!r}")
        if topology != "fixed" and detail != "high":
            raise InputError("detail is for topology='fixed'; marching cubes have a resolution")
        if topology == "fixed" and (exact or tolerance_mm is not None):
            option = "exact" if exact else "tolerance_mm"
            raise InputError(f"{option} is for topology='marching-cubes'; a carried mesh has no use for it")
        if exact and tolerance_mm is not None:
            raise InputError("give exact or tolerance_mm, not both: an exact extraction tolerates nothing")
        smoothing, head = self.facial_smoothing if smooth else None, self.any_head
        if topology == "fixed":
            checked, level = self._checked(motion, temporal_sigma), _DETAILS.index(detail)
            if isinstance(head, HeadModel):
                return posing.rigged(head, checked, smoothing, level)
            return posing.tracked(head, checked, smoothing, level, self.config.bounds)
        with needed_for("extracting a head by marching cubes"):
            from facetalk.nphm.surface.options import DEFAULT_TOLERANCE_MM, ExtractionOptions
        options = ExtractionOptions(
            tolerance_mm=DEFAULT_TOLERANCE_MM if tolerance_mm is None else tolerance_mm, exact=exact
        )
        motion = self._checked(motion, temporal_sigma)
        return posing.extracted(head, motion, smoothing, resolution, self.config.bounds, options, self.device)

    @plainly
    def landmarks(self, motion: Motion) -> Float32:
        """The 68 Multi-PIE landmarks of every frame: (T, 68, 3) float32, metres; 60-67 are the inner lips.

        They are points of the model's own canonical surface, carried by the same deformation as the mesh of
        ``decode(topology="fixed")``.
        """
        return posing.landmarks(self.any_head, self._checked(motion, 0.0), self.facial_smoothing)

    def _identity(self, identity: ArrayLike | str | None) -> Float32:
        if identity is None:
            return np.asarray(self.any_head.default_identity, dtype=np.float32)
        if isinstance(identity, str):
            raise InputError(
                f"identity must be a code, or for a recording voice or voice:SEED, got {identity!r}; "
                f"identity_from_voice gives the code of a voice"
            )
        code, size = np.asarray(identity, dtype=np.float32), self.any_head.identity_dim
        if code.shape != (size,):
            raise InputError(f"identity must have shape ({size},), got {code.shape}")
        if not np.isfinite(code).all():
            raise InputError("identity has values that are not finite")
        if np.abs(code).max(initial=0.0) > _LARGEST_CODE:
            raise InputError(
                f"identity has values up to {np.abs(code).max():.3g}, no head's are above {_LARGEST_CODE:g}"
            )
        return code

    def _checked(self, motion: Motion, temporal_sigma: float | None) -> Motion:
        width = motion.expressions.shape[1]
        takes = self.any_head.expression_dim
        if width != takes:
            raise InputError(f"the motion has {width} values a frame, this head takes {takes}")
        if np.abs(motion.expressions).max(initial=0.0) > _LARGEST_WEIGHT:
            raise InputError(
                f"the motion has weights up to {np.abs(motion.expressions).max():.3g}; they are fractions, "
                f"and none may be above {_LARGEST_WEIGHT:g}"
            )
        identity = self._identity(motion.identity if motion.identity.size else None)
        sigma = self.config.temporal_sigma
        if temporal_sigma is not None:
            sigma = real_number("temporal_sigma", temporal_sigma)
            if not 0.0 <= sigma <= 60.0:
                raise InputError(f"temporal_sigma must lie in 0..60 seconds, got {sigma:g}")
        motion = dataclasses.replace(motion, identity=identity)
        return motion.smooth(sigma) if sigma else motion
