"""Open Sound Control over UDP: plain OSC, and the VMC protocol of virtual avatars on top of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from facetalk.data.arkit import ANGLE_NAMES, ARKIT_NAMES
from facetalk.errors import InputError, NotInstalledError
from facetalk.live.address import Address
from facetalk.live.datagram import DatagramSender
from facetalk.live.frame import Frame
from facetalk.mesh.eyes import turn_quaternions
from facetalk.mesh.pose import quaternions

try:
    from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
    from pythonosc.osc_message_builder import OscMessageBuilder
except ImportError:
    _INSTALLED = False
else:
    _INSTALLED = True

_ROOM = 1400  # bytes of a datagram: an Ethernet frame holds 1472 of them
_BUNDLE, _SIZE = 16, 4  # bytes of a bundle's head, and of the length before each message

Message = tuple[str, str, Sequence[Any]]
"""OSC address, type tags, arguments."""


def bundles(messages: Iterable[Message]) -> list[bytes]:
    """Messages as bundles that fit a datagram each, in order."""
    out: list[bytes] = []
    builder, size = OscBundleBuilder(IMMEDIATELY), _BUNDLE
    for address, tags, values in messages:
        message = OscMessageBuilder(address)
        for tag, value in zip(tags, values, strict=True):
            message.add_arg(value, tag)
        built = message.build()
        if size + _SIZE + built.size > _ROOM and size > _BUNDLE:
            out.append(builder.build().dgram)
            builder, size = OscBundleBuilder(IMMEDIATELY), _BUNDLE
        builder.add_content(built)
        size += _SIZE + built.size
    return [*out, builder.build().dgram]


class OscSender(DatagramSender):
    """A message for every weight and angle.

    ``/facetalk/frame`` (int frame, float seconds) comes first, then ``/facetalk/jawOpen`` (float) and so on,
    in bundles.

    Args:
        address: ``osc://host:port/prefix``; the prefix is "facetalk" when none is given.

    Raises:
        InputError: as :class:`DatagramSender`, or a prefix that OSC does not allow.
        NotInstalledError: python-osc is missing.
    """

    def __init__(self, address: Address) -> None:
        _require_python_osc(address)
        self._prefix = address.path or "facetalk"
        plain = self._prefix.isascii() and self._prefix.isprintable()
        if not plain or set(self._prefix) & set(" #*,?[]{}"):
            raise InputError(
                f"--to {address.text}: an OSC address has no spaces, no #*,?[]{{}} and no accented letters"
            )
        if len(self._prefix) > 200:
            raise InputError(f"--to {address.text}: the prefix has more than 200 characters")
        super().__init__(address)

    def packets(self, frame: Frame) -> Sequence[bytes]:
        """See :class:`DatagramSender`."""
        names = (*ARKIT_NAMES, *ANGLE_NAMES)
        values = (*frame.weights.tolist(), *frame.angles.tolist())
        first: Message = (f"/{self._prefix}/frame", "if", (frame.index & 0x7FFFFFFF, frame.time))
        rest = ((f"/{self._prefix}/{name}", "f", (value,)) for name, value in zip(names, values, strict=True))
        return bundles((first, *rest))


class VmcSender(DatagramSender):
    """The VMC protocol (protocol.vmc.info), Performer to Marionette: blend shapes by ARKit's names.

    Every frame is ``/VMC/Ext/OK`` (1), ``/VMC/Ext/T`` (seconds), a ``/VMC/Ext/Blend/Val`` (name, weight) for
    each blendshape and ``/VMC/Ext/Blend/Apply``, in bundles, with the head's turn as a ``/VMC/Ext/Bone/Pos``
    of the bone "Head" while it has one. Avatars made for "perfect sync" have blend shapes of these names,
    gaze among them. Where eyes are bones, such as in a .vrm of this package, ``?eyes=bones`` turns "LeftEye"
    and "RightEye" as well.

    Args:
        address: ``vmc://host:port``, with ``?names=pascal`` for avatars that call them JawOpen, and
            ``?eyes=bones``.

    Raises:
        InputError: as :class:`DatagramSender`, or unknown names or eyes.
        NotInstalledError: python-osc is missing.
    """

    def __init__(self, address: Address) -> None:
        _require_python_osc(address)
        style = (address.option("names") or ["arkit"])[-1]
        if style not in ("arkit", "pascal"):
            raise InputError(f"--to {address.text}: names are 'arkit' (jawOpen) or 'pascal' (JawOpen)")
        eyes = (address.option("eyes") or ["shapes"])[-1]
        if eyes not in ("shapes", "bones"):
            raise InputError(f"--to {address.text}: eyes are turned by 'shapes' alone or by 'bones' as well")
        self._eyes = eyes == "bones"
        pascal = [name[0].upper() + name[1:] for name in ARKIT_NAMES]
        self._names = list(ARKIT_NAMES) if style == "arkit" else pascal
        self._turned = False
        super().__init__(address)

    def packets(self, frame: Frame) -> Sequence[bytes]:
        """See :class:`DatagramSender`."""
        pairs = zip(self._names, frame.weights.tolist(), strict=True)
        head = (_bone(frame),) if frame.angles[:3].any() or self._turned else ()
        # A head that came back to the middle has to be told so.
        self._turned = bool(frame.angles[:3].any())
        return bundles(
            (
                ("/VMC/Ext/OK", "i", (1,)),
                ("/VMC/Ext/T", "f", (frame.time,)),
                *head,
                *(_eyes(frame) if self._eyes else ()),
                *(("/VMC/Ext/Blend/Val", "sf", pair) for pair in pairs),
                ("/VMC/Ext/Blend/Apply", "", ()),
            )
        )


def _bone(frame: Frame) -> Message:
    """The bone of the head."""
    yaw, pitch, roll = frame.angles[:3].tolist()
    return _turned("Head", quaternions([[pitch, yaw, roll, 0.0, 0.0, 0.0]])[0].tolist())


def _eyes(frame: Frame) -> Iterator[Message]:
    """The bones of the eyes, whose angles are a rotation vector: facetalk/mesh/eyes.py."""
    for name, (yaw, pitch, roll) in zip(("LeftEye", "RightEye"), frame.angles[3:].reshape(2, 3), strict=True):
        yield _turned(name, turn_quaternions([[pitch, yaw, roll]])[0].tolist())


def _turned(bone: str, quaternion: Sequence[float]) -> Message:
    """A bone that turns: its place is left to the avatar, as senders that track a face alone leave it.

    Unity's axes are left-handed, with x to the avatar's right where ours goes to its left; a turn about y or
    z that is mirrored so goes the other way round.
    """
    x, y, z, w = quaternion
    return "/VMC/Ext/Bone/Pos", "sfffffff", (bone, 0.0, 0.0, 0.0, x, -y, -z, w)


def _require_python_osc(address: Address) -> None:
    if not _INSTALLED:
        raise NotInstalledError(f"--to {address.text} needs python-osc: pip install 'facetalk[live]'")
