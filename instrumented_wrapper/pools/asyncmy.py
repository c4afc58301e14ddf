"""asyncmy.Pool: its returns and what it fills itself with are those of `released`."""

from __future__ import annotations

from typing import Final

from asyncmy import pool

from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.options import Options
from instrumented_wrapper.patching import Patches
from instrumented_wrapper.pools import released

PARTS: Final = {pool.Pool: "_acquire release fill_free_pool maxsize _closed _cond _free _loop _minsize _used".split()}


def install(patches: Patches, options: Options, flows: Flows) -> None:
    """Patch the pool."""
    released.install(patches, options, flows, pool.Pool, "fill_free_pool")
