"""A morphable head of a few hundred vertices in the layout of the packed ICT-FaceKit Light file.

A ball of skin with a hollow for the mouth, two eyeballs and two rows of blocks for teeth: enough for every
field that training reads, small enough that a training takes seconds.
"""

import numpy as np

EXPRESSIONS = ("eyeBlink_L", "eyeBlink_R", "eyeLookOut_L", "jawOpen", "mouthClose", "mouthPucker")
PARTS = (
    "face", "head_and_neck", "mouth_socket", "eye_socket_left", "eye_socket_right", "gums_and_tongue",
    "teeth", "eyeball_left", "eyeball_right",
)  # fmt: skip
SCALE, SHIFT = 0.04, np.array([0.0, -0.05, -0.24], np.float32)
IDENTITIES = 5


def ball(centre, radius, rings, sectors, *, inward=False):
    """Vertices and faces of a closed ball."""
    polar = np.pi * np.arange(1, rings) / rings
    turn = 2 * np.pi * np.arange(sectors) / sectors
    p, t = (a.ravel() for a in np.meshgrid(polar, turn, indexing="ij"))
    unit = np.stack([np.sin(p) * np.sin(t), np.cos(p), np.sin(p) * np.cos(t)], 1)
    unit = np.concatenate([[[0, 1, 0]], unit, [[0, -1, 0]]])
    ring = 1 + np.arange((rings - 1) * sectors).reshape(rings - 1, sectors)
    after = np.roll(ring, -1, 1)
    faces = np.concatenate([
        np.stack([np.zeros(sectors, int), ring[0], after[0]], 1),
        np.stack([ring[:-1], ring[1:], after[1:]], -1).reshape(-1, 3),
        np.stack([ring[:-1], after[1:], after[:-1]], -1).reshape(-1, 3),
        np.stack([np.full(sectors, len(unit) - 1), after[-1], ring[-1]], 1),
    ])  # fmt: skip
    radius = np.broadcast_to(np.asarray(radius, float), (3,))
    return np.asarray(centre) + radius * unit, faces[:, ::-1] if inward else faces


