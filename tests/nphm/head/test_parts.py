"""One definition of parts and surface classes, which files, meshes and materials agree with."""

import json

import numpy as np

from facetalk.mesh.materials import EYES, MATERIAL_OF_PART
from facetalk.models import find_model
from facetalk.nphm.head.parts import CLASS_PART, PART_NAMES, Part, SurfaceClass


def test_numbers_are_those_of_the_shipped_head():
    config = json.loads((find_model("default").folder / "head" / "config.json").read_text())
    assert tuple(config["part_names"]) == PART_NAMES
    assert config["forward"]["parts"] == len(Part) and config["forward"]["classes"] == len(SurfaceClass)


def test_every_part_has_a_material():
    assert [m.name for m in MATERIAL_OF_PART] == ["skin", "eyes", "teeth", "teeth"]
    assert len(MATERIAL_OF_PART) == len(Part) and MATERIAL_OF_PART[Part.EYEBALLS] is EYES


def test_every_class_belongs_to_a_part():
    assert len(CLASS_PART) == len(SurfaceClass) and CLASS_PART.dtype == np.uint8
    assert set(CLASS_PART.tolist()) == set(Part)
    for kind in SurfaceClass:
        part = Part(CLASS_PART[kind])
        for side in ("UPPER", "LOWER"):
            assert (side in kind.name) == (side in part.name), kind
