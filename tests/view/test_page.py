"""The page in a real browser: a file, a recording and a microphone to moving lips; what it says of errors."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from chromium import PROGRAM, Chromium, wait_for
from PIL import Image
from scipy.spatial.transform import Rotation

from facetalk.errors import NotInstalledError
from facetalk.mesh.export import export
from facetalk.mesh.tongue import TONGUE_NAMES
from facetalk.motion import Motion
from facetalk.pipeline import FaceTalk
from facetalk.style import RANGES
from facetalk.view.files import page_files

try:
    page_files()
    MISSING = "" if PROGRAM else "no Chromium (apt install chromium)"
except NotInstalledError:
    MISSING = "this build has no three.js"

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)
DEMO = Path(__file__).resolve().parents[2] / "examples/demo.flac"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of speech."""
    sound, rate = soundfile.read(DEMO, dtype="int16", start=16_000, frames=32_000)
    path = tmp_path_factory.mktemp("clip") / "clip.wav"
    soundfile.write(path, sound, rate)
    return path


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    import json

    from facetalk.view.files import File
    from facetalk.view.server import ViewServer
    from facetalk.view.speaker import Speaker

    speaker = Speaker(FaceTalk.from_pretrained("default", "cpu"), tmp_path_factory.mktemp("view"))
    about = {**speaker.describe(), "names": speaker.names, "given": {}}
    files = {**page_files(), "/model.json": File(json.dumps(about).encode(), "application/json"),
             "/head.glb": File(speaker.head, "model/gltf-binary")}  # fmt: skip
    server = ViewServer("127.0.0.1", 0)
    server.start(files, speaker)
    yield server.url
    server.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, clip: Path, url: str) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("chromium"), microphone=clip, size=(480, 400)) as there:
        there.open(url)
        there.until("globalThis.facetalk && !facetalk.state.busy")
        yield there


def status(browser: Chromium) -> str:
    return browser.run("document.querySelector('#status').textContent")


