"""Denoising networks for latdiff."""

from latdiff_denoisers.dit import DiT, DiTConfig

__all__ = ["DiT", "DiTConfig"]
