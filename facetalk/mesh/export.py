"""Writing mesh sequences to files, by suffix."""

from __future__ import annotations

import dataclasses
import importlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from tqdm import tqdm

from facetalk.arguments import real_number
from facetalk.arrays import Float32
from facetalk.errors import InputError
from facetalk.files import atomic_path, check_not_input, check_replaceable
from facetalk.mesh import gltf, morphs, png
from facetalk.mesh.arkit import NAMINGS, ShapeNames, in_arkit
from facetalk.mesh.materials import MATERIALS
from facetalk.mesh.mesh import Mesh
from facetalk.mesh.ply import is_sequence, write_sequence
from facetalk.mesh.pose import checked_pose, moved
from facetalk.mesh.rig_fit import as_rig
from facetalk.mesh.sequence import RiggedSequence
from facetalk.mesh.sound import Source, write_wav
from facetalk.mesh.sound_beside import (
    Sound,
    check_beside,
    check_pad,
    file_of,
    is_beside,
    sound_place,
    write_sound,
)
from facetalk.mesh.textures import DEFAULT_SIZE, KINDS, Maps, checked_size

USD_SUFFIXES = (".usda", ".usdc", ".usd")
"""Text, binary, and binary."""

SUFFIXES = (".glb", ".vrm", *USD_SUFFIXES, ".ply")
_GLTF = (".glb", ".vrm")
_MORPHING = (*_GLTF, *USD_SUFFIXES)


