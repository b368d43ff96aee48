"""Maps of the built-in head: everything is painted, the same each time, in the colours of the vertices."""

import dataclasses
import pickle
import tracemalloc

import numpy as np
import pytest

from facetalk import ops
from facetalk.cli._identity import read_identity
from facetalk.errors import InputError
from facetalk.mesh import Mesh, strips
from facetalk.mesh.gltf import split_by_material
from facetalk.mesh.textures import checked_size
from facetalk.models import find_model
from facetalk.nphm.head.albedo import PALETTE
from facetalk.nphm.head.complexion import chance_of, paint_template, palette_of
from facetalk.nphm.head.hair import hair_cover, hair_depth
from facetalk.nphm.head.head import HeadModel
from facetalk.nphm.head.maps import canvas as canvas_module
from facetalk.nphm.head.maps.canvas import Canvas
from facetalk.nphm.head.maps.layout import Ground, ground, picture_size, spread
from facetalk.nphm.head.maps.skin_plan import plan_skin
from facetalk.nphm.head.regions import Region

SIZE = 512


@pytest.fixture(scope="module")
def head():
    return HeadModel.open(find_model("default").folder / "head")


@pytest.fixture(scope="module")
def maps(head):
    return head.tables.canvas.paint(PALETTE, 0, SIZE)


@pytest.fixture(scope="module")
def grounds(head):
    canvas = head.tables.canvas
    return {
        name: ground(head.tables.mesh, canvas.uv, name, picture_size(name, SIZE))
        for name in ("skin", "eyes", "teeth")
    }


def sampled(picture, uv):
    """Colours between the four texels around places, v upwards."""
    h, w = picture.shape[:2]
    x = np.clip(uv[..., 0] * w - 0.5, 0, w - 1.001)
    y = np.clip((1.0 - uv[..., 1]) * h - 0.5, 0, h - 1.001)
    i, j = x.astype(int), y.astype(int)
    s, t = (x - i)[..., None], (y - j)[..., None]
    top = picture[j, i] * (1 - s) + picture[j, i + 1] * s
    return top * (1 - t) + (picture[j + 1, i] * (1 - s) + picture[j + 1, i + 1] * s) * t


@pytest.mark.parametrize("material", ["skin", "teeth"])
def test_every_face_lies_on_texels_of_its_own(head, grounds, material):
    """The middle of each face is on a texel that was painted for what lies there, at half the usual size."""
    mesh, uv, under = head.tables.mesh, head.tables.canvas.uv, grounds[material]
    h, w = under.shape
    mine = np.isin(mesh.part[mesh.faces()], (0,) if material == "skin" else (2, 3)).all(axis=1)
    middle = uv[mesh.corners[0][mine]].mean(axis=1)
    texel = ((1.0 - middle[:, 1]) * h).astype(int) * w + (middle[:, 0] * w).astype(int)
    assert np.isin(texel, under.texels).all()
    place = np.full((h * w, 3), np.nan, np.float32)
    place[under.texels] = under.of(mesh.vertices)
    wanted = mesh.vertices[mesh.faces()[mine]].mean(axis=1)
    if material == "teeth":  # left and right teeth share their places
        place, wanted = np.abs(place), np.abs(wanted)
    assert np.linalg.norm(place[texel] - wanted, axis=1).max() < 0.04  # 1 cm: a wrong island is farther


def test_islands_do_not_overlap(head, grounds):
    """Whichever face is asked first, a texel shows the same place of the head."""
    mesh, uv, under = head.tables.mesh, head.tables.canvas.uv, grounds["skin"]
    turned = dataclasses.replace(mesh, corners=(mesh.corners[0][::-1].copy(), *mesh.corners[1:]))
    other = ground(turned, uv, "skin", under.shape)
    np.testing.assert_array_equal(under.texels, other.texels)
    apart = np.linalg.norm(under.of(mesh.vertices) - other.of(mesh.vertices), axis=1)
    assert apart.max() < 0.03


def test_painting_is_the_same_each_time(head, maps):
    fresh = Canvas(head.tables.mesh, head.tables.linear["landmarks_mean"])
    again = pickle.loads(pickle.dumps(fresh)).paint(PALETTE, 0, SIZE)
    for name, found in maps.items():
        for kind in ("color", "normal", "roughness"):
            one, two = getattr(found, kind), getattr(again[name], kind)
            assert one is two is None or np.array_equal(one, two)
    other = fresh.paint(PALETTE, 1, SIZE)
    assert (other["skin"].color != maps["skin"].color).mean() > 0.1
    assert (other["eyes"].color != maps["eyes"].color).mean() > 0.05
    assert fresh.paint(PALETTE, 1, SIZE) is other  # kept


