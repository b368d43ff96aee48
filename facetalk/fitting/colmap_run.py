"""COLMAP's structure from motion over a folder of pictures: ``python -P colmap_run.py FOLDER WORK OPTIONS``.

A program of its own: pycolmap and Pillow bring libraries of the same names that do not bear each other in one
process (pycolmap 4.2.1 and Pillow 12: "free(): invalid pointer"), and COLMAP ends its process where a check
of its own fails. So nothing but pycolmap is imported here. A line of the standard output tells of each step.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

SEED = 0
_SIDE = 2400  # pixels of a picture's longer side, beyond which it is made smaller for its features
_INLIERS = {"init_min_num_inliers": 30, "abs_pose_min_num_inliers": 15}
# of 100 and 30: skin has few features, and heads fill a part of a picture
_ANGLE = 4.0  # degrees between the first two cameras, of 16, since features of skin are found again over few


def main(pictures: Path, work: Path, options: dict[str, Any]) -> None:
    """Write COLMAP's models, as many as do not hang together, to ``work/models/0``, ``1`` and so on.

    Args:
        pictures: folder of the pictures.
        work: an empty folder.
        options: "model", COLMAP's name of the lens; "shared", whether all pictures are of one; "known", the
            lens's parameters where its focal length is known, else None; "threads".
    """
    import pycolmap

    pycolmap.logging.minloglevel = 2
    pycolmap.set_random_seed(SEED)
    cpu, threads, database = pycolmap.Device.cpu, int(options["threads"]), work / "features.db"
    reader, extraction = pycolmap.ImageReaderOptions(), pycolmap.FeatureExtractionOptions()
    reader.camera_model = options["model"]
    if options["known"]:
        reader.camera_params = ",".join(map(str, options["known"]))
    extraction.num_threads, extraction.max_image_size = threads, _SIDE
    # Twice the features, which also are found again from further aside.
    extraction.sift.estimate_affine_shape = extraction.sift.domain_size_pooling = True
    mode = pycolmap.CameraMode.SINGLE if options["shared"] else pycolmap.CameraMode.PER_IMAGE
    pycolmap.extract_features(
        database, pictures, camera_mode=mode, reader_options=reader, extraction_options=extraction, device=cpu
    )
    print("features", flush=True)
    matching, verification = pycolmap.FeatureMatchingOptions(), pycolmap.TwoViewGeometryOptions()
    matching.num_threads, matching.guided_matching = threads, True
    verification.ransac.random_seed = SEED
    # Backgrounds that do not move with a head are as good a hint as it, and no watermarks.
    verification.detect_watermark = False
    pycolmap.match_exhaustive(
        database, matching_options=matching, verification_options=verification, device=cpu
    )
    print("matches", flush=True)
    mapping = pycolmap.IncrementalPipelineOptions()
    mapping.num_threads, mapping.random_seed, mapping.min_model_size = threads, SEED, 2
    mapping.extract_colors = False
    if options["known"]:
        mapping.ba_refine_focal_length = mapping.mapper.abs_pose_refine_focal_length = False
    for name, least in _INLIERS.items():
        setattr(mapping.mapper, name, least)
    mapping.mapper.init_min_tri_angle = _ANGLE
    (work / "models").mkdir()
    pycolmap.incremental_mapping(database, pictures, work / "models", mapping)
    print("cameras", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
