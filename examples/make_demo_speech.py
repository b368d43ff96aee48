"""Make examples/demo.flac and demo.jsonl: two Italian telephone prompts, joined, with their phone times.

The prompts are kept out of training by name (facetalk.data.speech.recordings.DEMO_PROMPTS), so the demo shows
a sentence that
the built-in model never heard, though it knows the speaker.

    apt-get install asterisk-core-sounds-it asterisk-core-sounds-it-g722
    python examples/make_demo_speech.py [folder under which the packages are unpacked]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import soundfile

from facetalk.audio import load_audio
from facetalk.data.speech.align import Aligner
from facetalk.data.speech.recordings import DEMO_PROMPTS, asterisk
from facetalk.units import SAMPLE_RATE

PROMPTS = DEMO_PROMPTS[:2]
PAUSE_S = (0.3, 0.45, 0.5)  # before, between, after


def main(packages: Path, folder: Path) -> None:
    """Align, join and write."""
    found = {r.name.rsplit("/", 1)[-1]: r for r in asterisk("it", root=packages)}
    rng, aligner = np.random.default_rng(0), Aligner()

    def pause(seconds: float) -> np.ndarray:
        return rng.normal(0.0, 2e-4, round(seconds * SAMPLE_RATE)).astype(np.float32)

    pieces, phones, clock = [pause(PAUSE_S[0])], [], PAUSE_S[0]
    for prompt, gap in zip(PROMPTS, PAUSE_S[1:], strict=True):
        samples = load_audio(found[prompt].path)
        aligned, alphabet = aligner.align(samples, found[prompt].text, "it")
        phones += [[s, round(a + clock, 3), round(b + clock, 3)] for s, a, b in aligned]
        pieces += [samples, pause(gap)]
        clock += len(samples) / SAMPLE_RATE + gap
    soundfile.write(folder / "demo.flac", np.concatenate(pieces), SAMPLE_RATE, subtype="PCM_16")
    first = found[PROMPTS[0]]
    line = {
        "id": "demo", "audio": "demo.flac", "text": " ".join(found[p].text for p in PROMPTS),
        "voice": first.voice,
        "language": "it", "licence": first.licence, "source": first.source, "split": "valid",
        "phones": phones,
        "alphabet": alphabet,
    }  # fmt: skip
    (folder / "demo.jsonl").write_text(json.dumps(line, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "/"), Path(__file__).parent)
