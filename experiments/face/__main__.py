"""The head that people see: ``python -m experiments.face measure`` (or ``sheets``, ``cubes``, ``mesh``).

``measure`` binds random identities and writes what is whole about them, beside the same heads with their
seams left as the data has them; ``sheets`` draws mouths, a blink and identities to be looked at; ``cubes``
draws eyes and lips by marching cubes beside the rig and writes how far their colours are off; ``mesh``
makes the template mesh of a trained head anew.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from experiments.common.plainly import plainly
from experiments.face.cubes import compare
from experiments.face.geometry import measure
from experiments.face.sheets import write_sheets
from facetalk.cli._identity import read_identity
from facetalk.data.heads.ict import BUILT_IN, MorphableHead
from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.nphm.head.head import HeadModel
from facetalk.nphm.head.template_mesh import TemplateMesh
from facetalk.pipeline import FaceTalk
from facetalk.training.head.train import give_mesh

RESULTS = Path(__file__).with_name("results") / "face.json"


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m experiments.face", description=__doc__.split("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    figures = verbs.add_parser("measure", help="figures of random identities, as JSON")
    figures.add_argument("--identities", type=int, default=40, help="how many (default 40)")
    figures.add_argument("-o", "--out", type=Path, default=RESULTS, help="file to write")
    sheets = verbs.add_parser("sheets", help="pictures to look at")
    sheets.add_argument("-o", "--out", type=Path, required=True, help="folder to write them to")
    cubes = verbs.add_parser("cubes", help="marching cubes close up, beside the rig")
    cubes.add_argument("-o", "--out", type=Path, required=True, help="folder for the picture")
    mesh = verbs.add_parser("mesh", help="make a head's template mesh anew")
    mesh.add_argument("--data", type=Path, default=BUILT_IN, help="packed ICT-FaceKit Light")
    mesh.add_argument("head", type=Path, help="head folder, changed in place")
    return plainly(_run, parser.parse_args())


def _run(options: argparse.Namespace) -> None:
    if options.verb == "mesh":
        head = HeadModel.load(options.head)
        give_mesh(head, MorphableHead.load(options.data))
        head.save(options.head, force=True)
    elif options.verb == "cubes":
        figures = compare(FaceTalk.from_pretrained("default", device="cpu"), options.out)
        with atomic_path(RESULTS.with_name("cubes.json")) as scratch:
            scratch.write_text(json.dumps(figures, indent=1) + "\n")
        print(json.dumps(figures, indent=1))
    elif options.verb == "sheets":
        face = FaceTalk.from_pretrained("default", device="cpu")
        codes = [read_identity(f"random:{seed}", face.head) for seed in range(8)]
        for path in write_sheets(face, options.out, codes):
            print(path)
    else:
        report = _report(options.identities)
        with atomic_path(options.out) as scratch:
            scratch.write_text(json.dumps(report, indent=1) + "\n")
        print(json.dumps({name: report[name]["worst"] for name in ("closed", "as in the data")}, indent=1))


def _report(count: int) -> dict[str, Any]:
    if count < 1:
        raise InputError(f"--identities must be at least 1, got {count}")
    report: dict[str, Any] = {"identities": f"random:0 to random:{count - 1}"}
    shipped = FaceTalk.from_pretrained("default", device="cpu").head
    mesh = shipped.content.mesh
    assert mesh is not None
    plain = HeadModel(dataclasses.replace(shipped.content, mesh=_unclosed(mesh)))
    for name, head in (("closed", shipped), ("as in the data", plain)):
        rows = []
        for seed in tqdm(range(count), name, disable=None):
            code = read_identity(f"random:{seed}", head)
            assert code is not None
            rows.append(measure(head, code, lids=mesh.lid_vertices, surface=head is shipped and seed < 6))
        keys = [key for key in rows[0] if key not in ("seconds", "distance_mm")]
        report[name] = {
            "worst": {key: max(row[key] for row in rows) for key in keys},
            "mean": {key: round(float(np.mean([row[key] for row in rows])), 3) for key in keys},
            "mean head": measure(
                head, head.default_identity, lids=mesh.lid_vertices, surface=head is shipped
            ),
            "rows": rows,
        }
    return report


def _unclosed(mesh: TemplateMesh) -> TemplateMesh:
    """The mesh with lips and lids as the data has them: nothing follows a seam, one vertex is kept clear."""
    seams = {
        name: dataclasses.replace(seam, weights=np.zeros_like(seam.weights))
        for name, seam in (("lips", mesh.lips), ("lid_left", mesh.lid_left), ("lid_right", mesh.lid_right))
    }
    return dataclasses.replace(mesh, lid_vertices=mesh.lid_vertices[:1], **seams)


if __name__ == "__main__":
    sys.exit(main())
