"""The sections of a model config."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from latdiff_core.configs.component_field import (
    ConditionerField,
    DecoderField,
    DenoiserField,
    EncoderField,
    GuidanceField,
    SamplerField,
    ScheduleField,
)
from latdiff_core.device import Accelerator
from latdiff_core.interfaces import Config, Fraction
from latdiff_core.prediction import Prediction


class CategoricalConfig(Config):
    """A condition with named values, such as cell type or donor."""

    kind: Literal["categorical"] = "categorical"
    key: str
    """Column of ``adata.obs``."""
    missing: Literal["refuse", "allow"] = "refuse"
    """Whether cells without a label are an error, or are trained with the attribute's learned null."""


class ContinuousConfig(Config):
    """A condition with numeric values, such as dose or time."""

    kind: Literal["continuous"] = "continuous"
    key: str
    """Column of ``adata.obs``; give a skewed quantity such as a dose as its logarithm."""
    missing: Literal["refuse", "allow"] = "refuse"
    """Whether cells without a value are an error, or are trained with the attribute's learned null."""


class VectorConfig(Config):
    """A condition with several numbers per cell, such as a drug's fingerprint or a gene's embedding."""

    kind: Literal["vector"] = "vector"
    key: str
    """Key of ``adata.obsm``."""
    missing: Literal["refuse", "allow"] = "refuse"
    """Whether cells with NaN in their vector are an error, or are trained with the attribute's learned null."""


ConditionConfig = Annotated[CategoricalConfig | ContinuousConfig | VectorConfig, Field(discriminator="kind")]
"""A condition or a nuisance of any kind."""


def _bare_key(value: Any) -> Any:
    """A bare column name is a categorical condition."""
    return {"kind": "categorical", "key": value} if isinstance(value, str) else value


NamedCondition = Annotated[ConditionConfig, BeforeValidator(_bare_key, json_schema_input_type=str | ConditionConfig)]


class DataConfig(Config):
    """What is read from the AnnData."""

    layer: str | None = None
    """Layer that holds the raw counts; ``X`` when absent."""
    conditions: tuple[NamedCondition, ...] = ()
    """What generation can be asked for; empty for an unconditional model."""
    nuisance: tuple[NamedCondition, ...] = ()
    """What the latent shall be free of, such as batch or donor: given to encoder and decoder, so that cells can be
    generated as from the average batch, or as from one that is asked for."""

    @model_validator(mode="after")
    def _keys_are_unique(self) -> Self:
        keys = [c.key for c in (*self.conditions, *self.nuisance)]
        if twice := sorted({k for k in keys if keys.count(k) > 1}):
            raise ValueError(f"conditions and nuisance name {', '.join(twice)} more than once")
        return self


class AutoencoderConfig(Config):
    """Stage 1: the variational autoencoder over raw counts."""

    latent_dim: PositiveInt = 32
    """Dimensions of the latent."""
    encoder: EncoderField
    """Counts to latent."""
    decoder: DecoderField
    """Latent and library size to a distribution over counts."""


class DiffusionConfig(Config):
    """Stage 2: the diffusion in the latent."""

    denoiser: DenoiserField
    """The network."""
    schedule: ScheduleField
    """Signal and noise over time."""
    prediction: Prediction = "v"
    """What the network outputs."""
    conditioner: ConditionerField
    """How a condition acts on the network's activations."""
    guidance: GuidanceField
    """Which conditions are dropped in training and stressed in sampling."""
    sampler: SamplerField
    """The loop from noise to latent."""
    library: Literal["joint", "empirical"] = "joint"
    """Library size diffused together with the latent, or drawn from training cells of the same condition."""
    condition_width: PositiveInt = 64
    """Width of the embedding of each condition attribute."""


class AutoencoderTraining(Config):
    """How stage 1 is trained: AdamW, cosine decay, clipped gradients, averaged weights, best epoch by validation."""

    epochs: PositiveInt = 100
    """Passes over the training cells."""
    min_steps: NonNegativeInt = 0
    """Fewest training steps: a small data set gets more passes than ``epochs`` until it has them."""
    batch_size: PositiveInt = 128
    """Cells per step."""
    learning_rate: PositiveFloat = 1e-3
    """Peak learning rate; decays to zero along a cosine."""
    weight_decay: NonNegativeFloat = 0.01
    """Decoupled weight decay."""
    gradient_clip: PositiveFloat = 1.0
    """Largest gradient norm of the loss in nats per gene."""
    ema_decay: Fraction = 0.0
    """Decay of the exponential moving average of the weights, which is what is kept; 0 keeps the weights themselves."""
    kl_weight: NonNegativeFloat = 1.0
    """Final weight of the KL term (beta)."""
    largest_kl_weight: NonNegativeFloat | None = None
    """Up to here that weight rises while validation cells come out of the decoder more varied than they are; 0 stays 0,
    and with a decoder that generates no counts none rises."""
    kl_warmup: Fraction = 0.3
    """Share of the training over which the KL weight rises from 0."""
    free_bits: NonNegativeFloat = 0.0
    """Nats per latent dimension that cost nothing, averaged over the batch."""


class DiffusionTraining(Config):
    """How stage 2 is trained: AdamW with warm-up and cosine decay, averaged weights, best check by validation loss."""

    steps: PositiveInt = 5000
    """Training steps."""
    batch_size: PositiveInt = 256
    """Latents per step."""
    learning_rate: PositiveFloat = 1e-3
    """Peak learning rate."""
    weight_decay: NonNegativeFloat = 0.01
    """Decoupled weight decay."""
    warmup: Fraction = 0.05
    """Share of the steps over which the learning rate rises from 0."""
    gradient_clip: PositiveFloat = 1.0
    """Largest gradient norm."""
    ema_decay: Fraction = 0.999
    """Decay of the exponential moving average of the weights, which is what sampling uses."""
    checks: PositiveInt = 20
    """How often at most the validation loss is measured; the largest divisor of ``steps``."""


class TrainingConfig(Config):
    """How both stages are trained."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of everything random in training."""
    validation_fraction: Fraction = 0.1
    """Share of the cells, at most 10,000, that choose the best weights; 0 trains on all, keeps the last."""
    accelerator: Accelerator = "auto"
    """Where training computes; ``auto`` is a GPU if there is one. Generation has its own."""
    devices: PositiveInt = 1
    """Processes, and GPUs where there are some, on each machine; a batch is shared among all of them."""
    nodes: PositiveInt = 1
    """Machines."""
    strategy: str = "auto"
    """Lightning's strategy for several devices, such as ddp."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Numbers of the networks' matrix products; likelihoods are in float32 either way."""
    compile: bool = False
    """Whether `torch.compile` makes one piece of a training step, before the first: for long trainings on a GPU."""
    autoencoder: AutoencoderTraining = AutoencoderTraining()
    """Stage 1."""
    diffusion: DiffusionTraining = DiffusionTraining()
    """Stage 2."""


class ModelConfig(Config):
    """A whole model: what it reads, what it is made of, how it is trained."""

    description: str = ""
    """One sentence on what this model is for."""
    notes: tuple[str, ...] = ()
    """What its user should know, such as how it differs from the published system that it follows."""
    data: DataConfig = DataConfig()
    """What is read from the AnnData."""
    autoencoder: AutoencoderConfig
    """Stage 1."""
    diffusion: DiffusionConfig
    """Stage 2."""
    training: TrainingConfig = TrainingConfig()
    """How both are trained."""
