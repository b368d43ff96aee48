"""What a program has to know of the graphs, in words."""

from __future__ import annotations

from typing import Any


def readme(about: dict[str, Any], differences: dict[str, float]) -> str:
    """The README of a folder.

    Args:
        about: what ``facetalk-onnx.json`` holds.
        differences: largest difference from torch, per graph.
    """
    a, b = about, "batch"
    past = f"({b}, {a['layers']}, {a['heads']}, {a['history']}, {a['depth']})"
    frames, frame_of = f"({b}, {a['window'] - 1}, {a['channels']})", f"({b}, {a['window'] - 1})"
    at = ", ".join(a["at"])
    guidance = (
        f"Guidance is an input: {a['guidance']:g} by default, {a['guidance_range'][0]:g} to "
        f"{a['guidance_range'][1]:g}. `heard` is 1."
        if not a["two_rows"]
        else "Classifier-free guidance takes two rows, one with `heard` 1 and one with 0, each with caches "
        f"of its own: clean = null + w (clean - null), w = {a['guidance']:g} by default."
    )
    worst = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
    return f"""# {a["model"]}: speech to curves in ONNX

Written by `facetalk convert --onnx`. Opset {a["opset"]}, float32, every first axis is a dynamic batch:
several speakers at a time. onnxruntime differs from torch by at most: {worst}
(chained steps, batches of 1 and 3).
`facetalk-onnx.json` has every number of this page.

## encoder_step.onnx: {a["hop"]} samples of sound to features

| input | shape | |
|---|---|---|
| samples | ({b}, {a["hop"]}) | the next {a["hop"]} samples, 16 kHz mono, of zero mean and unit variance |
| sound | ({b}, {a["overlap"]}) | cache: samples before them |
| frames | {frames} | cache: extracted frames |
| heard | {frame_of} | cache: 1 where there is a frame, 0 before the beginning |

| output | shape | |
|---|---|---|
| features | ({b}, {a["features"]}) | of frame n - {a["ahead"]} in step n; nothing while n < {a["ahead"]} |
| next_sound, next_frames, next_heard | as above | caches for the next step |

At the beginning all caches are 0, but for the last {a["lead"]} values of `sound`, which are the first
{a["lead"]} samples of the sound; the first step takes the samples from there on. A frame is
1/{a["fps"]:g} s, and its features are those that a stream with a look-ahead of {a["look_ahead"]:g} s gives.

Sound has to be brought to unit variance. What the library does, a level that follows the speech, is
`facetalk/audio/live.py` (RunningLevel), and in the C library behind `facetalk_stream_push`; for a microphone
at a steady gain, dividing by the root of a running variance of voiced sound does.

## denoiser_step.onnx: one frame at one denoising step

| input | shape | |
|---|---|---|
| noisy | ({b}, {a["coordinates"]}) | x; at first standard normal noise |
| at | ({b}, {len(a["at"])}) | {at} of the step, as in the list `steps` |
| features | ({b}, {a["features"]}) | from the encoder |
| heard | ({b}, 1) | 1 |
| key, value | {past} | caches **of this denoising step**: there are as many as steps |
| seen | ({b}, {a["history"]}) | cache: 1 where there is a frame |

| output | shape | |
|---|---|---|
| clean | ({b}, {a["coordinates"]}) | the clean frame that it predicts |
| next_key, next_value, next_seen | as above | caches for the next frame, same denoising step |

Per frame, for each entry of `steps["{a["default_steps"]}"]` in order: run, then
`x = from_clean * clean + from_noisy * x`. After the last one x is clean. Caches are 0 at the beginning.
{guidance}

## curves.onnx: ({b}, {a["coordinates"]}) clean to ({b}, {len(a["names"])}) weights

In [0, 1], in the order of `names`: ICT-FaceKit's, whose `eyeBlink_L` is ARKit's `eyeBlinkLeft`, and which are
the morph targets of every .glb of this head.

`facetalk.convert.onnx.run_folder` is the loop above in Python.
"""
