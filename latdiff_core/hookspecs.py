"""The whole extension API: the hooks that an installed plugin may implement.

A plugin is a module named by an entry point of the group ``latdiff``; it decorates these functions with
``latdiff_core.hookimpl``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from latdiff_core.interfaces import ComponentConfig

PROJECT = "latdiff"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Decorator of a plugin's function that implements a hook."""


@hookspec
def latdiff_components() -> Sequence[type[ComponentConfig]]:  # type: ignore[empty-body]
    """Return the config classes of the plugin's components; the base class says which interface each serves."""


@hookspec
def latdiff_recipes() -> Mapping[str, Mapping[str, Any]]:  # type: ignore[empty-body]
    """Return complete model configs by name, each with a one-sentence ``description``."""
