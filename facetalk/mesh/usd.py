"""Animated heads as USD: blend shapes for constant topology, points that change with time for a changing one.

``UsdSkel`` as the schema has it: a ``SkelRoot`` with a skeleton of one joint, in the neck of a head that
moves, and one below it for each eye that turns, an animation whose ``blendShapeWeights`` are time samples,
and a mesh per material with a ``BlendShape`` for each shape, of the points that it moves alone. A second has
as many time codes as frames, and frame ``i`` has its sample at ``i + 0.5``, its middle.

The package usd-core takes a while to import, so this module is imported where USD is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from facetalk.arrays import Float32, Float64
from facetalk.mesh.eyes import TurningEye, turn_quaternions
from facetalk.mesh.gltf import Piece, split_by_material
from facetalk.mesh.gltf_json import Json
from facetalk.mesh.materials import Material, srgb_to_linear
from facetalk.mesh.mesh import Mesh
from facetalk.mesh.morphs import MorphTargets
from facetalk.mesh.pose import NECK, quaternions, rotations, translations
from facetalk.mesh.textures import Maps
from facetalk.optional import needed_for

with needed_for("USD"):
    from pxr import Gf, Sdf, Tf, Usd, UsdGeom, UsdMedia, UsdShade, UsdSkel, Vt

_BLOCK = 32
"""Frames that are held in memory before they are written."""


def write_shapes(
    path: Path,
    targets: MorphTargets,
    *,
    fps: float,
    extras: Json,
    pose: Float32 | None = None,
    maps: Mapping[str, Maps] = MappingProxyType({}),
    stem: str = "",
) -> None:
    """Write a sequence of constant topology.

    Args:
        path: .usda, .usdc or .usd to write.
        targets: base mesh, shapes and weights.
        fps: frames per second.
        extras: notes that go into the layer's ``customLayerData``; of ``audio`` a player is made as well.
        pose: (T, 6) where the head is in each frame, or None.
        maps: pictures by material, which are written beside ``path``.
        stem: what the names of pictures will begin with, where they do not begin as ``path`` does.
    """
    stage = _stage(path, fps, len(targets.weights), extras)
    root = UsdSkel.Root.Define(stage, "/talk/head")
    skeleton, animation = _skeleton(stage, (0.0, 0.0, 0.0) if pose is None else NECK, targets.eyes)
    _bind_animation(animation, targets)
    if pose is not None:
        _move(animation, pose, targets.eyes)
    if pose is not None or targets.eyes:
        _turn(animation, pose, targets)
    pieces = split_by_material(targets.base)
    for material, pictures in maps.items():
        for kind, data in pictures.files.items():
            path.with_name(picture_name(path.stem, material, kind)).write_bytes(data)
    low, high = _extent(targets, pose)
    for piece in pieces:
        mesh = _mesh(
            stage,
            f"/talk/head/{piece.material.name}",
            targets.base,
            piece,
            maps.get(piece.material.name),
            stem or path.stem,
        )
        _skin(mesh, skeleton, targets, piece)
        # Of all frames: readers cull by it, and shapes move what is drawn.
        mesh.CreateExtentAttr([Gf.Vec3f(*low), Gf.Vec3f(*high)])
    UsdGeom.Boundable(root).CreateExtentAttr([Gf.Vec3f(*low), Gf.Vec3f(*high)])
    stage.Save()


def write_points(path: Path, meshes: Iterable[Mesh], *, fps: float, extras: Json) -> int:
    """Write meshes whose topology changes: points, faces, normals and colours are time samples.

    Frame ``i`` has its sample where it begins, at time code ``i``, and is shown until the next one, since
    arrays of different lengths are not interpolated.

    Returns:
        The number of frames.
    """
    stage = _stage(path, fps, 0, extras)
    mesh = UsdGeom.Mesh.Define(stage, "/talk/head")
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    mesh.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    mesh.CreateDoubleSidedAttr(True)
    color = mesh.CreateDisplayColorPrimvar(UsdGeom.Tokens.vertex)
    frame = -1
    for frame, content in enumerate(meshes):
        time = float(frame)
        mesh.GetPointsAttr().Set(_vectors(content.vertices), time)
        mesh.GetNormalsAttr().Set(_vectors(content.normals), time)
        mesh.GetFaceVertexCountsAttr().Set(Vt.IntArray([3] * len(content.faces)), time)
        mesh.GetFaceVertexIndicesAttr().Set(Vt.IntArray.FromNumpy(content.faces.reshape(-1)), time)
        if content.colors is not None:
            color.Set(_vectors(srgb_to_linear(content.colors)), time)
        if len(content):
            box = [content.vertices.min(axis=0), content.vertices.max(axis=0)]
            mesh.GetExtentAttr().Set(_vectors(np.array(box, np.float32)), time)
        if frame % _BLOCK == _BLOCK - 1:
            stage.Save()
    stage.SetEndTimeCode(float(frame + 1))
    _note(stage, {**extras, "frames": frame + 1})
    stage.Save()
    return frame + 1


def _stage(path: Path, fps: float, frames: int, extras: Json) -> Any:
    stage = Usd.Stage.CreateNew(str(path))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    stage.SetTimeCodesPerSecond(fps)
    stage.SetFramesPerSecond(fps)
    stage.SetStartTimeCode(0.0)
    stage.SetEndTimeCode(float(frames))
    talk = UsdGeom.Xform.Define(stage, "/talk")
    stage.SetDefaultPrim(talk.GetPrim())
    _note(stage, extras)
    sound = extras.get("audio")
    if sound:
        media = UsdMedia.SpatialAudio.Define(stage, "/talk/sound")
        media.CreateFilePathAttr(Sdf.AssetPath(f"./{sound}"))
        media.CreateAuralModeAttr(UsdMedia.Tokens.nonSpatial)
        media.CreatePlaybackModeAttr(UsdMedia.Tokens.onceFromStart)
    return stage


def _note(stage: Any, extras: Json) -> None:
    stage.GetRootLayer().customLayerData = {"facetalk": dict(extras)}


def _skeleton(stage: Any, place: tuple[float, float, float], eyes: Sequence[TurningEye]) -> tuple[Any, Any]:
    """A skeleton of a joint at a place, those of the eyes below, and its animation, which keeps still."""
    joints = ["root", *(f"root/{eye.name}" for eye in eyes)]
    places = [np.array(place), *(eye.centre for eye in eyes)]
    from_parent = _from_parent(place, eyes)
    skeleton = UsdSkel.Skeleton.Define(stage, "/talk/head/skeleton")
    skeleton.CreateJointsAttr(joints)
    skeleton.CreateBindTransformsAttr(_translated(places))
    skeleton.CreateRestTransformsAttr(_translated(from_parent))
    animation = UsdSkel.Animation.Define(stage, "/talk/head/skeleton/talk")
    UsdSkel.BindingAPI.Apply(skeleton.GetPrim()).CreateAnimationSourceRel().SetTargets([animation.GetPath()])
    animation.CreateJointsAttr(joints)
    animation.CreateTranslationsAttr(_vectors(from_parent))
    animation.CreateRotationsAttr([Gf.Quatf(1.0)] * len(joints))
    animation.CreateScalesAttr([Gf.Vec3h(1.0, 1.0, 1.0)] * len(joints))
    return skeleton, animation


def _from_parent(place: ArrayLike, eyes: Sequence[TurningEye]) -> list[Float64]:
    """Translations of the joints: that of the head, and the eyes' from it."""
    root = np.array(place, np.float64)
    return [root, *(eye.centre - root for eye in eyes)]