def export(
    path: str | os.PathLike[str],
    meshes: RiggedSequence | Iterable[Mesh],
    *,
    fps: float,
    audio: Source | None = None,
    tolerance_mm: float = 0.1,
    quantize: bool = False,
    basis: morphs.Basis | None = None,
    shapes: ShapeNames | None = None,
    pad: tuple[float, float] = (0.0, 0.0),
    pose: ArrayLike | None = None,
    sound: Sound = "wav",
    texture_size: int | None = None,
    force: bool = False,
) -> Path:
    """Write an animation.

    ``.glb``: one binary glTF 2.0. Meshes of constant topology become morph targets with an animation of
    their weights, which lie in [0, 1]; the key of frame ``i`` is at ``(i + 0.5) / fps`` seconds, and
    ``asset.extras`` states the frame rate, the number of frames, the recording and the
    largest vertex error in millimetres. Meshes whose topology changes (marching cubes) become one node per
    frame, shown in turn; such a file is as large as its frames are.

    A head that moves (``pose``) hangs on a node in its neck, ``neck``, whose rotation and translation have
    keys at the same times; what meshes of changing topology, and ``.ply``, show is where the head is.

    ``.vrm``: the same as an avatar: VRM 1.0, with preset expressions and one for each shape; the bone of the
    head is what moves.

    ``.usda``, ``.usdc``, ``.usd``: blend shapes of ``UsdSkel`` with time samples, or points that change with
    time where the topology does (package usd-core). Textures lie beside it as ``talk.skin_color.png`` and so
    on, of which the same holds as of the sound.

    ``.ply``: a folder ``talk.ply/`` with ``frame_00000.ply`` and so on, binary, with normals and colours. A
    folder that is there already is replaced if it is empty or holds only what was written like this.

    The recording goes beside it as ``talk.wav`` (inside the folder for ``.ply``): the samples of a WAV file
    as they are, others in 16 bits; or as its own file (``sound``). A sound that facetalk did not write, or
    that was changed since, is not replaced; one that is the recording itself stays as it is. Everything is
    written under another name and renamed at the end: a failure leaves nothing behind, an older file of that
    name stays as it was.

    Args:
        path: output; its folder has to exist.
        meshes: a rig, or any iterable of meshes (read once, frame by frame).
        fps: frames per second.
        audio: recording to put beside it, a path or (samples, rate).
        tolerance_mm: largest distance of any vertex of any frame from where it should be, for ``.glb``.
        quantize: 16-bit morph targets of a ``.glb`` or ``.vrm``, a smaller file, for readers of
            KHR_mesh_quantization, which Unreal up to 5.4 and Godot 3 lack; False: floats.
        basis: morph targets: ``"shapes"`` are the rig's own under its own names, the same for
            every clip of a head; ``"pca"`` the principal components of this motion, fewer and smaller,
            called ``motion_0`` and so on. None: the shapes of a rig that names them, else the components.
        shapes: ``"arkit"``: morph targets are Apple ARKit's 52 blendshapes, as far as the rig has them, in
            the order of :data:`facetalk.mesh.arkit.ARKIT_NAMES`: halves are one target, with the mean of
            their weights, and what has another name is left out. The tolerance does not count what that
            loses, ``vertex_error_mm`` does. None: the rig's own shapes.
        pad: seconds of silence before and after the recording, as ``Motion.pad`` has them.
        pose: (T, 6) where the head is in each frame, as ``Motion.pose`` has it; None: what a
            ``RiggedSequence`` says, else a head that keeps still.
        sound: ``"wav"``; or ``"original"``: the recording's own file, copied byte for byte as ``talk.mp3``
            (or what its suffix is), where players of glTF read it and no silence is put around it; not for
            ``.ply``.
        texture_size: pixels along a side of the skin's maps, of ``facetalk.mesh.textures.SIZES``, where the
            meshes have some; 0 writes colours of vertices instead. None: 1024. Meshes without any take no
            size.
        force: replace the folder, or the files beside, whatever they hold.

    Returns:
        The path written.

    Raises:
        InputError: unknown suffix, missing or full folder, no frames, unreadable recording, a bad number, or
            something would be replaced that facetalk did not write.
    """
    out = check_output(path, audio=audio, sound=sound, force=force)
    pad = (check_pad(out, audio, pad[0], sound), check_pad(out, audio, pad[1], sound))
    suffix = out.suffix.lower()
    fps, tolerance_mm = real_number("fps", fps), real_number("tolerance_mm", tolerance_mm)
    if not 0.0 < fps <= 1000.0:
        raise InputError(f"fps must lie in (0, 1000], got {fps:g}")
    if tolerance_mm <= 0.0:
        raise InputError(f"the tolerance must be a positive number of millimetres, got {tolerance_mm:g}")
    size = DEFAULT_SIZE if texture_size is None else checked_size(texture_size) if texture_size else 0
    if basis not in (None, *morphs.BASES):
        raise InputError(f"basis must be one of {', '.join(morphs.BASES)}, got {basis!r}")
    if basis is not None and suffix == ".ply":
        raise InputError(f"basis is for morph targets; a {suffix} has none")
    if shapes not in (None, *NAMINGS):
        raise InputError(f"shapes must be one of {', '.join(NAMINGS)}, or None, got {shapes!r}")
    if shapes is not None and suffix not in _MORPHING:
        raise InputError(f"shapes is for the morph targets of {', '.join(_MORPHING)}; a {suffix} has none")
    if shapes is not None and basis == "pca":
        raise InputError("shapes names the rig's own; principal components have no names: leave out one")
    if texture_size is not None and suffix == ".ply":
        raise InputError("texture_size is for .glb, .vrm and USD; a .ply has colours of vertices")
    if quantize and suffix not in _GLTF:
        raise InputError(f"quantize is for {' and '.join(_GLTF)}; a {suffix} has floats")
    if isinstance(meshes, RiggedSequence):
        if not len(meshes):
            raise InputError("there are no frames to write")
        pose = meshes.pose if pose is None else pose
    lost = 0.0
    if shapes is not None:
        meshes, lost = in_arkit(meshes)
    elif not isinstance(meshes, RiggedSequence):
        meshes = _only_meshes(meshes)
    rows = None if pose is None else checked_pose(pose, len(np.asarray(pose)))
    if suffix == ".ply":
        with atomic_path(out, directory=True, ours=None if force else is_sequence) as folder:
            if audio is not None:
                write_wav(folder / out.with_suffix(".wav").name, audio, pad)
            shown = tqdm(_moved(meshes, rows), "write", disable=None, leave=False)
            if not write_sequence(folder, shown):
                raise InputError("there are no frames to write")
        return out
    beside = None if audio is None else sound_place(out, audio, sound)
    with atomic_path(out, beside=[*([] if beside is None else [beside]), *_pictures(out)]) as temporary:
        # A recording that already lies in the right place is the user's own: it is named, never rewritten.
        if audio is not None and beside is not None and not is_beside(audio, out, sound):
            # Before the meshes: a bad recording should not cost the time of writing them.
            write_sound(temporary.with_suffix(beside.suffix), audio, sound, pad)
        extras: dict[str, object] = {"fps": fps}
        if beside is not None:
            extras["audio"] = beside.name
        if shapes is not None:
            extras["shapes"] = shapes
        textured = texture_size is not None
        _write_file(
            temporary,
            meshes,
            fps,
            tolerance_mm,
            quantize,
            basis,
            extras,
            rows,
            size,
            textured,
            out.stem,
            lost,
        )
    return out


def _only_meshes(meshes: object) -> Iterator[Mesh]:
    """Meshes one by one.

    Raises:
        InputError: there is something else, or one mesh that is in nothing.
    """
    if not isinstance(meshes, Iterable):
        hint = "; of one mesh give [mesh]" if isinstance(meshes, Mesh) else ""
        raise InputError(f"meshes must be a sequence of facetalk.Mesh, got {type(meshes).__name__}{hint}")

    def each() -> Iterator[Mesh]:
        for mesh in meshes:
            if not isinstance(mesh, Mesh):
                raise InputError(f"meshes must be a sequence of facetalk.Mesh, and {mesh!r:.80} is none")
            yield mesh

    return each()


