"""The space in which motion is diffused: linear in the blendshape weights, with a geometric metric.

Diffusion adds isotropic noise and is trained by a mean squared error, so it takes every coordinate for
equally important. Blendshape weights are not: the inner-lip gap is a small difference of large weights (29 mm
x jawOpen
- 37 mm x mouthClose ...), and an error of 0.03 in both can open a closed mouth by 2 mm. So the denoiser works
on y = A (w - mean), the principal components of the training motion under a metric M = G^T G, where G maps
weights to displacements of the face in millimetres, weighted by what people look at. This is ours, not the
paper's, which diffuses the expression codes of a learned space as they are.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from facetalk.arrays import AnyFloat, AnyInt, Float32, Float64
from facetalk.multi_pie import BROWS, LIDS, LOWER_LIP, MOUTH, UPPER_LIP

LIP_GAP_WEIGHT = 10.0
GAZE_MM = 8.0
"""Travel of the pupil at weight 1: an eyeball of 15 mm radius turned by 30 degrees."""
GAZE_WEIGHT = 0.1


@dataclasses.dataclass(frozen=True)
class Representation:
    """Invertible (up to truncation) linear map between weights w (E,) and diffused coordinates y (K,).

    Attributes:
        mean: (E,) weights of y = 0.
        encode_matrix: (K, E), y = encode_matrix (w - mean).
        decode_matrix: (E, K), w = mean + decode_matrix y.
        scale_mm: (K,) weighted displacement in mm that one unit of each coordinate makes: how much an error
            in it matters.
    """

    mean: Float64
    encode_matrix: Float64
    decode_matrix: Float64
    scale_mm: Float64

    @property
    def dim(self) -> int:
        """Number of coordinates K."""
        return len(self.encode_matrix)

    def encode(self, weights: AnyFloat) -> Float32:
        """(..., E) weights -> (..., K) coordinates."""
        return ((weights - self.mean) @ self.encode_matrix.T).astype(np.float32)

    def decode(self, coordinates: AnyFloat) -> Float32:
        """(..., K) coordinates -> (..., E) weights, not clipped."""
        return (self.mean + coordinates @ self.decode_matrix.T).astype(np.float32)

    @classmethod
    def identity(cls, dim: int) -> Representation:
        """Diffuse the weights as they are, as the paper does."""
        return cls(np.zeros(dim), np.eye(dim), np.eye(dim), np.ones(dim))

    @classmethod
    def fit(cls, weights: AnyFloat, metric: Float64, *, floor: float = 0.01) -> Representation:
        """Principal components of motion under a metric, each scaled to unit variance.

        Args:
            weights: (N, E) weights of training motion.
            metric: (E, E) symmetric positive semi-definite M in mm²: ``w^T M w`` is the squared weighted
                displacement that weights w make.
            floor: components with a smaller standard deviation than this many mm are left out: nobody sees
                them, and scaled to unit variance they would cost the denoiser as much as the jaw.

        Raises:
            ValueError: nothing moves in the training motion.
        """
        motion = np.asarray(weights, np.float64)
        mean = motion.mean(0)
        values, vectors = np.linalg.eigh(metric)
        # Weights that the metric hardly sees (and their combinations) are made visible at 1e-6 of the
        # largest.
        values = np.maximum(values, 1e-6 * values.max())
        root = (vectors * np.sqrt(values)) @ vectors.T
        inverse_root = (vectors / np.sqrt(values)) @ vectors.T
        covariance = np.cov((motion - mean) @ root.T, rowvar=False)
        variance, axes = np.linalg.eigh(covariance)
        order = np.argsort(variance)[::-1]
        order = order[variance[order] > floor**2]
        if not len(order):
            raise ValueError("the training motion does not move")
        scale, axes = np.sqrt(variance[order]), axes[:, order]
        return cls(mean, axes.T @ root / scale[:, None], inverse_root @ axes * scale, scale)


def face_metric(
    displacements: AnyFloat,
    neutral: AnyFloat,
    landmarks: AnyInt,
    skin: int,
    names: list[str],
) -> Float64:
    """Metric on blendshape weights from the vertex displacements of a head.

    The mean squared displacement of the skin near the mouth, lids and brows, plus each landmark, plus the
    inner-lip gap, which has the largest say by far because closures hang on fractions of a millimetre of it.

    Args:
        displacements: (E, V, 3) displacement of each vertex at weight 1, mm.
        neutral: (V, 3) resting positions, mm.
        landmarks: (68,) vertex numbers of the Multi-PIE landmarks.
        skin: the first ``skin`` vertices are the front of the face.
        names: blendshape names in ARKit's manner, for the gaze, which moves more than the lids do.

    Returns:
        (E, E) metric in mm².
    """
    shapes = len(displacements)
    metric = np.zeros((shapes, shapes))

    def add(rows: Float64, weight: float) -> None:
        flat = rows.reshape(shapes, -1)
        metric[...] += weight * flat @ flat.T

    moves = np.asarray(displacements[:, :skin], np.float64)
    add(moves, 1.0 / skin)
    # Soft masks around what people watch: 1 at the landmark, e^-1/2 at the radius.
    for region, radius, weight in (
        (MOUTH, 8.0, 3.0),
        (LIDS, 6.0, 3.0),
        (BROWS, 8.0, 1.0),
    ):
        points = neutral[landmarks[list(region)]]
        distance = np.linalg.norm(neutral[:skin, None] - points[None], axis=-1).min(1)
        mask = np.exp(-0.5 * (distance / radius) ** 2)
        add(moves * np.sqrt(mask)[None, :, None], weight / mask.sum())
    add(np.asarray(displacements[:, landmarks], np.float64), 1.0 / len(landmarks))
    add(lip_gap_matrix(displacements, landmarks).T[:, :, None], LIP_GAP_WEIGHT)
    gaze = np.zeros((shapes, 4))
    for index, name in enumerate(names):
        for axis, (positive, negative) in enumerate(
            (("eyeLookIn", "eyeLookOut"), ("eyeLookUp", "eyeLookDown"))
        ):
            if name.startswith((positive, negative)):
                gaze[index, 2 * axis + name.endswith("_R")] = 1.0 if name.startswith(positive) else -1.0
    add(gaze * GAZE_MM, GAZE_WEIGHT)
    return metric


def lip_gap_matrix(displacements: AnyFloat, landmarks: AnyInt) -> Float64:
    """Change of the three inner-lip gaps (61-67, 62-66, 63-65; upper minus lower, vertical) at weight 1.

    Args:
        displacements: (E, V, 3), +y up.
        landmarks: (68,) vertex numbers.

    Returns:
        (3, E), in the unit of the displacements.
    """
    upper, lower = landmarks[list(UPPER_LIP)], landmarks[list(LOWER_LIP)]
    return (displacements[:, upper, 1] - displacements[:, lower, 1]).astype(np.float64).T
