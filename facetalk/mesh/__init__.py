"""Meshes for people: sequences, facial smoothing, glTF and PLY files, and pictures without a screen.

Writing lives in :mod:`facetalk.mesh.export` and drawing in :mod:`facetalk.render.render`; they are not
imported here, because their dependencies are heavier than those of the data types.
"""

from facetalk.mesh.mesh import Mesh
from facetalk.mesh.sequence import RiggedSequence
from facetalk.mesh.smoothing import FacialSmoothing, gaussian_smooth

__all__ = ["FacialSmoothing", "Mesh", "RiggedSequence", "gaussian_smooth"]