@pytest.mark.parametrize("threads", [1, 3])
def test_strips_change_nothing(head, maps, monkeypatch, threads):
    """Pictures and their files are the same in strips of another size and by any number of threads."""
    before = ops.threads()
    monkeypatch.setattr(strips, "STRIP", 5003)
    try:
        ops.set_threads(threads)
        again = Canvas(head.tables.mesh, head.tables.linear["landmarks_mean"]).paint(PALETTE, 0, SIZE)
    finally:
        ops.set_threads(before)
    for name, found in maps.items():
        assert again[name].files == found.files
        for kind in ("color", "normal", "roughness"):
            one, two = getattr(found, kind), getattr(again[name], kind)
            assert one is two is None or np.array_equal(one, two)


def test_no_step_holds_whole_pictures_over_and_over(head, monkeypatch):
    """What is computed of all texels at once is what stays: beside it there are strips."""
    monkeypatch.setattr(strips, "STRIP", 1 << 13)
    canvas = Canvas(head.tables.mesh, head.tables.linear["landmarks_mean"])
    _ = canvas.uv
    tracemalloc.start()
    canvas.paint(PALETTE, 0, 512)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 * 512 * 512  # bytes of a texel, of which a plan keeps 64


def test_painting_is_shown_where_somebody_waits(head, monkeypatch, capsys):
    """Large pictures take a while: a bar counts what is painted."""
    told = []

    class Bar(canvas_module.tqdm):
        def __init__(self, *words, **options):
            told.append(options)
            super().__init__(*words, **options | {"disable": False, "delay": 0.0, "mininterval": 0.0})

    monkeypatch.setattr(canvas_module, "tqdm", Bar)
    canvas = Canvas(head.tables.mesh, head.tables.linear["landmarks_mean"])
    canvas.paint(PALETTE, 0, 256)
    assert told[0]["disable"] is None and told[0]["total"] == 6
    assert "paint textures: 100%" in capsys.readouterr().err
    canvas.paint(PALETTE, 1, 256)
    assert "paint textures: 100%" in capsys.readouterr().err


@pytest.mark.parametrize("seed", [None, 0, 6])
def test_colours_are_those_of_the_vertices(head, seed):
    """Means of regions agree: the same complexion, however fine it is painted."""
    code = head.default_identity if seed is None else read_identity(f"random:{seed}", head)
    coefficients = head.coefficients(code)
    canvas, mesh = head.tables.canvas, head.tables.mesh
    palette = palette_of(coefficients)
    painted = canvas.paint(palette, chance_of(coefficients), SIZE)
    plain = paint_template(mesh, head.tables.linear["landmarks_mean"], palette).astype(float)
    names = {0: "skin", 1: "eyes", 2: "teeth", 3: "teeth"}
    place = np.zeros((len(mesh.vertices), 2), np.float32)
    place[mesh.uv_vertex] = canvas.uv
    shown = np.zeros_like(plain)
    for part, name in names.items():
        mine = mesh.part == part
        shown[mine] = sampled(painted[name].color.astype(float), place[mine])
    for region in Region:
        mine = mesh.region == region
        off = np.abs(shown[mine].mean(axis=0) - plain[mine].mean(axis=0))
        assert off.max() < (12.0 if region == Region.EYEBALL else 7.0), (region.name, off)


def test_seams_have_one_colour_on_both_sides(head, maps):
    """Where a vertex lies in two places of the picture it has nearly the same colour in both."""
    mesh, uv = head.tables.mesh, head.tables.canvas.uv
    colors = sampled(maps["skin"].color.astype(float), uv)
    skin = np.flatnonzero(mesh.region[mesh.uv_vertex] == Region.SKIN)
    order = skin[np.argsort(mesh.uv_vertex[skin], kind="stable")]
    same = np.flatnonzero(np.diff(mesh.uv_vertex[order]) == 0)
    off = np.abs(colors[order[same]] - colors[order[same + 1]]).max(axis=1)
    y = mesh.vertices[mesh.uv_vertex[order[same]]]
    lips = (y[:, 2] > 0.1) & (np.abs(y[:, 0]) < 0.15)
    assert len(off) > 300 and np.quantile(off[~lips], 0.95) < 12.0 and off[~lips].mean() < 4.0


