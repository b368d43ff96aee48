"""One definition of parts and surface classes, which files, meshes and materials agree with."""

import json

import numpy as np

from facetalk.models import find_model
from facetalk.nphm.head.parts import CLASS_PART, PART_NAMES, Part, SurfaceClass


def test_numbers_are_those_of_the_shipped_head():
    config = json.loads((find_model("default").folder / "head" / "config.json").read_text())
    assert tuple(config["part_names"]) == PART_NAMES
    assert config["forward"]["parts"] == len(Part) and config["forward"]["classes"] == len(SurfaceClass)


def test_every_class_belongs_to_a_part():
    assert len(CLASS_PART) == len(SurfaceClass) and CLASS_PART.dtype == np.uint8
    assert set(CLASS_PART.tolist()) == set(Part)
    for kind in SurfaceClass:
        part = Part(CLASS_PART[kind])
        for side in ("UPPER", "LOWER"):
            assert (side in kind.name) == (side in part.name), kind
