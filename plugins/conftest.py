"""What all plugins' tests share: one thread, since two are slower than one at these sizes on a busy machine."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
