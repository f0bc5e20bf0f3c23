"""What a model knows about the data it was trained on: genes, and the values of its attributes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from latdiff_core.interfaces import Config


class CategoricalAttribute(Config):
    """A condition with named values."""

    kind: Literal["categorical"] = "categorical"
    key: str
    """Column of ``obs``."""
    categories: tuple[str, ...]
    """Values seen in training; their order is the map from code to name."""
    shares: tuple[float, ...]
    """Share of each value among the training cells that have one."""
    missing: Literal["refuse", "allow"] = "refuse"
    """Whether cells may lack the value."""


class ContinuousAttribute(Config):
    """A condition with numeric values."""

    kind: Literal["continuous"] = "continuous"
    key: str
    """Column of ``obs``."""
    mean: float
    """Mean over the training cells, for standardisation."""
    std: float
    """Standard deviation over the training cells; 1 where they are all equal."""
    missing: Literal["refuse", "allow"] = "refuse"
    """Whether cells may lack the value."""


class VectorAttribute(Config):
    """A condition with several numbers per cell."""

    kind: Literal["vector"] = "vector"
    key: str
    """Key of ``obsm``."""
    mean: tuple[float, ...]
    """Mean of each number over the training cells, for standardisation."""
    std: tuple[float, ...]
    """Standard deviation of each number over the training cells; 1 where they are all equal."""
    missing: Literal["refuse", "allow"] = "refuse"
    """Whether cells may lack the vector."""


Attribute = Annotated[CategoricalAttribute | ContinuousAttribute | VectorAttribute, Field(discriminator="kind")]


class DataSchema(Config):
    """The contract between a model and its data."""

    genes: tuple[str, ...]
    """Modelled genes, in the order of the decoder's outputs."""
    attributes: tuple[Attribute, ...]
    """Condition attributes, in the order of the condition tokens."""
    nuisance: tuple[Attribute, ...] = ()
    """Attributes that the latent shall be free of."""
    cells: int
    """Number of cells the model was fitted on."""

    @property
    def keys(self) -> list[str]:
        """Names of all attributes, of conditions and then of nuisance."""
        return [attribute.key for attribute in (*self.attributes, *self.nuisance)]
