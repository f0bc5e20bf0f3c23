"""Open discriminated unions: a config field that takes any installed kind of one interface."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from latdiff_core.errors import ConfigError
from latdiff_core.interfaces import (
    ComponentConfig,
    ConditionerConfig,
    DecoderConfig,
    DenoiserConfig,
    EncoderConfig,
    GuidanceConfig,
    SamplerConfig,
    ScheduleConfig,
)
from latdiff_core.registry import current_registry

NESTED_ERRORS = "nested_errors"


class InstalledKind:
    """Resolves ``{kind: name, …}``, or the bare name, to the config class that a plugin registered."""

    def __init__(self, base: type[ComponentConfig]) -> None:
        self.base = base

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.validate, serialization=core_schema.plain_serializer_function_ser_schema(self.dump)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        registry, interface = current_registry(), self.base.interface
        kinds = registry.kinds(interface)
        closed = [handler(registry.get(interface, kind).__pydantic_core_schema__) for kind in kinds]
        for component in map(handler.resolve_ref_schema, closed):  # one without a kind would be anything
            component["required"] = ["kind", *(name for name in component.get("required", []) if name != "kind")]
        return {"anyOf": [*closed, {"type": "string", "enum": kinds}]}

    def validate(self, value: Any) -> ComponentConfig:
        if isinstance(value, self.base):
            return value
        if isinstance(value, str):
            value = {"kind": value}
        if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
            kinds = ", ".join(current_registry().kinds(self.base.interface))
            raise PydanticCustomError("kind", "give a kind (kind: …); known: {kinds}", {"kinds": kinds})
        try:
            config = current_registry().get(self.base.interface, value["kind"])
        except ConfigError as error:
            raise PydanticCustomError("kind", "{message}", {"message": str(error)}) from None
        try:
            return config.model_validate(value)
        except ValidationError as error:
            # A validation error inside a validator would lose its path: hand the parts up.
            parts = {"errors": error.errors(), "model": config}
            raise PydanticCustomError(NESTED_ERRORS, "invalid component", parts) from None

    @staticmethod
    def dump(value: ComponentConfig) -> dict[str, Any]:
        return value.model_dump(mode="json")


EncoderField = Annotated[EncoderConfig, InstalledKind(EncoderConfig)]
DecoderField = Annotated[DecoderConfig, InstalledKind(DecoderConfig)]
DenoiserField = Annotated[DenoiserConfig, InstalledKind(DenoiserConfig)]
ScheduleField = Annotated[ScheduleConfig, InstalledKind(ScheduleConfig)]
ConditionerField = Annotated[ConditionerConfig, InstalledKind(ConditionerConfig)]
GuidanceField = Annotated[GuidanceConfig, InstalledKind(GuidanceConfig)]
SamplerField = Annotated[SamplerConfig, InstalledKind(SamplerConfig)]
