"""Synthetic speech with exact phone times: espeak-ng and flite through their C libraries, festival in
batches.

espeak-ng comes from PyPI (``pip install espeakng-loader``) or the system; flite and festival from the
system's packages. Each class raises :class:`~facetalk.errors.InputError` with the command to install what is
missing. The sound that a synthesizer makes is not a derived work of its program: espeak-ng is GPL, its output
is free to use.
"""

from __future__ import annotations

import ctypes as c
import ctypes.util
import dataclasses
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from facetalk.arrays import Float32
from facetalk.data.phones import Phone, merge_silence
from facetalk.errors import InputError, NotInstalledError
from facetalk.units import SAMPLE_RATE

FLITE_VOICES = ("slt", "rms", "awb", "kal16")
FESTIVAL_VOICES = {"kal": "voice_kal_diphone", "ked": "voice_ked_diphone"}

_STOPS = ("p", "b", "t", "d", "k", "ɡ", "g", "tʃ", "dʒ", "ts", "dz", "pʲ", "bʲ", "tʲ", "dʲ", "kʲ")


@dataclasses.dataclass(frozen=True)
class Speech:
    """Synthesised speech: (N,) float32 samples at 16 kHz, phones with times in seconds, and their
    alphabet."""

    samples: Float32
    phones: list[Phone]
    alphabet: str


class _EspeakName(c.Union):
    _fields_ = [("number", c.c_int), ("name", c.c_char_p), ("string", c.c_char * 8)]


class _EspeakEvent(c.Structure):
    """``espeak_EVENT`` of espeak-ng's speak_lib.h."""

    _fields_ = [
        ("type", c.c_int), ("uid", c.c_uint), ("text_position", c.c_int), ("length", c.c_int),
        ("audio_position", c.c_int), ("sample", c.c_int), ("user_data", c.c_void_p), ("id", _EspeakName),
    ]  # fmt: skip


_ESPEAK_CALLBACK = c.CFUNCTYPE(c.c_int, c.POINTER(c.c_short), c.c_int, c.POINTER(_EspeakEvent))
_ESPEAK_PHONEME = 7  # espeakEVENT_PHONEME


class Espeak:
    """espeak-ng with IPA phone events. The library has one global state, so there is one instance: use
    :func:`espeak`."""

    def __init__(self) -> None:
        library, data = _find_espeak()
        self._lib = library
        # 2 = AUDIO_OUTPUT_SYNCHRONOUS; 1|2 = phoneme events with IPA names, 0x8000 = do not exit on errors.
        self._rate = int(library.espeak_Initialize(2, 0, data, 1 | 2 | 0x8000))
        if self._rate <= 0:
            raise NotInstalledError(
                "espeak-ng was found but cannot start (its data files are missing); pip install "
                "espeakng-loader"
            )
        self._pcm: list[npt.NDArray[np.int16]] = []
        self._events: list[tuple[str, int]] = []
        self._callback = _ESPEAK_CALLBACK(self._receive)
        library.espeak_SetSynthCallback(self._callback)

    def _receive(self, wave: Any, count: int, events: Any) -> int:
        if wave and count > 0:
            self._pcm.append(np.ctypeslib.as_array(wave, (count,)).copy())
        i = 0
        while events[i].type != 0:
            if events[i].type == _ESPEAK_PHONEME:
                raw = c.string_at(c.addressof(events[i]) + _EspeakEvent.id.offset, 8).split(b"\0")[0]
                self._events.append((raw.decode("utf-8", "ignore"), int(events[i].sample)))
            i += 1
        return 0

    def say(self, text: str, voice: str = "en-us", *, rate: int = 160, pitch: int = 50) -> Speech:
        """Speak ``text``.

        Args:
            text: what to say.
            voice: espeak-ng voice, a language with an optional variant (``"en-us+f3"``).
            rate: words a minute.
            pitch: 0 to 99.

        Raises:
            InputError: there is no such voice.
        """
        if self._lib.espeak_SetVoiceByName(voice.encode()) != 0:
            raise InputError(f"espeak-ng has no voice {voice!r}; see `espeak-ng --voices`")
        for parameter, value in ((1, rate), (2, 100), (3, pitch), (4, 50)):
            self._lib.espeak_SetParameter(parameter, value, 0)
        self._pcm, self._events = [], []
        data = text.encode() + b"\0"
        self._lib.espeak_Synth(data, c.c_size_t(len(data)), 0, 0, 0, 1, None, None)
        self._lib.espeak_Synchronize()
        pcm = np.concatenate(self._pcm) if self._pcm else np.zeros(1, np.int16)
        starts = [sample for _, sample in self._events] + [len(pcm)]
        phones = [
            (name.replace("ˈ", "").replace("ˌ", ""), starts[i] / self._rate, starts[i + 1] / self._rate)
            for i, (name, _) in enumerate(self._events)
            if not name.startswith("(")  # a switch of language, not a phone
        ]
        wave = pcm.astype(np.float32) / 32768.0
        phones = _add_closures([p for p in phones if p[2] > p[1]], wave, self._rate)
        samples = soxr.resample(wave, self._rate, SAMPLE_RATE).astype(np.float32)
        length = len(samples) / SAMPLE_RATE
        phones = [(name, start, min(end, length)) for name, start, end in phones if start < length]
        return Speech(samples, merge_silence(phones, alphabet="ipa"), "ipa")


