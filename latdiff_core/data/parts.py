"""Parts of an output that is being made: what a killed process leaves, and the next takes up."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from scipy import sparse
from torch import Tensor

from latdiff_core.errors import DataError, OutputExistsError
from latdiff_core.paths import remove, saving_tensors

REQUEST = "request.json"
POLL = 0.2
"""Seconds between two looks at what other processes have written."""
PATIENCE = 300.0
"""Seconds in which the first process must have removed parts of another request."""


class PartsFolder:
    """The folder ``PATH.parts`` beside an output: numbered parts, and the request they answer.

    Every file appears whole, so what is there after a kill can be used. The folder appears with the first part.

    Parameters
    ----------
    path
        The output.
    request
        What identifies the request, as JSON: parts of another one are never taken.
    parts
        Number of parts.
    """

    def __init__(self, path: Path, request: Mapping[str, Any], parts: int) -> None:
        self.folder = path.with_name(f"{path.name}.parts")
        self.request = json.loads(json.dumps(request))
        self.parts = parts

    def open(self, overwrite: bool, leader: bool) -> None:
        """Accept parts of the same request; those of another are an error, or with ``overwrite`` removed by the leader.

        Raises
        ------
        OutputExistsError
            If the folder is of another request, or not one of parts.
        """
        since = time.monotonic()
        while (found := self._found()) not in (None, self.request):
            differing = [key for key in self.request if found.get(key) != self.request[key]]
            holds = f"{self.folder} holds parts of another request (another {', '.join(differing) or 'version'})"
            if not overwrite:
                raise OutputExistsError(
                    f"{holds}; ask for the same again to go on with it, or remove it, or allow that (--overwrite, in "
                    "Python overwrite=True)"
                )
            if leader:
                remove(self.folder)
            elif time.monotonic() - since >= PATIENCE:
                raise OutputExistsError(f"{holds}, which the first process does not remove; ask all for the same")
            else:
                time.sleep(POLL)

    def missing(self) -> list[int]:
        """Numbers of the parts that are not there yet."""
        return [number for number in range(self.parts) if not self._file(number).exists()]

    def write(self, number: int, counts: sparse.csr_matrix, values: Sequence[Tensor]) -> None:
        """Add a part: counts as CSR (cells, genes), and the values (cells, ...) of every attribute."""
        self._begin()
        tensors = {
            "data": torch.from_numpy(counts.data),
            "indices": torch.from_numpy(counts.indices).int(),
            "indptr": torch.from_numpy(counts.indptr).long(),
            **{f"values.{i}": v.contiguous() for i, v in enumerate(values)},
        }
        with self._appearing(self._file(number)) as temporary, saving_tensors():
            save_file(tensors, temporary)

    def read(self, name: str) -> Iterator[Tensor]:
        """One tensor of every part, in order: ``data``, ``indices``, ``indptr``, or ``values.0`` and so on.

        Raises
        ------
        DataError
            If a part is damaged.
        OutputExistsError
            If one is gone.
        """
        for number in range(self.parts):
            file = self._file(number)
            try:
                with safe_open(file, "pt") as part:
                    yield part.get_tensor(name)
            except FileNotFoundError:
                raise OutputExistsError(
                    f"{file} was made and is gone: another process seems to write the same file; wait for its end, or "
                    "repeat the command"
                ) from None
            except SafetensorError as error:
                raise DataError(f"{file} is damaged ({error}); remove it and ask for the same again") from None

    def remove(self) -> None:
        """Remove the folder with all parts."""
        remove(self.folder)

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06d}.safetensors"

    def _found(self) -> dict[str, Any] | None:
        """The request that the folder's parts answer; None where there is none yet."""
        held = {file.name for file in self.folder.glob("[!.]*")}
        if not held and not self.folder.is_file():
            return None
        if REQUEST in held:
            try:
                found = json.loads((self.folder / REQUEST).read_text(encoding="utf-8"))
            except FileNotFoundError:  # another process has just removed it
                return None
            except ValueError:
                found = None
            if isinstance(found, dict):
                return found
        raise OutputExistsError(
            f"{self.folder} is in the way: parts of the output go there; move it, or choose another name"
        )

    def _begin(self) -> None:
        """Say whose parts these are, unless it is said: of several processes the first to say so is right."""
        self.folder.mkdir(parents=True, exist_ok=True)
        said = self.folder / REQUEST
        if not said.exists():
            temporary = self._temporary()
            try:
                temporary.write_text(json.dumps(self.request, indent=1), encoding="utf-8")
                _name_once(temporary, said)
            finally:
                remove(temporary)
        if self._found() != self.request:
            raise OutputExistsError(
                f"{self.folder} has become that of another request: another process writes the same file; give each "
                "its own"
            )

    @contextmanager
    def _appearing(self, file: Path) -> Iterator[Path]:
        """A name to write to, unlike that of any process on any machine; what is written then appears whole."""
        temporary = self._temporary()
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())  # or a power failure could leave a part of the right size
            temporary.replace(file)
        finally:
            remove(temporary)

    def _temporary(self) -> Path:
        return self.folder / f".{uuid4().hex}.partial"


def _name_once(temporary: Path, file: Path) -> None:
    """Give a file its name, unless one has it."""
    try:
        os.link(temporary, file)
    except FileExistsError:
        pass
    except OSError:  # not every file system has links
        temporary.replace(file)