def check_output(
    path: str | os.PathLike[str], *, audio: Source | None = None, sound: Sound = "wav", force: bool = False
) -> Path:
    """Return ``path`` after checking that :func:`export` could write there, before the work is done.

    Raises:
        InputError: as :func:`export`, as far as it can be told without the meshes.
    """
    out = Path(path)
    suffix = out.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"cannot write {out}: suffix {suffix!r} is not one of {', '.join(SUFFIXES)}")
    if suffix in USD_SUFFIXES:
        _usd()
    file = file_of(audio)
    if file is not None:
        check_not_input(out, file)
    if suffix == ".ply":
        if sound != "wav":
            raise InputError(f"sound is for a file with its sound beside; {out} is a folder")
        return check_replaceable(out, directory=True, ours=None if force else is_sequence)
    check_replaceable(out)
    if audio is not None:
        check_beside(out, audio, sound, force=force)
    elif sound != "wav":
        raise InputError("--sound original (sound=) needs a recording; name it by --audio (audio=)")
    for picture in _pictures(out):
        check_replaceable(picture)
        if os.path.lexists(picture) and not force and not png.is_ours(picture):
            raise InputError(
                f"cannot write {picture}, a texture of {out.name}: facetalk did not write the file that is "
                f"there, or it was changed since; choose another -o, or replace it with --force (force=True)"
            )
    return out


def _pictures(out: Path) -> list[Path]:
    """Pictures that may be written beside a file, which for USD are files of their own."""
    if out.suffix.lower() not in USD_SUFFIXES:
        return []
    names = [_usd().picture_name(out.stem, material, kind) for material in MATERIALS for kind in KINDS]
    return [out.with_name(name) for name in names]


def _usd() -> Any:
    """The writer of USD, whose package is optional and slow to import."""
    return importlib.import_module("facetalk.mesh.usd")


def _write_file(
    path: Path,
    meshes: RiggedSequence | Iterable[Mesh],
    fps: float,
    tolerance_mm: float,
    quantize: bool,
    basis: morphs.Basis | None,
    extras: dict[str, object],
    pose: Float32 | None,
    size: int,
    textured: bool,
    stem: str,
    lost: float,
) -> None:
    """Write meshes whose vertices are off by ``lost`` metres already, which the tolerance does not count."""
    tolerance, fitted = tolerance_mm * 1e-3, 0.0
    if isinstance(meshes, RiggedSequence):
        rig = meshes
    else:
        result = as_rig(iter(meshes), 0.3 * tolerance)
        if not isinstance(result, tuple):
            if textured:
                raise InputError(
                    "texture_size is for meshes of one topology; those of marching cubes have colours of "
                    "vertices"
                )
            if basis is not None:
                raise InputError(
                    "basis is for meshes of one topology; those of marching cubes have no morphs"
                )
            if path.suffix.lower() == ".vrm":
                raise InputError(
                    "an avatar has one mesh that moves: leave out marching cubes, or write a .glb"
                )
            write = gltf.write_flipbook if path.suffix.lower() == ".glb" else _usd().write_points
            write(path, _moved(result, pose), fps=fps, extras=extras)
            return
        rig, fitted = result
    if pose is not None:
        checked_pose(pose, len(rig))
    targets = morphs.reduce(rig, tolerance - fitted, basis=basis, quantize=quantize)
    maps: Mapping[str, Maps] = {}
    if textured and size and targets.base.texture is None:
        raise InputError("texture_size is for meshes with textures, and these have none; leave it out")
    if targets.base.texture is not None:
        if size:
            maps = targets.base.texture.maps(size)
        else:
            targets.base = dataclasses.replace(targets.base, texture=None)
    # Rounded up: the error that is stated must not be smaller than the real one.
    extras["frames"] = len(rig)
    extras["vertex_error_mm"] = math.ceil((targets.error + fitted + lost) * 1e7) / 1e4
    if path.suffix.lower() in USD_SUFFIXES:
        _usd().write_shapes(path, targets, fps=fps, extras=extras, pose=pose, maps=maps, stem=stem)
        return
    avatar = path.suffix.lower() == ".vrm"
    gltf.write_morphs(
        path, targets, fps=fps, extras=extras, quantize=quantize, avatar=avatar, pose=pose, maps=maps
    )


def _moved(meshes: Iterable[Mesh], pose: Float32 | None) -> Iterator[Mesh]:
    """Meshes where their head is, one by one.

    Raises:
        InputError: there are more or fewer of them than poses.
    """
    count = 0
    for mesh in meshes:
        if pose is not None and count >= len(pose):
            raise InputError(f"there are more meshes than the {len(pose)} rows of the pose")
        yield mesh if pose is None else moved(mesh, pose[count])
        count += 1
    if pose is not None and count < len(pose):
        raise InputError(f"the pose has {len(pose)} rows, and there are {count} meshes")