_ESPEAK: list[Espeak] = []


def espeak() -> Espeak:
    """The process's espeak-ng.

    Raises:
        InputError: espeak-ng is not installed.
    """
    if not _ESPEAK:
        _ESPEAK.append(Espeak())
    return _ESPEAK[0]


def _find_espeak() -> tuple[c.CDLL, bytes | None]:
    try:
        import espeakng_loader
    except ImportError:
        name = ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1"
        data = None
    else:
        name = espeakng_loader.get_library_path()
        data = str(espeakng_loader.get_data_path()).encode()
    try:
        return c.CDLL(name), data
    except OSError as error:
        raise NotInstalledError(
            "espeak-ng is not installed; `pip install espeakng-loader` (or `apt-get install libespeak-ng1`)"
        ) from error


def _add_closures(phones: Sequence[Phone], wave: Float32, rate: int) -> list[Phone]:
    """Move the start of stops back over their closure.

    espeak-ng's event of a stop is its burst; the closure before it, in which the lips of p and b are shut, is
    booked on the phone before. It is the run of 5 ms frames below -50 dBFS (at most 0.12 s), or 35 ms where
    there is none (measured against forced alignment).
    """
    hop = int(0.005 * rate)
    frames = len(wave) // hop
    level = 10.0 * np.log10((wave[: frames * hop].reshape(frames, hop) ** 2).mean(axis=1) + 1e-10)
    out: list[Phone] = []
    for name, start, end in phones:
        if name in _STOPS and out:
            burst = first = int(start / 0.005)
            while 0 < first <= frames and level[first - 1] < -50.0 and (burst - first) * 0.005 < 0.12:
                first -= 1
            moved = first * 0.005 if burst - first >= 2 else start - 0.035
            previous = out[-1]
            silent = previous[0] == "" or previous[0].startswith("_")
            start = max(moved, previous[1] + (0.0 if silent else 0.02))
            out[-1] = (previous[0], previous[1], min(previous[2], max(start, previous[1])))
        out.append((name, max(0.0, start), end))
    return out


class _FliteWave(c.Structure):
    """``cst_wave`` of flite's cst_wave.h."""

    _fields_ = [
        ("type", c.c_char_p), ("sample_rate", c.c_int), ("num_samples", c.c_int), ("num_channels", c.c_int),
        ("samples", c.POINTER(c.c_short)),
    ]  # fmt: skip


# flite keeps the pointers of feature names, so they live as long as the process.
_FLITE_KEYS = {k: c.create_string_buffer(k.encode()) for k in ("duration_stretch", "int_f0_target_mean")}