def test_islands_are_spread_beyond_their_edges(maps, grounds):
    """Halves of the picture do not mix in what lies outside, which has the colours of what is near."""
    under = grounds["skin"]
    covered = np.zeros(under.shape, bool).reshape(-1)
    covered[under.texels] = True
    covered = covered.reshape(under.shape)
    near = ~covered & (np.roll(covered, 1, 1) | np.roll(covered, -1, 1))
    left = np.where(np.roll(covered, 1, 1)[..., None], np.roll(maps["skin"].color, 1, 1), 0).astype(int)
    right = np.where(np.roll(covered, -1, 1)[..., None], np.roll(maps["skin"].color, -1, 1), 0).astype(int)
    off = np.minimum(np.abs(maps["skin"].color - left), np.abs(maps["skin"].color - right)).max(axis=2)
    assert near.sum() > 200 and np.quantile(off[near], 0.9) < 30
    assert maps["skin"].color.min(axis=2).min() > 4  # nothing is black


def test_normals_are_unit_and_point_outwards(maps):
    normal = maps["skin"].normal.astype(float) / 127.5 - 1.0
    assert np.abs(np.linalg.norm(normal, axis=2) - 1.0).max() < 0.01
    assert normal[..., 2].min() > 0.5
    assert 0.005 < np.abs(normal[..., :2]).mean() < 0.2
    assert np.abs(normal[..., :2].mean(axis=(0, 1))).max() < 0.01


def test_lips_are_crisp_and_redder_than_skin(head):
    """The vermilion line: from skin to lip within two millimetres, where vertices take four."""
    canvas, mesh = head.tables.canvas, head.tables.mesh
    color = canvas.paint(PALETTE, 0, 1024)["skin"].color.astype(float)
    under = ground(mesh, canvas.uv, "skin", (1024, 1024))
    place, flat = under.of(mesh.vertices), color.reshape(-1, 3)[under.texels]
    marks = head.tables.linear["landmarks_mean"]
    top = marks[51]
    column = (np.abs(place[:, 0] - top[0]) < 0.004) & (place[:, 2] > 0.1)
    height = (place[:, 1] - top[1])[column] * 250.0
    red = flat[column, 0] - flat[column, 1]
    above, below = red[(height > 1.2) & (height < 3)].mean(), red[(height < -1.2) & (height > -3)].mean()
    assert below > above + 15


