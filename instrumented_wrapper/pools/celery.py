"""Celery's workers for Django: with ``CELERY_DB_REUSE_MAX`` a connection outlives the task, as it does a request."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from celery.fixups.django import DjangoWorkerFixup

from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.options import Options
from instrumented_wrapper.patching import Patches
from instrumented_wrapper.pools.request_end import end_request

Method = Callable[..., Any]
PARTS: Final = {DjangoWorkerFixup: ["close_database", "._db", ".db_reuse_max"]}


def install(patches: Patches, options: Options, flows: Flows) -> None:
    """Patch what ends a task; where Celery closes connections it calls what Django calls after a request."""
    patches.close_over(DjangoWorkerFixup, "close_database", functools.partial(_ending, flows))


def _ending(flows: Flows, original: Method) -> Method:
    """``close_database``: Celery calls it before and after each task."""

    @functools.wraps(original)
    def close_database(self: Any, **kwargs: Any) -> Any:
        result = original(self, **kwargs)
        if self.db_reuse_max:
            for wrapper in self._db.connections.all(initialized_only=True):
                end_request(flows, wrapper)
        return result

    return close_database