def stage(browser: Chromium) -> np.ndarray:
    """The part of the picture where the head is."""
    browser.run("new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))")
    picture = Image.open(io.BytesIO(browser.picture())).convert("L")
    return np.asarray(picture, np.float32)[: picture.height // 2]


def test_the_head_is_there_and_nothing_was_refused(browser: Chromium) -> None:
    assert status(browser) == "Ready. Open a file, or speak."
    assert np.ptp(stage(browser)) > 100.0, "a head on a dark ground"
    refused = [
        line for line in browser.said if "Content Security Policy" in line or "exception" in line.lower()
    ]
    assert refused == []


def test_live_weights_turn_the_eyes(browser: Chromium) -> None:
    """By what the nodes of the file say, since weights come without an animation."""
    names = browser.run("Object.keys(facetalk.weights())")
    model = FaceTalk.from_pretrained("default", "cpu")
    weights = np.random.default_rng(0).random((1, len(names))).astype(np.float32)
    rig = model.decode(Motion(weights[:, :-3], 25.0, tongue=weights[:, -3:]), temporal_sigma=0)
    assert list(rig.names) == names
    before = stage(browser)
    browser.run(f"facetalk.show({names}, {weights[0].tolist()})")
    found = Rotation.from_quat(browser.run("facetalk.eyes()")).as_rotvec()
    np.testing.assert_allclose(found, [eye.turns(weights)[0] for eye in rig.eyes], atol=1e-6)
    assert np.abs(found).max() > 0.1 and np.abs(stage(browser) - before).max() > 40.0
    browser.run(f"facetalk.show({names}, {[0.0] * len(names)})")


def test_sliders_are_there_and_reach_the_face(browser: Chromium, clip: Path) -> None:
    names = browser.run("[...document.querySelectorAll('#sliders input')].map((slider) => slider.name)")
    assert names == list(RANGES)
    smile = "document.querySelector('#sliders input[name=smile]')"
    browser.run(f"{smile}.value = 1; {smile}.dispatchEvent(new Event('input'))")
    browser.give_files("#file", clip)
    browser.until("!facetalk.state.busy && facetalk.state.length > 1.9")
    browser.run("facetalk.pause()")
    assert browser.run("facetalk.weights().mouthSmileLeft") > 0.4
    browser.run(f"{smile}.value = 0; {smile}.dispatchEvent(new Event('input'))")


def test_guidance_is_each_hearers_own_until_the_slider_is_moved(browser: Chromium) -> None:
    """Whisper's mouths have another weight than those of live sound, and the page knows but one."""
    slider, told = "document.querySelector('#guidance')", "document.querySelector('#guidance-value').value"
    rest = browser.run(f"{slider}.value")
    assert "guidance" not in browser.run("JSON.parse(JSON.stringify(facetalk.settings()))")
    assert browser.run(told) == "the model's"
    browser.run(f"{slider}.value = 2; {slider}.dispatchEvent(new Event('input'))")
    assert browser.run("facetalk.settings().guidance") == 2 and browser.run(told) == "2.00"
    browser.run(f"{slider}.value = {rest}; {slider}.dispatchEvent(new Event('input'))")
    assert "guidance" not in browser.run("JSON.parse(JSON.stringify(facetalk.settings()))")


def test_a_recording_becomes_moving_lips_in_step_with_its_sound(browser: Chromium, clip: Path) -> None:
    browser.give_files("#file", clip)
    browser.until("!facetalk.state.busy && facetalk.state.length > 1.9")
    assert re.fullmatch(r"clip\.wav: 5\d frames in \d steps", status(browser))
    browser.until("facetalk.state.playing || facetalk.state.sound.ended")
    browser.run("facetalk.pause()")
    motion = FaceTalk.from_pretrained("default", "cpu").generate(clip, seed=0, pad=None)
    names = browser.run("Object.keys(facetalk.weights())")
    seen, pictures = [], []
    browser.run("facetalk.seek(facetalk.state.length)")  # and from the end back again
    for frame in (5, 12, 20, 31):
        browser.run(f"facetalk.seek({(frame + 0.5) / motion.fps})")
        seen.append(browser.run("Object.values(facetalk.weights())"))
        pictures.append(stage(browser))
    assert len(names) == motion.expressions.shape[1] + len(TONGUE_NAMES)
    assert motion.tongue is not None
    shown = np.hstack([motion.expressions, motion.tongue])
    np.testing.assert_allclose(seen, shown[[5, 12, 20, 31]], atol=2e-3)
    assert max(np.abs(pictures[0] - other).max() for other in pictures[1:]) > 40.0, (
        "lips that are seen to move"
    )
    assert browser.run("document.querySelector('#save').href").startswith("blob:")


def test_a_file_is_opened_with_its_sound(browser: Chromium, clip: Path, tmp_path: Path) -> None:
    model = FaceTalk.from_pretrained("default", "cpu")
    motion = model.generate(clip, steps=1, seed=1)
    path = export(tmp_path / "mine.glb", model.decode(motion), fps=motion.fps, audio=clip)
    browser.give_files("#file", path)
    browser.until(
        "!facetalk.state.busy && document.querySelector('#status').textContent.startsWith('mine.glb')"
    )
    assert "drop mine.wav along with it" in status(browser) and browser.run("facetalk.state.sound === null")
    browser.give_files("#file", path, path.with_suffix(".wav"))
    browser.until("!facetalk.state.busy && facetalk.state.sound !== null")
    browser.run("facetalk.pause()")
    assert browser.run("facetalk.state.length") == pytest.approx(len(motion) / motion.fps)


@pytest.mark.parametrize(
    ("name", "content", "says"), [("no.wav", b"RIFF", "no.wav"), ("no.glb", b"glTF\2", "")]
)
def test_a_bad_file_is_said_and_the_page_lives(
    browser: Chromium, tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    browser.give_files("#file", tmp_path / name)
    browser.until("!facetalk.state.busy && document.querySelector('#status.trouble') !== null")
    assert says in status(browser) and "/" not in status(browser).replace("glTF/", "")
    assert browser.run("document.querySelector('#open').disabled") is False


def test_the_microphone_moves_the_lips(browser: Chromium) -> None:
    browser.run("facetalk.state.frames = 0")
    browser.run("document.querySelector('#microphone').click()")
    browser.until("facetalk.state.live && facetalk.state.frames > 10")
    # On a machine that draws and listens with half a core, the page says so instead.
    assert "the face follows" in status(browser) or "too slow" in status(browser)
    jaw: list[float] = []
    wait_for(
        lambda: jaw.append(browser.run("facetalk.weights().jawOpen")) or np.ptp(jaw) > 0.05,
        60.0,
        "a jaw that moves",
    )
    # And the head, which rests at 0, 0, 0, 1.
    wait_for(lambda: abs(browser.run("facetalk.turned()[0]")) > 0.003, 60.0, "a head that moves")
    browser.run("document.querySelector('#microphone').click()")
    assert browser.run("facetalk.state.live") is None and status(browser) == "The microphone is off"


def test_another_page_gets_nothing(browser: Chromium, url: str) -> None:
    """Last, as it leaves the page: what any page may try that a person has open."""
    browser.open("data:text/html,<title>evil</title>")
    browser.until("document.title === 'evil'")
    read = f"fetch('{url}model.json').then((answer) => answer.text(), () => 'refused')"
    assert browser.run(read) == "refused"
    dial = (
        f"new Promise((go) => {{ const line = new WebSocket('{url.replace('http', 'ws')}listen'); "
        "line.onopen = () => go('open'); line.onerror = () => go('refused'); })"
    )
    assert browser.run(dial) == "refused"
