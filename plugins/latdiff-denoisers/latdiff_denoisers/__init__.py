"""Denoising networks for latdiff."""

from latdiff_denoisers.dit import DiT, DiTConfig
from latdiff_denoisers.resnet_mlp import ResNetMLP, ResNetMLPConfig
from latdiff_denoisers.unet import UNet, UNetConfig

__all__ = ["DiT", "DiTConfig", "ResNetMLP", "ResNetMLPConfig", "UNet", "UNetConfig"]
