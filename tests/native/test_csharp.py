"""The C library from C#: examples/unity/Runtime without Unity, beside the header that it is written from."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from csharp import BOUND, ROOT, RUNTIME, compiled, environment
from recordings import read_csv, write_wav

from facetalk import get_include, get_library
from facetalk.cli import main
from facetalk.frames import Frames
from facetalk.native import NativeModel
from facetalk.style import Style

CHECKS = Path(__file__).parent / "csharp/StreamChecks.cs"
LIVE = [RUNTIME / "FaceTalkSound.cs", RUNTIME / "FaceTalkLive.cs"]
COMPILER = shutil.which("cc") or shutil.which("gcc")
needs_c = pytest.mark.skipif(COMPILER is None, reason="no C compiler on this machine")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    command = compiled(tmp_path_factory.mktemp("checks") / "checks.exe", CHECKS, *BOUND, *LIVE)

    def run(folder, *words, library=None):
        done = subprocess.run(
            [*command, folder, *words], capture_output=True, text=True, env=environment(library)
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@needs_c
def test_a_recording_gives_the_rows_of_the_program_in_c(tmp_path, folder, capsys):
    """The whole demo, heard whole and live: what is printed differs by the last digit at most."""
    assert main(["--cflags", "--libs"]) == 0
    flags = capsys.readouterr().out.split()
    source = ROOT / "examples/c/wav_to_csv.c"
    subprocess.run([COMPILER, source, *flags, "-lm", "-o", tmp_path / "c"], check=True)
    csharp = compiled(tmp_path / "cs.exe", ROOT / "examples/csharp/WavToCsv.cs", *BOUND)
    sound, rate = soundfile.read(ROOT / "examples/demo.flac", dtype="float32")
    write_wav(tmp_path / "demo.wav", sound, rate)
    for more in ([], ["0.1"]):
        words = [folder, tmp_path / "demo.wav", *more]
        told = [
            subprocess.run([*command, *words], capture_output=True, text=True, check=True, env=environment())
            for command in ([tmp_path / "c"], csharp)
        ]
        (names, rows), (other_names, other) = (read_csv(done.stdout) for done in told)
        assert names == other_names and rows.shape == other.shape == (247, 54)
        assert np.abs(rows - other).max() <= 1.01e-6
    wrong = subprocess.run([*csharp, *words[:2], "soon"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2 and wrong.stderr.startswith("usage: ")


def test_the_page_says_what_works(program, tmp_path, folder, speech):
    """The commands of docs/embedding.md, in a folder with a recording: a program, and a project."""
    text = (ROOT / "docs/embedding.md").read_text().partition("### C# and Unity")[2].partition("\n##")[0]
    commands = re.findall(r"^ {4}(\w.*)$", text, re.M)
    assert [command.split()[0] for command in commands] == ["mcs", "export", "mono", "mkdir", "cp", "cp"]
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    write_wav(tmp_path / "speech.wav", speech[:16_000], 16_000)
    variables = {**environment(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    script = "\n".join(["set -e", *commands])
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, env=variables
    )
    assert done.returncode == 0, done.stderr
    names, rows = read_csv(done.stdout)
    assert names == ["time", *NativeModel(folder).names] and len(rows) == 25
    project = tmp_path / "Game/Assets"
    loaded = program(project / "StreamingAssets/facetalk", "load", library=project / "Plugins/x86_64")
    assert loaded == "load: fine\n"


def test_frames_are_those_of_python(program, tmp_path, folder, speech):
    """Curves, tongue and pose with sliders, of another rate, in arrays of different room."""
    sound = speech[:48_000].astype("<f4")
    sound.tofile(tmp_path / "sound.f32")
    steps, latency, fps, *names = program(
        folder, "frames", tmp_path / "sound.f32", tmp_path / "frames.f32"
    ).split()
    model = NativeModel(folder)
    style = Style(smile=0.5, head_motion=1.5)
    stream = model.stream(rate=48_000, steps=1, pose=True, style=style)
    curves, contacts, pose = Frames.joined([stream.push(sound), stream.finish()])
    assert contacts is not None and pose is not None and np.ptp(pose[:, 0]) > 0.01
    expected = np.hstack([curves, model.tongue_weights(contacts, curves), pose])
    found = np.fromfile(tmp_path / "frames.f32", "<f4").reshape(-1, expected.shape[1])
    assert found.shape == expected.shape and np.abs(found - expected).max() < 1e-6
    assert names == [*model.names, "tongueUp", "tongueForward", "tongueOut"]
    assert (int(steps), float(fps), float(latency)) == (1, 25.0, stream.latency)


ERRORS = {
    "no model": "BadFile: {folder}/nothing/ä/audio/config.json: no such file, or it cannot be read (a",
    "null model": "ArgumentNullException: ",
    "zero in path": "ArgumentException: a path with a zero",
    "no listener": "BadFile: {folder}/whisper/listener.safetensors: no such file",
    "no such listener": "BadFile: {folder}/ä: no such file",
    "zero in listener": "ArgumentException: a path with a zero",
    "rate": "Invalid: sample_rate: expected 1000 to 768000 Hz, got 10",
    "look-ahead": "Invalid: look_ahead_s: ",
    "zeros": "Invalid: sample_rate: ",
    "live without end": "ArgumentException: ",
    "style": "Invalid: smile: expected -1 to 1, got 7",
    "not finite": "Invalid: samples: value 1 is not finite",
    "null sound": "ArgumentNullException: ",
    "beyond": "ArgumentOutOfRangeException: 3 samples from 2 on, of 4",
    "before": "ArgumentOutOfRangeException: 3 samples from -1 on, of 4",
    "no room": "ArgumentException: has room for 3 values, a frame has 53",
    "no pose room": "ArgumentException: has room for 5 values, a frame has 6",
    "nothing asked": "Invalid: into: asks for nothing",
    "late style": "WrongState: the clip has begun",
    "late pose": "WrongState: pose: ",
    "after the end": "WrongState: the sound was finished; reset the stream",
    "disposed push": "ObjectDisposedException: ",
    "disposed pull": "ObjectDisposedException: ",
    "disposed ready": "ObjectDisposedException: ",
    "disposed model": "ObjectDisposedException: ",
}


def test_what_is_wrong_is_an_exception_that_says_so(program, folder):
    told = dict(line.split(": ", 1) for line in program(folder, "errors").splitlines())
    assert list(told) == list(ERRORS)
    for name, says in ERRORS.items():
        assert told[name].startswith(says.format(folder=folder)), f"{name}: {told[name]}"


def test_streams_outlive_their_model_and_nobody_has_to_dispose(program, folder):
    lines = program(folder, "order").splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("frames 25", "collected", 22)


def test_frames_make_no_garbage(program, folder):
    found = re.fullmatch(r"garbage 0 frames (\d+)\n", program(folder, "garbage"))
    assert found and int(found[1]) > 50


def test_who_is_late_goes_on_with_the_newest_sound(program, folder):
    """And hears no NaN of a filter that went astray; sound that it is not to delay is left alone."""
    overruns, pending, behind, largest, delay = map(float, program(folder, "late").split())
    assert (overruns, pending) == (1, 0) and 0.1 < largest <= 1
    assert behind == pytest.approx(-0.02, abs=1e-9) and 0.29 <= delay < 0.3


OLD = """
#include <stddef.h>
const char *facetalk_version(void) { return "0.0.9"; }
"""
SMALL = """
void facetalk_style_default(size_t *style, size_t size) { *style = size - 8; }
"""


@needs_c
@pytest.mark.parametrize(
    ("source", "says"),
    [
        (None, "was not found: copy libfacetalk.so"),
        (OLD, "is older than its C# files"),
        (OLD + SMALL, "0.0.9 is older than its C# files"),
    ],
)
def test_a_library_that_is_missing_or_old_is_said_so(program, folder, tmp_path, source, says):
    if source is not None:
        (tmp_path / "old.c").write_text(source)
        build = [COMPILER, "-shared", "-fPIC", tmp_path / "old.c", "-o", tmp_path / "libfacetalk.so"]
        subprocess.run(build, check=True)
    told = program(folder, "load", library=tmp_path)
    assert told.startswith("load: NoLibrary: ") and says in told and told.count("\n") == 1


LAYOUT = """
#include <facetalk.h>
#include <stdio.h>
#define AT(type, field) printf(" %zu", offsetof(type, field));
int main(void) {
"""


@needs_c
def test_structs_and_statuses_are_those_of_the_header(program, folder, tmp_path):
    header = (Path(get_include()) / "facetalk.h").read_text()
    lines, mirrored = [LAYOUT], {
        "facetalk_stream_options": "FaceTalkStreamOptions",
        "facetalk_style": "FaceTalkStyle",
        "facetalk_frames": "NativeFrames",
    }  # fmt: skip
    for name, mirror in mirrored.items():
        body = header[: header.index(f"}} {name};")].rpartition("typedef struct {")[2]
        fields = re.findall(r"(\w+);", re.sub(r"/\*.*?\*/", "", body, flags=re.S))
        lines.append(f'printf("{mirror} %zu", sizeof({name}));')
        lines += [f"AT({name}, {field})" for field in fields] + ['puts("");']
    (tmp_path / "layout.c").write_text("\n".join([*lines, "return 0; }"]))
    out = tmp_path / "layout"
    subprocess.run([COMPILER, f"-I{get_include()}", tmp_path / "layout.c", "-o", out], check=True)
    expected = subprocess.run([out], capture_output=True, text=True, check=True).stdout.splitlines()
    told = program(folder, "layout").splitlines()
    assert told[: len(mirrored)] == expected
    body = header[header.index("FACETALK_OK = 0") :].partition("};")[0]
    statuses = {name.title().replace("_", ""): value
                for name, value in re.findall(r"FACETALK_(\w+) = (\d+)", body)}  # fmt: skip
    assert dict(line.split() for line in told[len(mirrored) :]) == {**statuses, "NoLibrary": "-1"}


KINDS = {
    "facetalk_status": {"int"}, "void": {"void"}, "double": {"double"}, "int32_t": {"int"},
    "int64_t": {"long"}, "size_t": {"UIntPtr"}, "int64_t*": {"out long"},
    "const char*": {"IntPtr", "byte[]"}, "const float*": {"IntPtr"},
    # Whoever frees is the handle itself, and has its address.
    "const facetalk_model*": {"ModelHandle"}, "facetalk_model*": {"ModelHandle", "IntPtr"},
    "facetalk_model**": {"out IntPtr"},
    "const facetalk_stream*": {"StreamHandle"}, "facetalk_stream*": {"StreamHandle", "IntPtr"},
    "facetalk_stream**": {"out IntPtr"},
    "facetalk_stream_options*": {"out FaceTalkStreamOptions"},
    "const facetalk_stream_options*": {"ref FaceTalkStreamOptions"},
    "facetalk_style*": {"out FaceTalkStyle"}, "const facetalk_style*": {"ref FaceTalkStyle"},
    "const facetalk_frames*": {"ref NativeFrames"},
}  # fmt: skip


def test_every_function_is_declared_as_in_the_header():
    """Nothing else would: a wrong argument in C# is a crash at run time, or worse."""

    def declared(text: str, pattern: str) -> dict[str, list[str]]:
        found = {}
        for result, name, arguments in re.findall(pattern, " ".join(text.split())):
            kinds = [
                re.sub(r"\s*\b\w+$", "", word.strip())
                for word in arguments.split(",")
                if word.strip() != "void"
            ]
            found[name] = [result, *(kind for kind in kinds if kind)]
        return found

    header = declared(
        (Path(get_include()) / "facetalk.h").read_text(), r"FACETALK_API ([^;(]*?) ?(facetalk_\w+)\((.*?)\);"
    )
    bound = declared(BOUND[0].read_text(), r"Cdecl\)\] public static extern (\w+) (facetalk_\w+)\((.*?)\);")
    assert len(bound) > 15 and set(bound) <= set(header)
    for name, kinds in bound.items():
        assert len(kinds) == len(header[name]), name
        for kind, theirs in zip(kinds, header[name], strict=True):
            assert kind in KINDS[theirs], f"{name}: {theirs} is {kind}"
    assert BOUND[0].read_text().count("DllImport(Library") == len(bound)
    assert Path(get_library()).name == "libfacetalk.so"  # "facetalk" on every system