class Flite:
    """flite 2.2 with its 16 kHz voices ``slt``, ``rms``, ``awb`` (statistical) and ``kal16`` (diphones).

    Raises:
        InputError: flite is not installed.
    """

    def __init__(self) -> None:
        try:
            lib = self._lib = c.CDLL("libflite.so.1", c.RTLD_GLOBAL)
            for name in ("libflite_usenglish.so.1", "libflite_cmulex.so.1"):
                c.CDLL(name, c.RTLD_GLOBAL)
        except OSError as error:
            raise NotInstalledError(
                "flite is not installed; `apt-get install flite` or leave its voices out"
            ) from error
        pointer = c.c_void_p
        signatures: tuple[tuple[str, Any, list[Any]], ...] = (
            ("flite_synth_text", pointer, [c.c_char_p, pointer]),
            ("utt_wave", c.POINTER(_FliteWave), [pointer]),
            ("utt_relation", pointer, [pointer, c.c_char_p]),
            ("relation_head", pointer, [pointer]),
            ("item_next", pointer, [pointer]),
            ("item_feat_string", c.c_char_p, [pointer, c.c_char_p]),
            ("item_feat_float", c.c_float, [pointer, c.c_char_p]),
            ("delete_utterance", None, [pointer]),
            ("feat_set", None, [pointer, c.c_char_p, pointer]),
            ("float_val", pointer, [c.c_float]),
        )
        for name, result, arguments in signatures:
            function = getattr(lib, name)
            function.restype, function.argtypes = result, arguments
        lib.flite_init()
        self._voices: dict[str, Any] = {}

    def _voice(self, name: str) -> Any:
        if name not in FLITE_VOICES:
            raise InputError(f"flite has no voice {name!r}; known are {', '.join(FLITE_VOICES)}")
        if name not in self._voices:
            full = f"cmu_us_{name}"
            register = getattr(c.CDLL(f"libflite_{full}.so.1", c.RTLD_GLOBAL), f"register_{full}")
            register.restype, register.argtypes = c.c_void_p, [c.c_char_p]
            self._voices[name] = register(None)
        return self._voices[name]

    def say(
        self, text: str, voice: str = "slt", *, stretch: float = 1.0, pitch_hz: float | None = None
    ) -> Speech:
        """Speak ``text`` (ASCII) with durations times ``stretch`` and a mean pitch in Hz."""
        handle, lib = self._voice(voice), self._lib
        # struct cst_voice { const char *name; cst_features *features; ... } of cst_voice.h
        features = c.c_void_p.from_address(handle + c.sizeof(c.c_void_p)).value
        for key, value in (("duration_stretch", stretch), ("int_f0_target_mean", pitch_hz)):
            if value is not None:
                lib.feat_set(features, _FLITE_KEYS[key], lib.float_val(float(value)))
        utterance = lib.flite_synth_text(text.encode("ascii", "ignore"), handle)
        wave = lib.utt_wave(utterance).contents
        pcm = np.ctypeslib.as_array(wave.samples, (wave.num_samples,)).astype(np.float32) / 32768.0
        rate = int(wave.sample_rate)
        item = lib.relation_head(lib.utt_relation(utterance, b"Segment"))
        phones: list[Phone] = []
        start, length = 0.0, len(pcm) / rate
        while item:
            end = float(lib.item_feat_float(item, b"end"))
            # kal16 cuts the last pause short; the other boundaries are right as they are, so clip, do not
            # rescale.
            if start < length:
                phones.append((lib.item_feat_string(item, b"name").decode(), start, min(end, length)))
            start, item = end, lib.item_next(item)
        lib.delete_utterance(utterance)
        if rate != SAMPLE_RATE:
            pcm = soxr.resample(pcm, rate, SAMPLE_RATE).astype(np.float32)
        return Speech(pcm, merge_silence(phones, alphabet="arpabet"), "arpabet")


_FESTIVAL_PROGRAM = """(define (facetalk_say name voice text stretch)
 (eval (list voice)) (Parameter.set 'Duration_Stretch stretch)
 (let ((utt (utt.synth (eval (list 'Utterance 'Text text)))))
  (utt.save.wave utt (string-append name ".wav") 'riff) (utt.save.segs utt (string-append name ".lab"))))
"""


def festival(jobs: Iterable[tuple[str, str, float]]) -> list[Speech]:
    """Speak many texts in one festival process.

    Args:
        jobs: ``(text, voice, stretch)`` with a voice of :data:`FESTIVAL_VOICES`.

    Raises:
        InputError: festival or its voice is not installed.
    """
    jobs = list(jobs)
    with tempfile.TemporaryDirectory() as scratch:
        lines = [_FESTIVAL_PROGRAM]
        for i, (text, voice, stretch) in enumerate(jobs):
            clean = text.replace("\\", "").replace('"', "")
            lines.append(f'(facetalk_say "{scratch}/{i}" \'{FESTIVAL_VOICES[voice]} "{clean}" {stretch:.4f})')
        program = Path(scratch) / "jobs.scm"
        program.write_text("\n".join(lines))
        hint = "`apt-get install festival festvox-kallpc16k festvox-kdlpc16k` or leave its voices out"
        try:
            subprocess.run(["festival", "-b", str(program)], check=True, capture_output=True, timeout=3600)
        except FileNotFoundError as error:
            raise NotInstalledError(f"festival is not installed; {hint}") from error
        except subprocess.CalledProcessError as error:
            raise NotInstalledError(  # festival is there, its voices are not
                f"festival failed ({error.stderr.decode(errors='replace')[:80]!r}); {hint}"
            ) from error
        return [_read_festival(Path(scratch) / str(i)) for i in range(len(jobs))]


def _read_festival(stem: Path) -> Speech:
    samples, rate = soundfile.read(stem.with_suffix(".wav"), dtype="float32")
    if rate != SAMPLE_RATE:
        samples = soxr.resample(samples, rate, SAMPLE_RATE).astype(np.float32)
    length = len(samples) / SAMPLE_RATE
    phones: list[Phone] = []
    body = stem.with_suffix(".lab").read_text().split("#", 1)[1]
    start = 0.0
    for line in body.strip().splitlines():
        end_text, _, name = line.split()[:3]
        end = min(float(end_text), length)
        phones.append((name, start, end))
        start = end
    return Speech(samples, merge_silence(phones, alphabet="arpabet"), "arpabet")
