"""A fit to a run folder, with checkpoints beside it until it is complete."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from latdiff_core.errors import OutputExistsError, TrainingDiverged, TrainingInterrupted
from latdiff_core.model import LatentDiffusion
from latdiff_core.paths import remove, worked_in_alone
from latdiff_core.ranks import is_first
from latdiff_core.run_folder import MANIFEST, refuse_unless_checkpoints, refuse_unless_run

if TYPE_CHECKING:
    from anndata import AnnData


def fit_to_folder(
    model: LatentDiffusion,
    data: AnnData | str | Path,
    out: Path,
    *,
    resume: bool = False,
    on_disk: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> None:
    """Fit and save; checkpoints are in ``OUT.checkpoints`` until the run folder is complete.

    Raises
    ------
    OutputExistsError
        If ``OUT`` is there and may not be replaced, something else stands where checkpoints go, or another process
        trains there.
    TrainingDiverged
        If a loss is no number any more; the checkpoints are then removed.
    TrainingInterrupted
        At Ctrl-C, saying how to resume.
    """
    out = out if out.name else out.resolve()  # "." has no name
    checkpoints = checkpoints_of(out)
    if resume and not overwrite and (out / MANIFEST).is_file() and not checkpoints.exists():
        raise OutputExistsError(f"{out} is finished: there is nothing to resume")
    refuse_unless_run(out, overwrite)
    if is_first():
        refuse_unless_checkpoints(checkpoints)
        if overwrite and not resume and checkpoints.exists():
            with worked_in_alone(checkpoints):
                remove(checkpoints)
    try:
        model.fit(data, checkpoints=checkpoints, resume=resume, on_disk=on_disk, progress=progress)
    except TrainingDiverged:
        if is_first():
            remove(checkpoints)  # of a fit that is to be begun anew, with another config
        raise
    except TrainingInterrupted:
        raise TrainingInterrupted(
            f"interrupted; what was trained is in {checkpoints}. To go on, repeat the same command with --resume"
        ) from None
    model.save(out, overwrite=overwrite)
    if is_first():
        remove(checkpoints)


def checkpoints_of(out: Path) -> Path:
    """Where the checkpoints of a run folder are until it is complete."""
    return out.with_name(f"{out.name}.checkpoints")
