"""Motion from audio by diffusion: noise schedule, denoiser, samplers, and the trained model.

The names below are imported on first use, since nearly all of them need torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facetalk.optional import names_of

if TYPE_CHECKING:
    from facetalk.diffusion.denoiser import Condition, Denoiser, DenoiserConfig
    from facetalk.diffusion.lip_contact import LipContact
    from facetalk.diffusion.model import MotionModel
    from facetalk.diffusion.noise import frame_noise
    from facetalk.diffusion.representation import Representation
    from facetalk.diffusion.sampler import Sampler, ddim_step, ddpm_step, dpm_step, guide
    from facetalk.diffusion.schedule import NoiseSchedule
    from facetalk.diffusion.stream import MotionStream
    from facetalk.diffusion.student import Student, StudentRange

__all__ = [
    "Condition",
    "Denoiser",
    "DenoiserConfig",
    "LipContact",
    "MotionModel",
    "MotionStream",
    "NoiseSchedule",
    "Representation",
    "Sampler",
    "Student",
    "StudentRange",
    "ddim_step",
    "ddpm_step",
    "dpm_step",
    "frame_noise",
    "guide",
]

__getattr__ = names_of(
    __name__,
    {
        "Condition": "facetalk.diffusion.denoiser",
        "Denoiser": "facetalk.diffusion.denoiser",
        "DenoiserConfig": "facetalk.diffusion.denoiser",
        "LipContact": "facetalk.diffusion.lip_contact",
        "MotionModel": "facetalk.diffusion.model",
        "MotionStream": "facetalk.diffusion.stream",
        "NoiseSchedule": "facetalk.diffusion.schedule",
        "Representation": "facetalk.diffusion.representation",
        "Sampler": "facetalk.diffusion.sampler",
        "Student": "facetalk.diffusion.student",
        "StudentRange": "facetalk.diffusion.student",
        "ddim_step": "facetalk.diffusion.sampler",
        "ddpm_step": "facetalk.diffusion.sampler",
        "dpm_step": "facetalk.diffusion.sampler",
        "frame_noise": "facetalk.diffusion.noise",
        "guide": "facetalk.diffusion.sampler",
    },
)
