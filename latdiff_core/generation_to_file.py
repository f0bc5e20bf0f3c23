"""Generation of any number of cells to a file: part by part, resumable, by several processes at once."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

from latdiff_core.asked_generation import AskedGeneration
from latdiff_core.configs import dump_config
from latdiff_core.cpu import return_freed_memory
from latdiff_core.data import PartsFolder, check_output, write_parts
from latdiff_core.data.fingerprint import tensor_digest
from latdiff_core.errors import DataError, GenerationInterrupted, OutputExistsError
from latdiff_core.generation import Generation
from latdiff_core.paths import remove, replace
from latdiff_core.progress import progress_bar
from latdiff_core.ranks import place_in_training, rank_and_world, wait_for_all
from latdiff_core.run_folder import used_versions

log = logging.getLogger(__name__)

POLL = 0.5
"""Seconds between two looks for parts of other processes."""
PATIENCE = 1800.0
"""Seconds without a new part after which the first process, which has made all of its own, takes another for dead."""


def generate_to_file(asked: AskedGeneration, path: Path, chunk: int, overwrite: bool, progress: bool) -> None:
    """Generate the parts that are not there yet, those of this process, and join them when all are there.

    Parameters
    ----------
    chunk
        Cells per part, rounded up to whole blocks.

    Raises
    ------
    DataError
        If the file cannot hold a condition.
    OutputExistsError
        If the file exists, or parts of another request, or another process writes the same.
    GenerationInterrupted
        At Ctrl-C, or when the parts of another process do not come.
    """
    rank, world = rank_and_world()
    if world == 1 and _await_first(path):
        return
    generation = asked.generation
    blocks = -(-chunk // generation.block)
    request = {**_identity(asked), "chunk": blocks * generation.block}
    names = [a.key for a in (*generation.schema.attributes, *generation.schema.nuisance)]
    if path.suffix == ".zarr" and (slashed := [name for name in names if "/" in name]):
        raise DataError(f"a .zarr cannot hold a column called {slashed[0]!r}, for its slash; write an .h5ad")
    parts = PartsFolder(path, request, -(-len(generation) // blocks))
    check_output(path, overwrite or rank > 0)
    if rank >= parts.parts or (rank > 0 and path.exists() and not overwrite):  # the first process is done, or complains
        return
    parts.open(overwrite, leader=rank == 0)
    try:
        mine = range(rank, parts.parts, world)
        _generate_parts(generation, parts, blocks, mine, progress)
        if rank == 0:
            _await(parts, mine)
            _join(asked, parts, path, overwrite)
    except KeyboardInterrupt as error:
        made = parts.parts - len(parts.missing())
        kept = f"{made} of {parts.parts} parts are in {parts.folder}" if made else "no part was complete"
        raise GenerationInterrupted(
            f"generation was interrupted; {kept}. To go on, repeat the same command or call"
        ) from error


def _generate_parts(generation: Generation, parts: PartsFolder, blocks: int, numbers: range, progress: bool) -> None:
    missing = set(parts.missing())
    if len(missing) < parts.parts:
        log.warning(
            "%d of %d parts are in %s and not made again", parts.parts - len(missing), parts.parts, parts.folder
        )
    todo = {k: range(k * blocks, min((k + 1) * blocks, len(generation))) for k in numbers if k in missing}
    block, n = generation.block, generation.request.n
    total = sum(min(part.stop * block, n) - part.start * block for part in todo.values())
    with progress_bar("generating", total, progress) as advance:
        for number, part in todo.items():
            cells = generation.cells(part, advance)
            parts.write(number, cells.counts, cells.annotations.together().values)
            del cells  # or it would stay while the next part is made


def _await_first(path: Path) -> bool:
    """Whether Lightning's launcher ran the user's script again, for a training before this, and this is that process.

    It then has waited until the first one has written the file.
    """
    number, started_by, before = place_in_training()[0], os.getppid(), _stamp(path)
    wait_for_all()  # or the first could be done before this one looks
    if number == 0:
        return False
    while _stamp(path) == before:
        if os.getppid() != started_by:
            raise GenerationInterrupted(f"the process that was to write {path} has died")
        time.sleep(POLL)
    return True


def _stamp(path: Path) -> tuple[int, int] | None:
    """Of what stands at a path; another one where it was replaced."""
    if not path.exists():
        return None
    found = path.stat()
    return found.st_ino, found.st_mtime_ns


def _await(parts: PartsFolder, mine: range) -> None:
    """Return when all parts are there."""
    if awaited := parts.missing():
        log.warning("waiting for %d parts that other processes make", len(awaited))
    since = time.monotonic()
    while missing := parts.missing():
        if lost := set(missing) & set(mine):
            raise OutputExistsError(
                f"{len(lost)} parts were made and are gone from {parts.folder}: another process seems to write the "
                "same file; wait for its end, or repeat the command"
            )
        if missing != awaited:
            awaited, since = missing, time.monotonic()
        elif time.monotonic() - since >= PATIENCE:
            raise GenerationInterrupted(
                f"no part came for {PATIENCE / 60:.0f} minutes: a process that was to make some of the {len(missing)} "
                f"that are missing seems to have died; the others are in {parts.folder}. To go on, repeat the same "
                "command or call, with fewer processes or as many"
            )
        time.sleep(POLL)


def _join(asked: AskedGeneration, parts: PartsFolder, path: Path, overwrite: bool) -> None:
    temporary = parts.folder / f".joined.{os.getpid()}{path.suffix}"
    return_freed_memory()
    try:
        write_parts(temporary, asked.annotated_parts(parts), parts, asked.generation.request.n)
        check_output(path, overwrite)  # again: another process may have been faster
        replace(temporary, path)
    finally:
        remove(temporary)
    parts.remove()


def _identity(asked: AskedGeneration) -> dict[str, Any]:
    """What cells depend on, as JSON."""
    generation, request = asked.generation, asked.generation.request
    weights = [*generation.autoencoder.state_dict().values(), *generation.diffusion.state_dict().values()]
    library = None if request.library is None else tensor_digest([request.library])
    return {
        "cells": request.n,
        "conditions": [sorted(request.conditions), tensor_digest([*request.conditions.values(), *request.nuisance])],
        "library": library,
        "seed": generation.seed,
        "accelerator": generation.accelerator,
        "mean": generation.mean,
        "model": tensor_digest([*weights, *request.training.to_tensors().values()]),
        "config": dump_config(asked.config),
        "versions": used_versions(asked.config),
    }
