"""The C library of the package from Python: sound in, curves and pose out, without torch.

A thin face over :mod:`facetalk.library`: handles that free themselves, arrays checked, errors as
:class:`InputError`. The library itself, and its header for other languages, are where :func:`get_library` and
:func:`get_include` say.
"""

from __future__ import annotations

import ctypes
import dataclasses
import math
import os
from collections.abc import Callable
from ctypes import POINTER, byref, c_int32, c_int64, c_void_p

import numpy as np
from numpy.typing import ArrayLike

from facetalk.arguments import check_whisper_ahead, look_ahead_seconds
from facetalk.arrays import Float32, Int32
from facetalk.data.tongue import CONTACTS
from facetalk.errors import InputError
from facetalk.frames import Frames
from facetalk.interrupts import Uninterrupted
from facetalk.library import (
    PROGRESS,
    FramePointers,
    StreamOptions,
    StyleOptions,
    check,
    get_include,
    get_library,
    library,
)
from facetalk.mesh.pose import POSE_NAMES
from facetalk.style import Style, checked_style

__all__ = [
    "WHOLE",
    "NativeModel",
    "NativeRig",
    "NativeStream",
    "check",
    "frame_noise",
    "get_include",
    "get_library",
    "library",
]


WHOLE = math.inf
"""The look-ahead that hears the whole recording before it gives the first frame."""


def frame_noise(seed: int, step: int, start: int, stop: int, channels: int) -> Float32:
    """:func:`facetalk.diffusion.frame_noise` of the C library."""
    out = np.empty((stop - start, channels), np.float32)
    check(library().facetalk_frame_noise(seed, step, start, stop, channels, out.ctypes.data))
    return out


class NativeModel:
    """A model folder in the C library; may be used by many threads.

    Args:
        folder: the model's.
        listener: Whisper's weights, where it shall hear instead of the model's own audio encoder:
            :func:`facetalk.audio.whisper_weights.kept_listener`.

    Raises:
        InputError: the folder is no model, damaged, or of a kind that the library does not run; or Whisper's
            weights, or the model's adapter for it, are not there or damaged.
    """

    def __init__(
        self, folder: str | os.PathLike[str], listener: str | os.PathLike[str] | None = None
    ) -> None:
        self._folder = os.fspath(folder)
        self._listener = None if listener is None else os.fspath(listener)
        self._handle = c_void_p()
        self._library = library()
        check(self._library.facetalk_model_load(os.fsencode(folder), byref(self._handle)))
        if self._listener is not None:
            check(self._library.facetalk_model_use_whisper(self._handle, os.fsencode(self._listener)))
        self.fps = float(self._library.facetalk_model_fps(self._handle))
        count = self._library.facetalk_model_curve_count(self._handle)
        self.names = [self._library.facetalk_model_curve_name(self._handle, i).decode() for i in range(count)]
        count = self._library.facetalk_model_tongue_count(self._handle)
        self.tongue_names = [
            self._library.facetalk_model_tongue_name(self._handle, i).decode() for i in range(count)
        ]

    def __del__(self) -> None:
        """Free the handle."""
        if getattr(self, "_handle", None):
            self._library.facetalk_model_free(self._handle)

    def __reduce__(self) -> tuple[type[NativeModel], tuple[str, str | None]]:
        """Copies, and processes that a model is sent to, load the folder again."""
        return type(self), (self._folder, self._listener)

    def features(self, samples: ArrayLike, *, look_ahead: float = WHOLE) -> Float32:
        """Audio features (T, A) of (N,) samples at 16 kHz.

        Args:
            samples: the sound.
            look_ahead: as that of :meth:`facetalk.FaceTalk.stream`, or ``WHOLE``.

        Raises:
            InputError: samples of another shape or not finite, or the look-ahead is out of range.
        """
        sound = _samples(samples)
        frames = c_int64(0)
        arguments = self._handle, sound.ctypes.data, len(sound), self._ahead(look_ahead)
        if self._library.facetalk_model_features(*arguments, None, byref(frames)) and not frames.value:
            check(self._library.facetalk_model_features(*arguments, None, byref(frames)))
        out = np.empty((frames.value, self._library.facetalk_model_feature_count(self._handle)), np.float32)
        check(self._library.facetalk_model_features(*arguments, out.ctypes.data, byref(frames)))
        return out

    def _ahead(self, look_ahead: float) -> float:
        """The library's look-ahead, whose own answer to a wrong one has its own name for it."""
        seconds = WHOLE if look_ahead == WHOLE else look_ahead_seconds(look_ahead)
        if self._listener is not None:
            check_whisper_ahead(seconds)
        return seconds

    def tongue_weights(self, contacts: ArrayLike, curves: ArrayLike) -> Float32:
        """Weights (T, 3) of the tongue that bring its tip to contacts (T, 2) whatever curves (T, E) do.

        Raises:
            InputError: the model has no tongue that moves, or arrays of another shape.
        """
        touched, codes = (np.ascontiguousarray(array, np.float32) for array in (contacts, curves))
        wanted = (len(touched), len(CONTACTS)), (len(touched), len(self.names))
        if (touched.shape, codes.shape) != wanted:
            raise InputError(
                f"contacts and curves must have shapes (T, {len(CONTACTS)}) and (T, {len(self.names)}), got "
                f"{touched.shape} and {codes.shape}"
            )
        out = np.empty((len(touched), len(self.tongue_names)), np.float32)
        data = touched.ctypes.data, codes.ctypes.data, len(touched), out.ctypes.data
        check(self._library.facetalk_model_tongue_weights(self._handle, *data))
        return out

    def stream(
        self,
        *,
        look_ahead: float = 0.2,
        steps: int | None = None,
        seed: int = 0,
        guidance: float | None = None,
        rate: int = 16_000,
        style: Style | None = None,
        pose: bool = False,
    ) -> NativeStream:
        """Start a clip; arguments as of :meth:`facetalk.FaceTalk.stream`, and ``WHOLE`` as a look-ahead.

        With ``pose`` its frames tell where the head is, which is what
        :class:`facetalk.pose.generator.HeadMotion` makes of the sound.

        Raises:
            InputError: an option is out of range, or a slider of the style has no curve to work on.
        """
        return NativeStream(self, look_ahead, steps, seed, guidance, rate, checked_style(style), pose=pose)


