"""Django's connections: how Django configures a new one is the baseline, and what the end of a request does.

Autocommit, the isolation level, the time zone, and what receivers of ``connection_created`` do belong to the baseline:
a reset that took these away would leave Django with a connection that it takes for another one. What a layer above
Django does when it makes a cursor does not (django-tenants sets the ``search_path`` of the request there): Django makes
cursors while it connects, to check the server's version.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from django.db.backends.base.base import BaseDatabaseWrapper

from instrumented_wrapper.drivers import Flows
from instrumented_wrapper.drivers.registry import configuring, handed_to_app, tracked_as
from instrumented_wrapper.options import Options
from instrumented_wrapper.patching import Patches, around
from instrumented_wrapper.pools.request_end import end_request

Method = Callable[..., Any]
PARTS: Final = {
    BaseDatabaseWrapper: """connect cursor close close_if_unusable_or_obsolete .connection .in_atomic_block
    .alias""".split()
}


def install(patches: Patches, options: Options, flows: Flows) -> None:
    """Patch what makes a connection and configures it, and what ends a request."""
    patches.close_over(BaseDatabaseWrapper, "connect", _connecting)
    patches.close_over(BaseDatabaseWrapper, "close_if_unusable_or_obsolete", functools.partial(_ending, flows))


@around
@contextmanager
def _connecting(wrapper: Any) -> Iterator[None]:
    """Wrap ``connect``: what configures the connection is the baseline, except what happens in ``wrapper.cursor()``.

    A class between Django's and the app's may override ``cursor`` or ``_cursor``; only the instance comes before it.
    """
    own = vars(wrapper)
    make, before = wrapper.cursor, own.get("cursor")

    def cursor(*args: object, **kwargs: object) -> Any:
        with handed_to_app():
            return make(*args, **kwargs)

    own["cursor"] = cursor
    try:
        with configuring():
            yield
    finally:
        own.pop("cursor", None)
        own.update({} if before is None else {"cursor": before})


def _ending(flows: Flows, original: Method) -> Method:
    """``close_if_unusable_or_obsolete``: Django calls it before and after each request."""

    @functools.wraps(original)
    def close_if_unusable_or_obsolete(self: Any) -> None:
        original(self)
        session = tracked_as(self.connection)
        if session is not None and not session.is_clean():  # looked at here: a call costs as much as the rest
            end_request(flows, self)

    return close_if_unusable_or_obsolete
