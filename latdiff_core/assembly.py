"""From a config and the data's schema to the two networks, refusing parts that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from latdiff_core.autoencoder import CountAutoencoder
from latdiff_core.conditions import ConditionEmbedding, coded_width, indicated_width
from latdiff_core.configs import ModelConfig
from latdiff_core.diffusion import Diffusion
from latdiff_core.errors import ConfigError
from latdiff_core.interfaces import Conditioner, GeneStatistics, Schedule, Sizes, Unconditional
from latdiff_core.interfaces.schedule import SIGNAL_LEFT
from latdiff_core.prediction import Prediction
from latdiff_core.schema import CategoricalAttribute, DataSchema

__all__ = [
    "build_autoencoder",
    "build_diffusion",
    "check_assembly",
]

Part = TypeVar("Part")

SIGNAL_FOR_EPSILON = 1e-3
"""Least signal, as a share of the noise, that a schedule must end with where the noise is predicted: errors grow by the
inverse in the first step of sampling. Linear and EDM schedules end with 0.006 and 0.0125, cosine and sigmoid with less
than 0.0001, from which no sampler comes back."""


def build_autoencoder(
    config: ModelConfig, schema: DataSchema, statistics: GeneStatistics | None = None
) -> CountAutoencoder:
    """Assemble stage 1; without ``statistics`` its weights are expected to be loaded."""
    section = config.autoencoder
    sizes = Sizes(
        genes=len(schema.genes),
        latent_dim=section.latent_dim,
        nuisance=sum(map(coded_width, schema.nuisance)),
        condition=sum(map(indicated_width, schema.attributes)),
    )
    encoder = _build("autoencoder -> encoder", lambda: section.encoder.build(sizes=sizes, statistics=statistics))
    decoder = _build("autoencoder -> decoder", lambda: section.decoder.build(sizes=sizes, statistics=statistics))
    return CountAutoencoder(encoder, decoder, section.latent_dim)


def build_diffusion(config: ModelConfig, schema: DataSchema) -> Diffusion:
    """Assemble stage 2.

    Raises
    ------
    ConfigError
        If parts do not fit each other, with the path of the part to change.
    """
    section, attributes, names = config.diffusion, len(schema.attributes), [a.key for a in schema.attributes]
    width = section.condition_width
    dim = config.autoencoder.latent_dim + (section.library == "joint")
    schedule = _build("diffusion -> schedule", section.schedule.build)
    _check_end(schedule, section.schedule.kind)
    _check_prediction(section.prediction, schedule, section.schedule.kind)

    def make_conditioner(hidden: int) -> Conditioner:
        if attributes == 0:
            return Unconditional()
        return section.conditioner.build(width=hidden, attributes=attributes, condition_width=width)

    return Diffusion(
        dim=dim,
        denoiser=_build(
            "diffusion -> denoiser", lambda: section.denoiser.build(dim=dim, make_conditioner=make_conditioner)
        ),
        embedding=ConditionEmbedding(schema.attributes, width),
        schedule=schedule,
        prediction=section.prediction,
        guidance=_build("diffusion -> guidance", lambda: section.guidance.build(attributes=names)),
        sampler=_build("diffusion -> sampler", section.sampler.build),
    )


def check_assembly(config: ModelConfig) -> None:
    """Build both networks for four genes, so that parts that do not fit are found before any data is read.

    Raises
    ------
    ConfigError
        With the path of the part to change.
    """
    attributes, nuisance = (
        tuple(CategoricalAttribute(key=c.key, categories=("a", "b"), shares=(0.5, 0.5)) for c in conditions)
        for conditions in (config.data.conditions, config.data.nuisance)
    )
    schema = DataSchema(genes=("a", "b", "c", "d"), attributes=attributes, nuisance=nuisance, cells=1)
    with torch.random.fork_rng(devices=[]):  # the user's random state stays as it is
        build_autoencoder(config, schema)
        build_diffusion(config, schema)


def _build(path: str, build: Callable[[], Part]) -> Part:
    try:
        part = build()
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if part is None:
        raise ConfigError(f"{path}: its config builds nothing; that is a mistake in the plugin it comes from")
    return part


def _check_end(schedule: Schedule, kind: str) -> None:
    alpha, sigma = (x.item() for x in schedule.alpha_sigma(torch.ones(1, dtype=torch.float64)))
    if not (0 < sigma < float("inf") and alpha / sigma < SIGNAL_LEFT):
        raise ConfigError(
            f"diffusion -> schedule: {kind!r} ends with a signal of {alpha:.3g} beside noise of {sigma:.3g}, and "
            f"sampling starts from noise alone; change its fields until signal / noise is below {SIGNAL_LEFT}"
        )


def _check_prediction(prediction: Prediction, schedule: Schedule, kind: str) -> None:
    alpha, sigma = schedule.alpha_sigma(torch.ones(1, dtype=torch.float64))
    left = (alpha / sigma).item()
    if prediction == "epsilon" and left < SIGNAL_FOR_EPSILON:
        raise ConfigError(
            f"diffusion -> prediction: epsilon cannot be used with the schedule {kind!r}, which ends in noise with a "
            f"signal of {left:.2g} of it: by that the clean latent is divided, and its error with it; use v, flow or "
            "clean"
        )