def _translated(places: Sequence[Float64]) -> Any:
    return Vt.Matrix4dArray([Gf.Matrix4d(1.0).SetTranslate(Gf.Vec3d(*place.tolist())) for place in places])


def _move(animation: Any, pose: Float32, eyes: Sequence[TurningEye]) -> None:
    """Carry the joint of the head along."""
    places = animation.GetTranslationsAttr()
    for frame, shift in enumerate(translations(pose)):
        joints = _from_parent(NECK, eyes)
        joints[0] = joints[0] + shift
        places.Set(_vectors(joints), frame + 0.5)


def _turn(animation: Any, pose: Float32 | None, targets: MorphTargets) -> None:
    """Turn the joints of the head and of the eyes."""
    frames = len(targets.weights)
    head = np.tile([0.0, 0.0, 0.0, 1.0], (frames, 1)) if pose is None else quaternions(pose)
    joints = np.stack([head, *(turn_quaternions(eye.turns) for eye in targets.eyes)], axis=1)
    turns = animation.GetRotationsAttr()
    for frame, row in enumerate(joints.tolist()):
        turns.Set(Vt.QuatfArray([Gf.Quatf(w, x, y, z) for x, y, z, w in row]), frame + 0.5)


def _bind_animation(animation: Any, targets: MorphTargets) -> None:
    animation.CreateBlendShapesAttr(list(targets.names))
    weights = animation.CreateBlendShapeWeightsAttr()
    weights.Set(Vt.FloatArray.FromNumpy(targets.rest.astype(np.float32)))
    for frame, row in enumerate(targets.weights):
        weights.Set(Vt.FloatArray.FromNumpy(np.ascontiguousarray(row, np.float32)), frame + 0.5)