def fields(seed=0):
    """All arrays of the packed file, centimetres."""
    rng = np.random.default_rng(seed)
    shapes = {
        "face": ball([0, 0, 4], [8, 11, 9], 16, 24),
        "head_and_neck": ball([0, -10.5, 1], [5, 4, 5], 6, 10),
        "mouth_socket": ball([0, -4, 9.5], [2.6, 1.6, 2.4], 6, 12, inward=True),
        "eye_socket_left": ball([3, 4, 7], 0.2, 3, 4, inward=True),
        "eye_socket_right": ball([-3, 4, 7], 0.2, 3, 4, inward=True),
        "gums_and_tongue": ball([0, -5.2, 8.5], [1.5, 0.4, 1.5], 4, 8),
    }
    teeth = [ball([x, y, 9.5], 0.35, 3, 6) for y in (-3.2, -4.8) for x in np.linspace(-2, 2, 16)]
    eyes = {"eyeball_left": ball([3, 4, 10.3], 1.5, 8, 12), "eyeball_right": ball([-3, 4, 10.3], 1.5, 8, 12)}
    vertices, faces, v_range, f_range, tooth = [], [], [], [], []
    count = total = 0
    for name in PARTS:
        blocks = teeth if name == "teeth" else [shapes.get(name) or eyes[name]]
        v0, f0 = count, total
        for x, f in blocks:
            if name == "teeth":
                tooth.append((count, count + len(x)))
            vertices.append(x)
            faces.append(f + count)
            count, total = count + len(x), total + len(f)
        v_range.append((v0, count))
        f_range.append((f0, total))
    x, f = np.concatenate(vertices), np.concatenate(faces)
    part = np.concatenate([np.full(b - a, i) for i, (a, b) in enumerate(v_range)])

    def near(points):
        skin = np.flatnonzero(part == 0)
        return skin[((x[skin][None] - np.asarray(points, float)[:, None]) ** 2).sum(-1).argmin(1)]

    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    loop = np.stack([-np.cos(angle), np.sin(angle)], 1)
    landmarks = np.concatenate([
        np.stack([np.linspace(-8, 8, 17), -9 + np.linspace(-3, 3, 17) ** 2, np.full(17, 8.0)], 1),
        np.stack([np.linspace(-5, 5, 10), np.full(10, 6.5), np.full(10, 12.0)], 1),
        np.stack([np.zeros(9), np.linspace(4, -1, 9), np.full(9, 13.0)], 1),
        *[np.stack([s * 3 + 1.3 * loop[::2, 0], 4 + 0.6 * loop[::2, 1], np.full(6, 12.0)], 1) for s in (-1,
        1)], np.stack([2.6 * loop[:, 0], -4 + 1.6 * loop[:, 1], np.full(12, 12.0)], 1),
        np.stack([2.0 * loop[:8, 0], -4 + 1.0 * loop[:8, 1], np.full(8, 12.0)], 1),
    ])  # fmt: skip
    anchors = []
    for _ in range(16):
        p = rng.normal(size=3) * [6, 7, 6] + [0, 0, 4]
        anchors += [p * [-1, 1, 1], p]
    anchors += [[0, y, 12] for y in np.linspace(-8, 8, 7)]
    lower = np.clip((-4.0 - x[:, 1]) / 3.0, 0, 1) * (x[:, 2] > 4) * np.isin(part, [0, 2, 5, 6])
    basis = np.zeros((len(EXPRESSIONS), len(x), 3))
    lid = (part == 0) * np.exp(-((np.linalg.norm(x - [3, 4.6, 12], axis=1) / 1.5) ** 2))
    basis[0, :, 1] = -0.8 * lid
    basis[1, :, 1] = -0.8 * (part == 0) * np.exp(-((np.linalg.norm(x - [-3, 4.6, 12], axis=1) / 1.5) ** 2))
    basis[2, :, 0] = 0.2 * lid
    basis[3, :, 1] = -4.0 * lower
    basis[4, :, 1] = 4.0 * lower * (part == 0)
    basis[5, :, 2] = 1.0 * (part == 0) * np.exp(-((np.linalg.norm(x - [0, -4, 12], axis=1) / 2.5) ** 2))
    smooth = rng.normal(size=(IDENTITIES, 3, 4)) * 0.15
    features = np.stack([x[:, 0] / 8, x[:, 1] / 10, (x[:, 2] - 4) / 8, np.ones(len(x))])
    identity = np.einsum("icf,fv->ivc", smooth, features)
    eye_range = [v_range[7], v_range[8]]
    return {
        "neutral": x.astype(np.float32),
        "identity_deltas": identity.astype(np.float16),
        "expression_deltas": basis.astype(np.float16),
        "expression_names": np.array(EXPRESSIONS),
        "faces": f.astype(np.int32),
        "geometry_names": np.array(PARTS),
        "geometry_vertex_range": np.array(v_range, np.int32),
        "geometry_face_range": np.array(f_range, np.int32),
        "eyeball_part_names": np.array(["sclera_left", "sclera_right"]),
        "eyeball_part_vertex_range": np.array(eye_range, np.int32),
        "eyeball_part_face_range": np.array([f_range[7], f_range[8]], np.int32),
        "tooth_vertex_range": np.array(tooth, np.int32),
        "landmarks68": near(landmarks).astype(np.int32),
        "skin_mirror_vertex_ids": np.arange(v_range[1][1], dtype=np.int32),
        "face_visibility": np.full(len(f), 7, np.uint8),
        "neck_cut_point": np.array([0, -12.0, 0], np.float32),
        "neck_cut_normal": np.array([0, 1, 0], np.float32),
        "nphm_scale": np.float32(SCALE),
        "nphm_rotation": np.eye(3, dtype=np.float32),
        "nphm_translation": SHIFT,
        "anchor_vertex_ids_39": near(anchors).astype(np.int32),
        "nphm_canonical_jaw_open": np.float32(0.25),
    }