class NativeRig:
    """Curves to vertices.

    Args:
        model: the model whose head it is.
        identity: (L,) identity code; None for the head's own.

    Attributes:
        faces: (F, 3) int32 vertex numbers, the same for every identity.
        tongue: number of tongue weights, 0 of a head without a tongue that moves.
    """

    def __init__(self, model: NativeModel, identity: ArrayLike | None = None) -> None:
        self._library, self._handle = model._library, c_void_p()
        code = np.zeros(0, np.float32) if identity is None else np.ascontiguousarray(identity, np.float32)
        arguments = model._handle, code.ctypes.data if code.size else None, code.size
        check(self._library.facetalk_rig_create(*arguments, byref(self._handle)))
        self._count = int(self._library.facetalk_rig_vertex_count(self._handle)), len(model.names)
        self.tongue = int(self._library.facetalk_rig_tongue_count(self._handle))
        shape = self._library.facetalk_rig_face_count(self._handle), 3
        address = ctypes.cast(self._library.facetalk_rig_faces(self._handle), POINTER(c_int32))
        self.faces: Int32 = np.ctypeslib.as_array(address, shape).copy()

    def __del__(self) -> None:
        """Free the handle."""
        if getattr(self, "_handle", None):
            self._library.facetalk_rig_free(self._handle)

    def pose(self, curves: ArrayLike, tongue: ArrayLike | None = None) -> tuple[Float32, Float32]:
        """Positions and normals, each (V, 3), metres.

        Args:
            curves: (E,) weights.
            tongue: (3,) weights of the tongue; None for one that rides on the jaw.

        Raises:
            InputError: arrays of another shape, weights that are no face's, or a tongue where there is none.
        """
        weights = np.ascontiguousarray(curves, np.float32)
        if weights.shape != (self._count[1],):
            raise InputError(f"curves must have shape ({self._count[1]},), got {weights.shape}")
        moved = None if tongue is None else np.ascontiguousarray(tongue, np.float32)
        if moved is not None and self.tongue and moved.shape != (self.tongue,):
            raise InputError(f"tongue must have shape ({self.tongue},), got {moved.shape}")
        positions, normals = (np.empty((self._count[0], 3), np.float32) for _ in range(2))
        data = [_address(array) for array in (weights, moved, positions, normals)]
        check(self._library.facetalk_rig_pose_with_tongue(self._handle, *data))
        return positions, normals


