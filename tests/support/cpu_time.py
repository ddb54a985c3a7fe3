"""Limits of CPU time that hold in a test of its own as well as after thousands of others."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def takes_at_most(seconds: float) -> Iterator[None]:
    """Fail if the block takes more CPU time of this thread. The garbage collector does not go through what was there before."""
    gc.freeze()
    begun = time.thread_time()
    try:
        yield
        taken = time.thread_time() - begun
    finally:
        gc.unfreeze()
    assert taken < seconds
