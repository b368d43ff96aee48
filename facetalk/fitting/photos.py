"""What several cameras took at once: pictures of a frame with their cameras, and landmarks found in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from facetalk.arrays import Bool, Float64
from facetalk.errors import InputError
from facetalk.fitting.cameras import Camera, View
from facetalk.fitting.detect import detect
from facetalk.fitting.pictures import Pictures
from facetalk.fitting.sweep import Picture

__all__ = ["Photos"]


class Photos:
    """Pictures of the cameras that have any.

    Args:
        views: the cameras.
        path: of the capture, for messages.

    Raises:
        InputError: a picture cannot be read or has another size than its camera's, or cameras have different
            numbers of frames.

    Attributes:
        names: of the cameras, by number.
        frames: how many.
        stamp: what changes when one of the files is another.
    """

    def __init__(self, views: Sequence[View], path: Path) -> None:
        self._views = [view for view in views if view.images]
        self._taken: list[Pictures] = []
        self._masks: list[Pictures | None] = []
        for view in self._views:
            taken = Pictures(view.images, view.size)
            _check_camera(view, taken)
            self._taken.append(taken)
            masks = Pictures(view.masks, taken.size) if view.masks else None
            if masks is not None and len(masks) != len(taken):
                raise InputError(
                    f"{path}: camera {view.name} has {len(taken)} pictures, but {len(masks)} masks"
                )
            self._masks.append(masks)
        counts = {len(taken) for taken in self._taken}
        if len(counts) > 1:
            raise InputError(
                f"{path}: cameras have {min(counts)} to {max(counts)} pictures; expected as many each, null "
                f"in the list of images where a frame is missing"
            )
        self.names = [view.name for view in self._views]
        self.frames = counts.pop() if counts else 0
        self.stamp = "".join(one.stamp for one in [*self._taken, *self._masks] if one is not None)

    def frame(
        self, t: int, without: Sequence[str] = ()
    ) -> tuple[list[Picture], list[int], list[Bool | None]]:
        """Pictures of a frame, numbers of their cameras, and masks; some cameras left out by their names."""
        pictures, numbers, masks = [], [], []
        for number, (view, taken, mask) in enumerate(zip(self._views, self._taken, self._masks, strict=True)):
            grey = None if view.name in without else taken.grey(t)
            if grey is not None:
                pictures.append(Picture(view.camera, grey))
                numbers.append(number)
                masks.append(None if mask is None else mask.mask(t))
        return pictures, numbers, masks

    def landmarks(self, names: Sequence[str]) -> list[tuple[str, Camera, Float64]]:
        """Name, camera and landmarks (T, 68, 2) of each named camera, as they are found in its pictures.

        Raises:
            InputError: there is nothing to find them with.
        """
        wanted = [i for i, view in enumerate(self._views) if view.name in names]
        found = []
        with tqdm(total=len(wanted) * self.frames, unit="picture", desc="faces", disable=None) as bar:
            for i in wanted:
                marks = detect(self._taken[i], bar.update)
                found.append((self._views[i].name, self._views[i].camera, np.asarray(marks)))
        return found


def _check_camera(view: View, taken: Pictures) -> None:
    """A picture of another size than K was measured for shows a face where there is none."""
    width, height = taken.size
    x, y = view.camera.K[0, 2], view.camera.K[1, 2]
    if not (0 <= x < width and 0 <= y < height):
        raise InputError(
            f"{taken.names[0]}: {width} x {height} pixels, but the middle that K of camera {view.name} says "
            f"is ({x:g}, {y:g}); K is of pictures of another size"
        )
