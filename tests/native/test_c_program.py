"""The example in C, built with the flags that the package prints, and in C#: no Python in its process."""

import contextlib
import io
import re
import shutil
import struct
import subprocess
import tomllib
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
from csharp import BOUND, compiled, environment
from recordings import read_csv, write_wav

from facetalk import FaceTalk, get_include, get_library
from facetalk.audio.live import LiveFeatures
from facetalk.cli import main
from facetalk.data.arkit import ARKIT_NAMES
from facetalk.native import NativeModel
from facetalk.ops._extension import load

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
COMPILER = shutil.which("cc") or shutil.which("gcc")

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler on this machine")


@pytest.fixture(scope="module", params=["C", "C#"])
def program(request, tmp_path_factory):
    """The example: runs it with arguments, in C, or in C#, which says the same in everything."""
    out = tmp_path_factory.mktemp("program") / "wav_to_csv"
    if request.param == "C":
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            assert main(["--cflags", "--libs"]) == 0
        strict = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"]
        flags = text.getvalue().split()
        source = EXAMPLES / "c/wav_to_csv.c"
        subprocess.run([COMPILER, *strict, source, *flags, "-lm", "-o", out], check=True)
        command, variables = [out], None
    else:
        command = compiled(out.with_suffix(".exe"), EXAMPLES / "csharp/WavToCsv.cs", *BOUND)
        variables = environment()

    def run(*words, check=True):
        return subprocess.run([*command, *words], capture_output=True, text=True, check=check, env=variables)

    return run


@pytest.fixture(scope="module")
def recording(tmp_path_factory, speech):
    path = tmp_path_factory.mktemp("wav") / "speech.wav"
    return path, write_wav(path, speech[:48_000], 16_000)


def test_the_program_gives_what_generate_gives(program, recording, folder):
    path, samples = recording
    done = program(folder, path)
    names, rows = read_csv(done.stdout)
    face = FaceTalk.from_pretrained(device="cpu")
    motion = face.generate((samples, 16_000), seed=0)
    assert names == ["time", *face.motion_model.expression_names]
    assert np.abs(rows[:, 1:] - motion.expressions).max() < 1e-4
    assert np.abs(rows[:, 0] - (np.arange(len(rows)) + 0.5) / 25).max() < 1e-6


def test_a_recording_that_it_does_not_read_is_told_from_wrong_usage(program, folder, tmp_path):
    write_wav(tmp_path / "none.wav", np.zeros(0), 16_000)
    bytes_, cut = tmp_path / "bytes.wav", tmp_path / "cut.wav"
    soundfile.write(bytes_, np.zeros(100), 16_000, subtype="PCM_U8")
    cut.write_bytes((tmp_path / "none.wav").read_bytes()[:30])
    for words, says in (
        ([folder], "usage:"),
        ([folder, tmp_path / "no.wav"], "error: cannot open"),
        ([folder, bytes_], "not a 16-bit WAV"),
        ([folder, cut], "not a 16-bit WAV"),
        ([folder, tmp_path], "error: "),  # a folder, which C opens and C# does not
    ):
        done = program(*words, check=False)
        assert done.returncode == 2 and says in done.stderr and not done.stdout
    done = program(folder, tmp_path / "none.wav", check=False)
    assert done.returncode == 0 and done.stdout.count("\n") == 1  # names, and no frame


@pytest.mark.parametrize("channels", [1, 2])
def test_other_chunks_are_no_sound(program, recording, folder, tmp_path, channels):
    """What ffmpeg and recorders put before the sound, and editors behind it; both channels say the same."""
    path, _ = recording
    plain = program(folder, path).stdout
    with wave.open(str(path)) as file:
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2").repeat(channels).tobytes()
    chunks = [
        (b"bext", b"odd"),  # followed by a byte that fills it up
        (b"fmt ", struct.pack("<HHIIHHH", 1, channels, 16_000, 32_000 * channels, 2 * channels, 16, 0)),
        (b"LIST", b"INFOISFT\x0e\0\0\0Lavf59.27.100\0"),
        (b"data", sound),
        (b"id3 ", bytes(range(256)) * 20),
    ]
    body = b"WAVE" + b"".join(
        name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for name, data in chunks
    )
    other = tmp_path / "other.wav"
    other.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    done = program(folder, other)
    assert done.stdout == plain


