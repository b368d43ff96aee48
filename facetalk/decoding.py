"""A motion on the head of a model: what :meth:`facetalk.FaceTalk.decode` takes, and what it refuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from facetalk import posing
from facetalk.ambient import plainly
from facetalk.arguments import real_number, whole_number
from facetalk.arrays import Float32
from facetalk.errors import InputError
from facetalk.loaded import LoadedModel
from facetalk.mesh import Mesh, RiggedSequence
from facetalk.motion import Motion
from facetalk.nphm.head.head import HeadModel
from facetalk.optional import needed_for

__all__ = ["RESOLUTION_RANGE", "Decoder", "Detail", "Topology"]

Topology = Literal["fixed", "marching-cubes"]
Detail = Literal["high", "medium", "low"]

RESOLUTION_RANGE = (16, 1024)
"""Grid points per axis that ``decode`` accepts; 1024^3 is what a box of a head can use (0.3 mm)."""
_DETAILS: tuple[Detail, ...] = ("high", "medium", "low")
_LARGEST_WEIGHT, _LARGEST_CODE = 100.0, 1000.0
"""Beyond anything that is a face, and far below what overflows."""


class Decoder(LoadedModel):
    """A model that turns motions into meshes."""

    @plainly
    def decode(
        self,
        motion: Motion,
        *,
        resolution: int = 128,
        topology: Topology = "fixed",
        smooth: bool = True,
        tolerance_mm: float | None = None,
        temporal_sigma: float | None = None,
        exact: bool = False,
        detail: Detail = "high",
    ) -> RiggedSequence | Iterator[Mesh]:
        """Turn a motion into meshes, in metres.

        Args:
            motion: expression codes; an empty ``motion.identity`` means the default identity.
            resolution: grid points per axis of ``topology="marching-cubes"``.
            topology: ``"fixed"`` carries the canonical mesh to every frame (constant faces; the result is a
                ``RiggedSequence``, which is iterable, or of a head without a rig an iterator);
                ``"marching-cubes"`` extracts every frame anew from the backward-deformed field, as the paper
                does, looks at eyes and lips again on a finer lattice, takes out what is no head, paints it by
                the first, gives it more vertices wherever the paint changes, and closes lips and lids as the
                first has them.
            smooth: weight the deformation by the model's facial smoothing.
            tolerance_mm: with marching cubes, how far a mesh may be from that of the dense grid before lips
                and lids are closed, millimetres: more is quicker. 0 keeps to short cuts that change nothing;
                None is 0.05, which nobody sees. At 0 the mesh is the lattice's own, with vertices for the
                paint alone.
            temporal_sigma: standard deviation in seconds of a Gaussian over time; None = the model's setting.
            exact: with marching cubes, evaluate the dense grid instead of a band around the surface.
            detail: of the fixed topology: about 24, 11 or 5 thousand vertices, the fewer ones among the more;
                of a head without a rig those of an extraction with 128, 96 or 64 samples along every axis.

        Raises:
            InputError: the motion does not fit this head, or an option is out of range or would do nothing.
        """
        low, high = RESOLUTION_RANGE
        resolution = whole_number("resolution", resolution)
        if not low <= resolution <= high:
            raise InputError(f"resolution must lie in [{low}, {high}] grid points per axis, got {resolution}")
        if topology not in ("fixed", "marching-cubes"):
            raise InputError(f"topology must be 'fixed' or 'marching-cubes', got {topology!r}")
        if detail not in _DETAILS:
            raise InputError(f"detail must be one of {', '.join(_DETAILS)}, got {detail!r}")
        if topology != "fixed" and detail != "high":
            raise InputError("detail is for topology='fixed'; marching cubes have a resolution")
        if topology == "fixed" and (exact or tolerance_mm is not None):
            option = "exact" if exact else "tolerance_mm"
            raise InputError(f"{option} is for topology='marching-cubes'; a carried mesh has no use for it")
        if exact and tolerance_mm is not None:
            raise InputError("give exact or tolerance_mm, not both: an exact extraction tolerates nothing")
        smoothing, head = self.facial_smoothing if smooth else None, self.any_head
        if topology == "fixed":
            checked, level = self._checked(motion, temporal_sigma), _DETAILS.index(detail)
            if isinstance(head, HeadModel):
                return posing.rigged(head, checked, smoothing, level)
            return posing.tracked(head, checked, smoothing, level, self.config.bounds)
        with needed_for("extracting a head by marching cubes"):
            from facetalk.nphm.surface.options import DEFAULT_TOLERANCE_MM, ExtractionOptions
        options = ExtractionOptions(
            tolerance_mm=DEFAULT_TOLERANCE_MM if tolerance_mm is None else tolerance_mm, exact=exact
        )
        motion = self._checked(motion, temporal_sigma)
        return posing.extracted(head, motion, smoothing, resolution, self.config.bounds, options, self.device)

    @plainly
    def landmarks(self, motion: Motion) -> Float32:
        """The 68 Multi-PIE landmarks of every frame: (T, 68, 3) float32, metres; 60-67 are the inner lips.

        They are points of the model's own canonical surface, carried by the same deformation as the mesh of
        ``decode(topology="fixed")``.
        """
        return posing.landmarks(self.any_head, self._checked(motion, 0.0), self.facial_smoothing)

    def _identity(self, identity: ArrayLike | str | None) -> Float32:
        if identity is None:
            return np.asarray(self.any_head.default_identity, dtype=np.float32)
        if isinstance(identity, str):
            raise InputError(
                f"identity must be a code, or for a recording voice or voice:SEED, got {identity!r}; "
                f"identity_from_voice gives the code of a voice"
            )
        code, size = np.asarray(identity, dtype=np.float32), self.any_head.identity_dim
        if code.shape != (size,):
            raise InputError(f"identity must have shape ({size},), got {code.shape}")
        if not np.isfinite(code).all():
            raise InputError("identity has values that are not finite")
        if np.abs(code).max(initial=0.0) > _LARGEST_CODE:
            raise InputError(
                f"identity has values up to {np.abs(code).max():.3g}, no head's are above {_LARGEST_CODE:g}"
            )
        return code

    def _checked(self, motion: Motion, temporal_sigma: float | None) -> Motion:
        if not isinstance(motion, Motion):
            raise InputError(
                f"motion must be a facetalk.Motion, got {type(motion).__name__}; Motion(expressions) makes "
                f"one of an array"
            )
        width = motion.expressions.shape[1]
        takes = self.any_head.expression_dim
        if width != takes:
            raise InputError(f"the motion has {width} values a frame, this head takes {takes}")
        if np.abs(motion.expressions).max(initial=0.0) > _LARGEST_WEIGHT:
            raise InputError(
                f"the motion has weights up to {np.abs(motion.expressions).max():.3g}; they are fractions, "
                f"and none may be above {_LARGEST_WEIGHT:g}"
            )
        identity = self._identity(motion.identity if motion.identity.size else None)
        sigma = self.config.temporal_sigma
        if temporal_sigma is not None:
            sigma = real_number("temporal_sigma", temporal_sigma)
            if not 0.0 <= sigma <= 60.0:
                raise InputError(f"temporal_sigma must lie in 0..60 seconds, got {sigma:g}")
        motion = dataclasses.replace(motion, identity=identity)
        return motion.smooth(sigma) if sigma else motion