class NativeStream:
    """A clip whose sound arrives bit by bit; for one thread at a time."""

    def __init__(
        self,
        model: NativeModel,
        look_ahead: float,
        steps: int | None,
        seed: int,
        guidance: float | None,
        rate: int,
        style: Style,
        *,
        pose: bool,
    ) -> None:
        self._model, self._library, self._pose = model, model._library, pose
        options = StreamOptions()
        self._library.facetalk_stream_options_default(byref(options))
        if not 0 <= seed < 2**64:
            raise InputError(f"seed must be a whole number in 0..2**64-1, got {seed}")
        # ctypes keeps the last 32 bits of a number, which may be those of a rate.
        options.sample_rate = min(max(rate, 0), 2**31 - 1)
        options.look_ahead_s, options.seed = model._ahead(look_ahead), seed
        if steps is not None and not 0 < steps < 2**31:  # 0 asks the library for the model's own
            raise InputError(f"steps must be at least 1 and no more than the model was taught, got {steps}")
        options.steps = 0 if steps is None else steps
        if guidance is not None and guidance < 0.0:  # -1 asks the library for the model's own
            raise InputError(f"guidance must lie in 0..20, got {guidance:g}")
        options.guidance = -1.0 if guidance is None else guidance
        self._handle = c_void_p()
        check(self._library.facetalk_stream_create(model._handle, byref(options), byref(self._handle)))
        sliders = StyleOptions(ctypes.sizeof(StyleOptions), **dataclasses.asdict(style))
        if not pose:
            sliders.head_motion = 0.0  # a stream whose head may be asked for keeps sound until it is
        check(self._library.facetalk_stream_set_style(self._handle, byref(sliders)))

    def __del__(self) -> None:
        """Free the handle."""
        if getattr(self, "_handle", None):
            self._library.facetalk_stream_free(self._handle)

    @property
    def latency(self) -> float:
        """Seconds from a frame's middle to when all of the sound that it needs was pushed."""
        return float(self._library.facetalk_stream_latency_s(self._handle))

    def push(self, samples: ArrayLike) -> Frames:
        """Take (n,) samples, give the frames that are ready."""
        sound = _samples(samples)
        check(self._library.facetalk_stream_push(self._handle, sound.ctypes.data, len(sound)))
        return self._pull()

    @property
    def steps(self) -> int:
        """Steps of denoising that are taken."""
        return int(self._library.facetalk_stream_steps(self._handle))

    @property
    def guidance(self) -> float:
        """Weight of classifier-free guidance."""
        return float(self._library.facetalk_stream_guidance(self._handle))

    def finish(self, progress: Callable[[int, int], None] | None = None) -> Frames:
        """The frames that were still waiting.

        Args:
            progress: told (frames done, frames in all) now and then where the whole recording was waited for;
                what it raises ends the work.
        """
        raised: list[BaseException] = []
        signals = Uninterrupted()

        def told(_user: int, done: int, frames: int) -> int:
            try:
                if progress is not None:
                    progress(done, frames)
            except BaseException as error:  # the library's frames cannot be crossed
                raised.append(error)
                return 1
            return int(signals.wanted)

        callback = PROGRESS(told)
        check(self._library.facetalk_stream_on_progress(self._handle, callback, None))
        # A signal that came while the library worked would be raised where Python begins again, which is at
        # the callback's first line, before any `try`: ctypes would print it and go on.
        try:
            with signals:
                status = self._library.facetalk_stream_finish(self._handle)
        finally:
            check(self._library.facetalk_stream_on_progress(self._handle, PROGRESS(), None))
        if raised:
            raise raised[0]
        check(status)
        return self._pull()

    def reset(self) -> None:
        """Forget all sound; the next is the start of another clip."""
        check(self._library.facetalk_stream_reset(self._handle))

    def _pull(self) -> Frames:
        ready = self._library.facetalk_stream_ready(self._handle)
        curves = np.empty((ready, len(self._model.names)), np.float32)
        contacts = np.empty((ready, len(CONTACTS)), np.float32) if self._model.tongue_names else None
        pose = np.empty((ready, len(POSE_NAMES)), np.float32) if self._pose else None
        into = FramePointers(
            ctypes.sizeof(FramePointers), _address(curves), None, _address(contacts), _address(pose)
        )
        frames = c_int64(0)
        check(self._library.facetalk_stream_pull_frames(self._handle, byref(into), ready, byref(frames)))
        given = slice(frames.value)
        return Frames(
            curves[given],
            None if contacts is None else contacts[given],
            None if pose is None else pose[given],
        )


def _address(array: Float32 | None) -> int | None:
    return None if array is None else int(array.ctypes.data)


def _samples(samples: ArrayLike) -> Float32:
    sound = np.ascontiguousarray(samples, np.float32)
    if sound.ndim != 1:
        raise InputError(f"samples must have shape (N,), got {sound.shape}")
    return sound
