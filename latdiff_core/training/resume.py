"""Checkpoint folders: begun once, and taken up again only for the same data and config."""

from __future__ import annotations

import json
from pathlib import Path

from latdiff_core.checkpoint import FORMAT
from latdiff_core.configs import ModelConfig, dump_config
from latdiff_core.errors import OutputExistsError, RunFolderError

RUN = "run.json"


def open_checkpoints(folder: Path, config: ModelConfig, data: str, on_disk: bool, resume: bool) -> None:
    """Begin a checkpoint folder, or check that the one there belongs to this fit.

    Raises
    ------
    OutputExistsError
        If the folder holds checkpoints and ``resume`` is not given.
    RunFolderError
        If there is nothing to resume, or it belongs to other data, another config or another version of latdiff, or was
        begun in memory and would go on from disk (or the reverse), where cells are shuffled differently.
    """
    now = {"format": FORMAT, "config": dump_config(config), "data": data, "on_disk": on_disk}
    run = folder / RUN
    if not resume:
        if run.exists():
            raise OutputExistsError(
                f"{folder} holds the checkpoints of an interrupted fit; resume it (--resume), or remove the folder "
                "to begin anew (--overwrite)"
            )
        folder.mkdir(parents=True, exist_ok=True)
        run.write_text(json.dumps(now))
        return
    if not run.is_file():
        raise RunFolderError(f"{folder} holds no checkpoints to resume from; fit without --resume")
    try:
        before = json.loads(run.read_text())
    except ValueError:
        raise RunFolderError(f"{run} is damaged; remove {folder} and fit again") from None
    if before.get("format") != FORMAT:
        raise RunFolderError(f"the checkpoints in {folder} are of another version of latdiff; remove it and fit again")
    for what, name in (("config", "config"), ("data", "training data"), ("on_disk", "way of reading them (on_disk)")):
        if before.get(what) != now[what]:
            raise RunFolderError(
                f"the checkpoints in {folder} belong to another {name}; repeat the fit exactly as it was begun, or "
                "remove the folder to begin anew"
            )
