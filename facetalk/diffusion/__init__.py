"""Motion from audio by diffusion: noise schedule, denoiser, samplers, and the trained model."""

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