def _mesh(stage: Any, place: str, base: Mesh, piece: Piece, maps: Maps | None, stem: str) -> Any:
    mesh = UsdGeom.Mesh.Define(stage, place)
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    mesh.CreateDoubleSidedAttr(True)
    mesh.CreatePointsAttr(_vectors(base.vertices[piece.rows]))
    mesh.CreateNormalsAttr(_vectors(base.normals[piece.rows]))
    mesh.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    mesh.CreateFaceVertexCountsAttr(Vt.IntArray([3] * len(piece.faces)))
    mesh.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(np.ascontiguousarray(piece.faces.reshape(-1))))
    if base.colors is not None:
        color = mesh.CreateDisplayColorPrimvar(UsdGeom.Tokens.vertex)
        color.Set(_vectors(srgb_to_linear(base.colors[piece.rows])))
    material = _material(stage, piece.material, base.colors is None)
    if maps is not None and piece.uv is not None:
        place_on = UsdGeom.PrimvarsAPI(mesh).CreatePrimvar(
            "st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.vertex
        )
        place_on.Set(Vt.Vec2fArray.FromNumpy(np.ascontiguousarray(piece.uv, np.float32)))
        _add_maps(stage, piece.material, maps, stem)
    UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim()).Bind(material)
    return mesh


def picture_name(stem: str, material: str, kind: str) -> str:
    """Name of a picture beside ``stem``'s file; ``kind`` is as :class:`Maps` calls it."""
    return f"{stem}.{material}_{kind}.png"


def _add_maps(stage: Any, material: Material, maps: Maps, stem: str) -> None:
    """Connect the pictures of a material to its surface (UsdPreviewSurface, section "Texture Reader")."""
    root = f"/talk/materials/{material.name}"
    surface = UsdShade.Shader(stage.GetPrimAtPath(f"{root}/surface"))
    types, float4 = Sdf.ValueTypeNames, Sdf.ValueTypeNames.Float4
    reader = UsdShade.Shader.Define(stage, f"{root}/place")
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", types.String).Set("st")
    st = reader.CreateOutput("result", types.Float2)

    def texture(kind: str, space: str) -> Any:
        shader = UsdShade.Shader.Define(stage, f"{root}/{kind}_map")
        shader.CreateIdAttr("UsdUVTexture")
        shader.CreateInput("file", types.Asset).Set(
            Sdf.AssetPath(f"./{picture_name(stem, material.name, kind)}")
        )
        shader.CreateInput("st", types.Float2).ConnectToSource(st)
        shader.CreateInput("sourceColorSpace", types.Token).Set(space)
        for wrap in ("wrapS", "wrapT"):
            shader.CreateInput(wrap, types.Token).Set("clamp")
        return shader

    color = texture("color", "sRGB")
    surface.CreateInput("diffuseColor", types.Color3f).ConnectToSource(
        color.CreateOutput("rgb", types.Float3)
    )
    if maps.roughness is not None:
        rough = texture("roughness", "raw")
        rough.CreateInput("scale", float4).Set(Gf.Vec4f(*[material.roughness] * 3, 1.0))
        out = rough.CreateOutput("r", types.Float)
        surface.CreateInput("roughness", types.Float).ConnectToSource(out)
    if maps.normal is not None:
        bent = texture("normal", "raw")
        bent.CreateInput("scale", float4).Set(Gf.Vec4f(2.0, 2.0, 2.0, 1.0))
        bent.CreateInput("bias", float4).Set(Gf.Vec4f(-1.0, -1.0, -1.0, 0.0))
        out = bent.CreateOutput("rgb", types.Float3)
        surface.CreateInput("normal", types.Normal3f).ConnectToSource(out)