PROJECT = """
cmake_minimum_required(VERSION 3.16)
project(game LANGUAGES C)
find_package(facetalk {version} REQUIRED)
add_executable(game game.c)
target_link_libraries(game PRIVATE facetalk::facetalk)
find_package(facetalk REQUIRED)
"""
GAME = """
#include <facetalk.h>
#include <stdio.h>
int main(void) { return puts(facetalk_version()) < 0; }
"""


@pytest.mark.skipif(shutil.which("cmake") is None, reason="no CMake on this machine")
def test_cmake_finds_the_package(tmp_path, capsys):
    assert main(["--cmakedir"]) == 0
    place = capsys.readouterr().out.strip()
    (tmp_path / "game.c").write_text(GAME)

    def configured(version: str) -> subprocess.CompletedProcess:
        (tmp_path / "CMakeLists.txt").write_text(PROJECT.format(version=version))
        command = ["cmake", "-S", tmp_path, "-B", tmp_path / "build", f"-Dfacetalk_DIR={place}"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    for wrong in ("1.0", "0.99", "0.2 EXACT"):
        done = configured(wrong)
        assert done.returncode != 0 and "considered but not accepted" in " ".join(done.stderr.split())
    for right in ("", "0.1", "0.1.0"):
        done = configured(right)
        assert done.returncode == 0, done.stderr
    subprocess.run(["cmake", "--build", tmp_path / "build"], check=True, capture_output=True)
    done = subprocess.run([tmp_path / "build/game"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", done.stdout)


@pytest.mark.skipif(shutil.which("cmake") is None, reason="no CMake on this machine")
def test_a_package_without_the_library_is_not_found(tmp_path):
    """As a source tree that nobody built: CMake says so, where a linker would not know what is wrong."""
    source = EXAMPLES.parent / "facetalk"
    shutil.copytree(source / "cmake", tmp_path / "facetalk/cmake")
    (tmp_path / "game.c").write_text(GAME)
    (tmp_path / "CMakeLists.txt").write_text(PROJECT.format(version=""))
    command = ["cmake", "-S", tmp_path, "-B", tmp_path / "build", f"-Dfacetalk_DIR={tmp_path}/facetalk/cmake"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "has no C library" in " ".join(done.stderr.split())


@pytest.mark.skipif(shutil.which("cmake") is None, reason="no CMake on this machine")
def test_the_library_alone_knows_its_version(tmp_path):
    """What CMake installs, the header and the package are of one version."""
    root = EXAMPLES.parent
    script = tmp_path / "script.cmake"
    script.write_text(f'include("{root}/cmake/version.cmake")\nmessage("[${{FACETALK_VERSION}}]")\n')
    done = subprocess.run(["cmake", "-P", script], capture_output=True, text=True, check=True)
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    assert done.stderr.strip() == f"[{version}]"
    assert "include(cmake/version.cmake)" in (root / "CMakeLists.txt").read_text()
    header = (root / "csrc/facetalk.h").read_text()
    told = re.findall(r"FACETALK_VERSION_M\w+ (\d+)", header)
    assert version.startswith(".".join(told) + ".")


def test_the_header_tells_what_curves_are_called(folder):
    """The names that it quotes are there, and become ARKit's as it says."""
    header = (Path(get_include()) / "facetalk.h").read_text()
    told = header[header.index("/* Name of a curve") : header.index("facetalk_model_curve_name(const")]
    names = list(NativeModel(folder).names)
    quoted = re.findall(r'"(\w+)"', told)
    assert {"browInnerUp_L", "cheekPuff_L", "mouthSmile_L"} <= set(quoted) <= set(names)
    arkit = {re.sub("_R$", "Right", re.sub("_L$", "Left", name)) for name in names}
    halves = {half + side for half in ("browInnerUp", "cheekPuff") for side in ("Left", "Right")}
    assert arkit - halves == set(ARKIT_NAMES) - {"browInnerUp", "cheekPuff", "tongueOut"}


def test_live_it_gives_what_the_reference_gives(program, recording, folder):
    path, samples = recording
    done = program(folder, path, "0.2")
    face = FaceTalk.from_pretrained(device="cpu")
    live = LiveFeatures(face.audio_encoder, 25.0, 0.2)
    features = np.concatenate([live.push(samples).numpy(), live.finish().numpy()])
    expected = face.motion_model.sample(features, seed=0)
    assert np.abs(read_csv(done.stdout)[1][:, 1:] - expected).max() < 1e-4


def test_what_is_wrong_is_said_in_one_line(program, recording, tmp_path):
    done = program(tmp_path, recording[0], check=False)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_the_library_needs_libc_and_libm_alone_and_exports_c_functions_alone():
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("no readelf on this machine")
    about = subprocess.run([readelf, "-dW", get_library()], capture_output=True, text=True, check=True).stdout
    assert re.search(r"SONAME.*\[libfacetalk\.so\.0\]", about)
    needed = set(re.findall(r"NEEDED.*\[([\w+-]+)\.so", about))
    of_cuda = {"libdl", "librt"} if load().build_info()["cuda_archs"] else set()  # its runtime is linked in
    assert needed <= {"libc", "libm", "ld-linux-x86-64", "libpthread"} | of_cuda
    table = subprocess.run(
        [readelf, "-sDW", get_library()], capture_output=True, text=True, check=True
    ).stdout
    exported = [line.split()[-1] for line in table.splitlines() if " GLOBAL " in line and " UND " not in line]
    assert sorted(exported) == sorted(declared()) and len(exported) > 35


@pytest.mark.parametrize(
    ("language", "standard", "names"), [("c", "c99", ("cc", "gcc")), ("c++", "c++17", ("c++",))]
)
def test_the_contract_compiles(tmp_path, language, standard, names):
    """Every prototype, as an engine's code would take it; a changed one is a compiler's error."""
    compiler = next(filter(None, map(shutil.which, names)), None)
    if compiler is None:
        pytest.skip(f"no {names[0]} on this machine")
    source = tmp_path / "contract.c"
    source.write_text(CONTRACT)
    flags = [
        f"-std={standard}",
        "-Wall",
        "-Wextra",
        "-pedantic",
        "-Werror",
        f"-I{get_include()}",
        "-fsyntax-only",
    ]
    subprocess.run([compiler, *flags, "-x", language, source], check=True)


def test_the_contract_has_every_function():
    assert sorted(re.findall(r"=\s*(facetalk_\w+);", CONTRACT)) == sorted(declared())


def declared():
    """Functions of the header."""
    text = Path(get_include(), "facetalk.h").read_text()
    return re.findall(r"^FACETALK_API .*?\b(facetalk_\w+)\(", text, re.M)


CONTRACT = """
#include "facetalk.h"
typedef facetalk_status st;
const char *(*a)(void) = facetalk_version;
const char *(*b)(void) = facetalk_last_error;
st (*c)(const char *, facetalk_model **) = facetalk_model_load;
void (*d)(facetalk_model *) = facetalk_model_free;
double (*e)(const facetalk_model *) = facetalk_model_fps;
int32_t (*f)(const facetalk_model *) = facetalk_model_curve_count;
const char *(*g)(const facetalk_model *, int32_t) = facetalk_model_curve_name;
facetalk_stream_options options = {sizeof(facetalk_stream_options), 16000, 0, 0.2, 1.0, (uint64_t)0};
facetalk_style style = {sizeof(facetalk_style), 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0};
void (*style_default)(facetalk_style *, size_t) = facetalk_style_default;
st (*set_style)(facetalk_stream *, const facetalk_style *) = facetalk_stream_set_style;
void (*h)(facetalk_stream_options *) = facetalk_stream_options_default;
st (*i)(const facetalk_model *, const facetalk_stream_options *, facetalk_stream **) = facetalk_stream_create;
st (*j)(facetalk_stream *, const float *, size_t) = facetalk_stream_push;
st (*k)(facetalk_stream *) = facetalk_stream_finish;
int64_t (*l)(const facetalk_stream *) = facetalk_stream_ready;
st (*m)(facetalk_stream *, float *, int64_t, int64_t *) = facetalk_stream_pull;
st (*n)(facetalk_stream *) = facetalk_stream_reset;
double (*o)(const facetalk_stream *) = facetalk_stream_latency_s;
void (*p)(facetalk_stream *) = facetalk_stream_free;
st (*q)(const facetalk_model *, const float *, int32_t, facetalk_rig **) = facetalk_rig_create;
int64_t (*r)(const facetalk_rig *) = facetalk_rig_vertex_count;
int64_t (*s)(const facetalk_rig *) = facetalk_rig_face_count;
const int32_t *(*t)(const facetalk_rig *) = facetalk_rig_faces;
st (*u)(const facetalk_rig *, const float *, float *, float *) = facetalk_rig_pose;
void (*v)(facetalk_rig *) = facetalk_rig_free;
st (*w)(const float *, int64_t, int64_t, int64_t, float, facetalk_mesh **) = facetalk_marching_cubes;
st (*x)(const char *, facetalk_field **) = facetalk_field_load;
st (*y)(facetalk_field *, const float *, int32_t) = facetalk_field_bind;
st (*z)(const facetalk_field *, const float *, int32_t, int32_t, const float *, float, facetalk_mesh **) =
    facetalk_field_extract;
void (*aa)(facetalk_field *) = facetalk_field_free;
int64_t (*ab)(const facetalk_mesh *) = facetalk_mesh_vertex_count;
int64_t (*ac)(const facetalk_mesh *) = facetalk_mesh_face_count;
const float *(*ad)(const facetalk_mesh *) = facetalk_mesh_vertices;
const int32_t *(*ae)(const facetalk_mesh *) = facetalk_mesh_faces;
void (*af)(facetalk_mesh *) = facetalk_mesh_free;
int32_t (*ag)(const facetalk_model *) = facetalk_model_tongue_count;
const char *(*ah)(const facetalk_model *, int32_t) = facetalk_model_tongue_name;
st (*ai)(const facetalk_model *, const float *, const float *, int64_t, float *) =
    facetalk_model_tongue_weights;
facetalk_frames frames = {sizeof(facetalk_frames), (float *)0, (float *)0, (float *)0, (float *)0};
st (*aj)(facetalk_stream *, const facetalk_frames *, int64_t, int64_t *) = facetalk_stream_pull_frames;
int32_t (*ak)(const facetalk_rig *) = facetalk_rig_tongue_count;
st (*al)(const facetalk_rig *, const float *, const float *, float *, float *) =
    facetalk_rig_pose_with_tongue;
st (*am)(int32_t) = facetalk_set_threads;
void *allocate(void *user, size_t size);
void release(void *user, void *memory);
void log_line(void *user, int32_t level, const char *text);
facetalk_options brought = {sizeof(facetalk_options), allocate, release, (void *)0, log_line, (void *)0,
                            FACETALK_DEVICE_CUDA, 0};
void (*an)(facetalk_options *) = facetalk_options_default;
st (*ao)(const char *, const facetalk_options *, facetalk_model **) = facetalk_model_load_with;
int32_t on_progress(void *user, int64_t done, int64_t frames);
facetalk_progress progress = on_progress;
st (*ap)(facetalk_stream *, facetalk_progress, void *) = facetalk_stream_on_progress;
int32_t (*aq)(const facetalk_stream *) = facetalk_stream_steps;
double (*ar)(const facetalk_stream *) = facetalk_stream_guidance;
int32_t (*as)(const facetalk_model *) = facetalk_model_feature_count;
st (*at)(const facetalk_model *, const float *, size_t, double, float *, int64_t *) = facetalk_model_features;
st (*au)(uint64_t, uint32_t, int64_t, int64_t, int32_t, float *) = facetalk_frame_noise;
st (*av)(const float *, int64_t, int64_t, int64_t, float, const facetalk_options *, facetalk_mesh **) =
    facetalk_marching_cubes_with;
st (*aw)(const char *, const facetalk_options *, facetalk_field **) = facetalk_field_load_with;
st (*ax)(facetalk_field *, int32_t) = facetalk_field_set_precision;
int32_t (*ay)(const facetalk_field *) = facetalk_field_identity_count;
int32_t (*az)(const facetalk_field *) = facetalk_field_expression_count;
st (*ba)(const facetalk_field *, const float *, int32_t, const float *, int64_t, float *) =
    facetalk_field_query;
st (*bb)(facetalk_model *, const char *) = facetalk_model_use_whisper;
"""
