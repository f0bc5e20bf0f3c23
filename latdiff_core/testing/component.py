"""What every component promises, whatever its interface."""

from __future__ import annotations

from typing import Any

from latdiff_core.interfaces import ComponentConfig


class ComponentContract:
    """The part of the contract that belongs to the config; the base of every other contract.

    Attributes
    ----------
    config
        The config of the component under test, given by the subclass.
    """

    config: Any

    def test_the_config_survives_dumping_and_loading(self) -> None:
        """A dumped config, also one dumped for JSON, loads to an equal config."""
        config: ComponentConfig = self.config
        assert type(config).model_validate(config.model_dump()) == config
        assert type(config).model_validate_json(config.model_dump_json()) == config

    def test_every_field_of_the_config_is_described(self) -> None:
        """Every field except ``kind`` has a description, from which the reference is made."""
        fields = type(self.config).model_fields
        assert [name for name, field in fields.items() if name != "kind" and not field.description] == []