def test_hairs_and_fibres_are_there(maps):
    """What vertices two millimetres apart cannot show: brows vary within a millimetre, and so do irises."""
    skin = maps["skin"].color.astype(int)
    assert np.abs(np.diff(skin[60:90, 120:380], axis=1)).max() > 40
    eye = maps["eyes"].color.astype(int)
    side = len(eye)
    angle = np.linspace(0, 2 * np.pi, 400)
    ring = [np.rint(side / 2 + 0.17 * side * f(angle)).astype(int) for f in (np.sin, np.cos)]
    assert eye[ring[0], ring[1]].std(axis=0).max() > 12
    assert eye[side // 2, side // 2].max() < 30  # the pupil


def test_hair_is_cropped_on_the_scalp_alone(head):
    """Crown, sides and nape have it; forehead, face, ears and neck do not; left and right are alike."""
    mesh, marks = head.tables.mesh, head.tables.linear["landmarks_mean"]
    x = mesh.vertices[mesh.region == Region.SKIN]
    grows, thick = hair_cover(hair_depth(x), x)
    assert grows.min() >= 0.0 and grows.max() <= 1.0 and thick.min() > 0.4 and thick.max() <= 1.0
    crown, back = x[:, 1] > 0.45, (x[:, 2] < -0.45) & (x[:, 1] > -0.1)
    assert grows[crown].min() > 0.95 and grows[back].min() > 0.95 and thick[crown].mean() > 0.95
    face = (x[:, 2] > 0.0) & (x[:, 1] < marks[19:25, 1].mean() + 0.08) & (np.abs(x[:, 0]) < 0.2)
    ears = (np.abs(x[:, 0]) > 0.335) & (x[:, 1] < 0.08)
    neck = x[:, 1] < -0.32
    for bare in (face, ears, neck):
        assert bare.sum() > 50 and grows[bare].max() == 0.0
    assert abs(grows[x[:, 0] > 0.01].mean() - grows[x[:, 0] < -0.01].mean()) < 0.02


def test_hair_sets_in_over_a_centimetre_strand_by_strand(head, grounds):
    """A hairline is no line: hair gets thicker bit by bit, and strands stand beside bare skin."""
    under = grounds["skin"]
    plan = plan_skin(head.tables.mesh, head.tables.linear["landmarks_mean"], head.tables.canvas.uv, under)
    depth = under.of(hair_depth(head.tables.mesh.vertices))
    assert not plan.texels.cover[depth < -0.065].any()
    bands = np.digitize(depth, np.arange(-0.05, 0.055, 0.01))
    cover = [plan.texels.cover[bands == band] for band in range(1, 11)]
    means = np.array([values.mean() for values in cover])
    assert min(map(len, cover)) > 200 and means[0] < 0.06 and means[-1] > 0.6
    assert np.diff(means).min() > 0.0 and np.diff(means).max() < 0.16
    assert min(values.std() for values in cover[2:8]) > 0.05
    inside = depth > 0.15
    assert plan.texels.cover[inside].mean() > 0.9 and plan.texels.strand[inside].std() > 0.15


def test_the_texture_fits_every_level(head):
    person = head.bind()
    for level in range(3):
        mesh, _ = person.rig(level)
        base = Mesh(mesh.vertices, mesh.faces, part=mesh.part, texture=mesh.texture)
        assert base.texture.uv.min() >= 0.0 and base.texture.uv.max() <= 1.0
        pieces = split_by_material(base)
        assert [piece.material.name for piece in pieces] == ["skin", "eyes", "teeth"]
        for piece in pieces:
            assert len(piece.uv) == len(piece.rows) and piece.faces.max() == len(piece.rows) - 1
        assert sum(len(piece.faces) for piece in pieces) == len(mesh.faces)
    with pytest.raises(ValueError, match="texture"):
        dataclasses.replace(base, faces=base.faces[::-1])


@pytest.mark.parametrize("size", [0, 1000, 8192, True, 512.0, "1024"])
def test_sizes_are_checked(size):
    with pytest.raises(InputError, match="size of textures"):
        checked_size(size)


def test_spread_fills_from_around():
    picture = np.zeros((8, 8, 3), np.float32)
    covered = np.zeros((8, 8), bool)
    covered[:2, :2] = covered[6:, 6:] = True
    picture[:2, :2], picture[6:, 6:] = 10.0, 20.0
    found = spread(picture, covered)
    assert (found[covered] == picture[covered]).all()
    assert (found[2, 2] == 10.0).all() and (found[5, 5] == 20.0).all() and (found[0, 7] == 15.0).all()
    assert spread(picture, np.zeros((8, 8), bool)) is picture


def test_texels_without_a_face_are_filled():
    under = Ground(
        (2, 2), np.array([0], np.int32), np.zeros((1, 3), np.int32), np.ones((1, 3), np.float32) / 3
    )
    assert (under.picture(np.array([7.0], np.float32)) == 7.0).all()


def test_an_earlier_processs_maps_are_used(head, tmp_path, monkeypatch):
    """Kept maps are those that were painted, of that person and size alone; damaged ones are painted anew."""
    monkeypatch.setenv("FACETALK_CACHE", str(tmp_path))
    tables, painted = head.tables, []

    def fresh():
        canvas = Canvas(tables.mesh, tables.linear["landmarks_mean"])
        paint = canvas._paint
        monkeypatch.setattr(canvas, "_paint", lambda *asked: (painted.append(asked[1]), paint(*asked))[1])
        return canvas

    first = fresh().paint(PALETTE, 3, 256)
    assert painted == [3] and len(list((tmp_path / "maps").glob("*.safetensors"))) == 1
    again = fresh().paint(PALETTE, 3, 256)
    assert painted == [3] and list(again) == list(first)
    for material, maps in first.items():
        assert again[material].files == maps.files
        for kind in ("color", "normal", "roughness"):
            np.testing.assert_array_equal(getattr(again[material], kind), getattr(maps, kind))
    other = fresh()
    other.paint(PALETTE, 4, 256)
    other.paint(dataclasses.replace(PALETTE, lips=(1, 2, 3)), 3, 256)
    other.paint(PALETTE, 3, 512)
    assert painted == [3, 4, 3, 3]
    for file in (tmp_path / "maps").glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-100])
    fresh().paint(PALETTE, 3, 256)
    assert painted == [3, 4, 3, 3, 3]
    monkeypatch.setenv("FACETALK_CACHE", "")
    fresh().paint(PALETTE, 3, 256)
    assert painted == [3, 4, 3, 3, 3, 3]
