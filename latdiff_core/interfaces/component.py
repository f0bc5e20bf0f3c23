"""The base of every component's config: a frozen pydantic model that is also the component's factory."""

from __future__ import annotations

from abc import ABC
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
"""A field of a config that is at least 0 and below 1, such as a dropout."""


class Config(BaseModel):
    """A frozen config section that refuses unknown fields; field docstrings are their descriptions."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class ComponentConfig(Config, ABC):
    """Config of one component, told apart from the others of its interface by ``kind``.

    A subclass of an interface's base config (``EncoderConfig``, …) declares ``kind: Literal["its_name"]``
    with that name as default, its own fields, and ``build``. Sizes come from the data and are
    arguments of ``build``; they are never fields.
    """

    interface: ClassVar[str]
    kind: str

    @classmethod
    def kind_name(cls) -> str:
        """The value of ``kind`` that names this component."""
        return str(cls.model_fields["kind"].default)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        interface_base = ABC in cls.__bases__
        if not interface_base and not isinstance(cls.model_fields["kind"].default, str):
            raise TypeError(f'{cls.__name__} must declare its name: kind: Literal["…"] = "…"')