def _skin(mesh: Any, skeleton: Any, targets: MorphTargets, piece: Piece) -> None:
    """Bind a mesh to the skeleton, with a blend shape for each target that moves it."""
    stage, place = mesh.GetPrim().GetStage(), mesh.GetPath()
    binding = UsdSkel.BindingAPI.Apply(mesh.GetPrim())
    binding.CreateSkeletonRel().SetTargets([skeleton.GetPath()])
    joints = np.zeros(len(targets.base), np.int32)
    for number, eye in enumerate(targets.eyes):
        joints[eye.rows] = number + 1
    mine = joints[piece.rows]
    rigid = not mine.any()  # to the head as a whole
    binding.CreateJointIndicesPrimvar(rigid, 1).Set(Vt.IntArray.FromNumpy(mine[:1] if rigid else mine))
    binding.CreateJointWeightsPrimvar(rigid, 1).Set(Vt.FloatArray([1.0] * (1 if rigid else len(mine))))
    names, paths = [], []
    for number, name in enumerate(targets.names):
        moved = np.flatnonzero(targets.touched[number][piece.rows])
        if not len(moved):
            continue
        rows = piece.rows[moved]
        shape = UsdSkel.BlendShape.Define(stage, place.AppendChild(Tf.MakeValidIdentifier(name)))
        shape.CreateOffsetsAttr(_vectors(targets.shapes[number][rows]))
        shape.CreateNormalOffsetsAttr(_vectors(targets.normals[number][rows]))
        shape.CreatePointIndicesAttr(Vt.IntArray.FromNumpy(moved.astype(np.int32)))
        names.append(name)
        paths.append(shape.GetPath())
    binding.CreateBlendShapesAttr(names)
    binding.CreateBlendShapeTargetsRel().SetTargets(paths)


def _material(stage: Any, material: Material, paint: bool) -> Any:
    place = f"/talk/materials/{material.name}"
    made = UsdShade.Material.Define(stage, place)
    shader = UsdShade.Shader.Define(stage, f"{place}/surface")
    shader.CreateIdAttr("UsdPreviewSurface")
    shader.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(material.roughness)
    color = shader.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f)
    if paint:
        color.Set(Gf.Vec3f(*srgb_to_linear(np.rint(material.color)).tolist()))
    else:
        reader = UsdShade.Shader.Define(stage, f"{place}/color")
        reader.CreateIdAttr("UsdPrimvarReader_float3")
        reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("displayColor")
        color.ConnectToSource(reader.CreateOutput("result", Sdf.ValueTypeNames.Float3))
    made.CreateSurfaceOutput().ConnectToSource(shader.CreateOutput("surface", Sdf.ValueTypeNames.Token))
    return made


def _extent(targets: MorphTargets, pose: Float32 | None) -> tuple[list[float], list[float]]:
    """A box around all frames: the base, the largest that each shape does to it either way, and its corners
    wherever the head is."""
    used = targets.weights.max(axis=0, initial=0.0)[:, None, None] * targets.shapes
    low = targets.base.vertices + np.minimum(used, 0.0).sum(axis=0)
    high = targets.base.vertices + np.maximum(used, 0.0).sum(axis=0)
    for eye in targets.eyes:
        reach = np.linalg.norm(targets.base.vertices[eye.rows] - eye.centre, axis=1).max(initial=0.0)
        low, high = np.vstack([low, eye.centre - reach]), np.vstack([high, eye.centre + reach])
    box = np.stack([low.min(axis=0), high.max(axis=0)])
    if pose is not None:
        corners = np.stack(np.meshgrid(*box.T, indexing="ij"), axis=-1).reshape(-1, 3) - NECK
        placed = corners @ np.swapaxes(rotations(pose), 1, 2) + NECK + translations(pose)[:, None]
        placed = np.concatenate([placed.reshape(-1, 3), box])
        box = np.stack([placed.min(axis=0), placed.max(axis=0)])
    return box[0].tolist(), box[1].tolist()


def _vectors(values: Any) -> Any:
    return Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(values, np.float32))
