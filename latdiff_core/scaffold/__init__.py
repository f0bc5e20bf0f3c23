"""The first version of somebody's plugin, written for them."""

from latdiff_core.scaffold.scaffold import Plugin, write_plugin

__all__ = ["Plugin", "write_plugin"]
