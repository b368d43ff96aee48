"""How people move their heads while they speak, in figures, and where those are published.

What :mod:`facetalk.pose.generator` aims at and ``python -m experiments.pose`` measures it by. Figures of
single studies differ by speaker and by what is said; "neutral" is the read, unemotional speech of one actor.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Figure:
    """One published figure.

    Attributes:
        value: the figure.
        unit: its unit, empty for shares.
        source: where it is published.
    """

    value: float
    unit: str
    source: str


_BUSSO = (
    "Busso, Deng, Grimm, Neumann and Narayanan, Rigid Head Motion in Expressive Speech Animation: Analysis "
    "and Synthesis, IEEE Transactions on Audio, Speech and Language Processing 15(3), 2007; neutral speech"
)
_MUNHALL = (
    "Munhall, Jones, Callan, Kuratate and Vatikiotis-Bateson, Visual Prosody and Speech Intelligibility, "
    "Psychological Science 15(2), 2004"
)
_HADAR = (
    "Hadar, Steiner, Grant and Rose, Kinematics of Head Movements Accompanying Speech during Conversation, "
    "Human Movement Science 2, 1983"
)
_GRAF = (
    "Graf, Cosatto, Strom and Huang, Visual Prosody: Facial Movements Accompanying Speech, IEEE Conference "
    "on Automatic Face and Gesture Recognition, 2002"
)

FIGURES: dict[str, Figure] = {
    "pitch_sd": Figure(3.3, "degrees", _BUSSO),
    "yaw_sd": Figure(0.9, "degrees", _BUSSO),
    "roll_sd": Figure(0.8, "degrees", _BUSSO),
    "pitch_range": Figure(9.5, "degrees", _BUSSO),
    "yaw_range": Figure(2.3, "degrees", _BUSSO),
    "roll_range": Figure(2.3, "degrees", _BUSSO),
    "prosody_canonical_r": Figure(0.7, "", _BUSSO),
    "f0_explained": Figure(0.63, "", _MUNHALL),
    "level_explained": Figure(0.32, "", _MUNHALL),
    "moving_in_speech": Figure(0.899, "", _HADAR),
    "moving_in_pauses": Figure(0.128, "", _HADAR),
    "accents_with_a_nod": Figure(0.42, "", _GRAF),
    "accents_with_a_nod_and_overshoot": Figure(0.18, "", _GRAF),
    "accents_with_a_swing": Figure(0.20, "", _GRAF),
}
"""By name. Standard deviations are around the mean of a sentence, and ranges within one. "Explained" is the
share of the variance within a sentence that a linear regression on the six numbers of the pose explains. That
a head which moves with its voice is correlated with F0 is older (Yehia, Kuratate and Vatikiotis-Bateson,
Linking Facial Animation, Head Motion and Speech Acoustics, Journal of Phonetics 30, 2002)."""

SLOW_HZ, ORDINARY_HZ, RAPID_HZ = (0.2, 1.8), (1.9, 3.6), (3.7, 7.0)
"""Classes of head movements by frequency (Hadar et al. 1983, as above): shifts of posture, the movement of
phrases, and stress."""
