"""The 68 landmarks of a face in pictures, by MediaPipe's face mesh.

Version 0.10.21 is the last whose wheel holds the network (``mediapipe.solutions``); it needs no download. It
asks for NumPy 1 and protobuf 4, so that it may want an environment of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from facetalk.arrays import Float64, UInt8
from facetalk.errors import InputError
from facetalk.fitting.pictures import Pictures
from facetalk.optional import needed_for

__all__ = ["FACE_MESH", "detect"]

FACE_MESH: tuple[tuple[int, ...], ...] = (
    (127,), (234,), (93,), (132, 58), (58, 172), (136,), (150,), (176,), (152,), (400,), (379,), (365,),
    (397, 288), (361,), (323,), (454,), (356,),  # the jaw line, which a fit does not use
    (70,), (63,), (105,), (66,), (107,), (336,), (296,), (334,), (293,), (300,),  # brows
    (168, 6), (197, 195), (5,), (4,), (98,), (97,), (2,), (326,), (327,),  # nose
    (33,), (160,), (158,), (133,), (153,), (144,), (362,), (385,), (387,), (263,), (373,), (380,),  # lids
    (61,), (39,), (37,), (0,), (267,), (269,), (291,), (321,), (314,), (17,), (84,), (91,),  # outer lips
    (78,), (82,), (13,), (312,), (308,), (317,), (14,), (87,),  # inner lips
)  # fmt: skip
"""Points of the face mesh whose mean each of Multi-PIE's 68 is.

After P. Yan, github.com/PeizhiYan/Mediapipe_2_Dlib_Landmarks (MIT).
"""

_CONFIDENT = 0.3  # of the detector: heads seen from the side are found less surely


def detect(pictures: Pictures, progress: Callable[[], object] = lambda: None) -> Float64:
    """Landmarks (T, 68, 2) in pixels of a camera's pictures, NaN in frames without a face.

    Args:
        pictures: of one camera.
        progress: called after every frame.

    Raises:
        InputError: MediaPipe is not installed, or is a version without its network.
    """
    found = np.full((len(pictures), 68, 2), np.nan)
    with _face_mesh() as mesh:
        for t in range(len(pictures)):
            picture = pictures[t]
            if picture is not None:
                found[t] = _of(mesh, picture)
            progress()
    return found


def _of(mesh: Any, picture: UInt8) -> Float64:
    faces = mesh.process(np.ascontiguousarray(picture)).multi_face_landmarks
    if not faces:
        return np.full((68, 2), np.nan)
    height, width = picture.shape[:2]
    # Its coordinates run from the left edge of the first pixel; ours from the middle of it.
    points = np.array([(mark.x * width - 0.5, mark.y * height - 0.5) for mark in faces[0].landmark])
    return np.stack([points[list(of)].mean(0) for of in FACE_MESH])


def _face_mesh() -> Any:
    with needed_for('finding faces in pictures (of cameras that have no "landmarks" of yours)'):
        import mediapipe
    solutions = getattr(mediapipe, "solutions", None)
    if solutions is None:
        raise InputError(
            f"MediaPipe {getattr(mediapipe, '__version__', '')} comes without the network of its face mesh; "
            f'install mediapipe==0.10.21, or give each camera "landmarks" of yours, (T, 68, 2)'
        )
    return solutions.face_mesh.FaceMesh(
        static_image_mode=True, refine_landmarks=True, max_num_faces=1, min_detection_confidence=_CONFIDENT
    )
