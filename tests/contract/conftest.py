"""Fixtures of the contract suite: each driver, its servers, connections that are closed in the end."""

import copy
import os
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from importlib import import_module
from itertools import count
from typing import Any, NamedTuple

import pytest

from servers import Proxy

from . import drivers
from .app import App
from .driver import DriverUnderTest
from .endpoint import Endpoint
from .measured import Measured

NUMBERS = count(1)
READY = pytest.StashKey[set[type[Any]]]()
CHOSEN = os.environ.get("CONTRACT_DRIVERS", "").replace(",", " ").split()  # files in drivers/; none named: all
NAMES = [module.name for module in pkgutil.iter_modules(drivers.__path__)]
MODULES = [f"{drivers.__name__}.{name}" for name in NAMES if name in CHOSEN or not CHOSEN]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test over all drivers; over one without a server only what has a meaning there.

    ``@pytest.mark.databases("mariadb", ...)`` names the only ones that a test is about.
    """
    if "driver" in metafunc.fixturenames:
        about_servers = getattr(metafunc.module, "IS_ABOUT_SERVERS", False) or "proxy" in metafunc.fixturenames
        marker = metafunc.definition.get_closest_marker("databases")
        systems = marker.args if marker else ()
        found = [each for name in MODULES for each in variants(name, about_servers, systems)]
        metafunc.parametrize("driver", found, ids=[each.name for each in found], indirect=True)


class Variant(NamedTuple):
    """A driver with one of its databases."""

    module: str
    number: int  # of the site
    name: str  # in the names of tests


def variants(module: str, about_servers: bool, systems: Sequence[str]) -> Iterator[Variant]:
    """Yield the driver with each of its databases."""
    name = module.rpartition(".")[2]
    try:
        driver = import_module(module).DRIVER
    except ImportError:  # its tests are skipped, and counted
        yield Variant(module, 0, name)
        return
    if not about_servers or driver.has("server"):
        for number, site in enumerate(driver.sites):
            if not systems or site.system in systems:
                yield Variant(module, number, f"{name} on {site.__name__}" if number else name)


@pytest.fixture
def driver(request: pytest.FixtureRequest) -> DriverUnderTest:
    try:
        module, number, _ = request.param
        driver = copy.copy(import_module(module).DRIVER)
        driver.site = driver.sites[number]
        return driver  # type: ignore[no-any-return]
    except ImportError as error:
        pytest.skip(f"not installed here: {error}")


@pytest.fixture
def cluster(request: pytest.FixtureRequest, driver: DriverUnderTest) -> Any:
    """A healthy primary and standby of the driver's database."""
    cluster = request.getfixturevalue(driver.site.servers)
    if driver.site not in (ready := request.config.stash.setdefault(READY, set())):
        driver.site.prepare(cluster)
        ready.add(driver.site)
    driver.site.repair(cluster)
    return cluster


@pytest.fixture
def site(driver: DriverUnderTest, cluster: Any) -> Iterator[Any]:
    site = driver.site(cluster, f"contract_{next(NUMBERS)}")
    yield site
    with suppress(Exception):  # the test may have left no server alive
        site.settle()


@pytest.fixture
def connect(driver: DriverUnderTest, site: Any) -> Iterator[Callable[..., Any]]:
    """Connect to both servers, the primary first, unless another connection string is given."""
    with ExitStack() as stack:

        def connect(dsn: Any = None, **keywords: Any) -> Any:
            connection = driver.connect(dsn or site.dsn(), **keywords)
            stack.callback(driver.close, connection)
            return connection

        yield connect


@pytest.fixture
def app(driver: DriverUnderTest, site: Any, connect: Callable[..., Any]) -> Callable[..., App]:
    """Connect an app, in autocommit unless it says otherwise, to both servers or to these hosts."""

    def app(*hosts: Any, options: Mapping[str, Any] | None = None, **keywords: Any) -> App:
        given = {"autocommit": True, **keywords, **({"instrumented_wrapper": options} if options else {})}
        return App(driver, site, connect(site.dsn(*hosts), **given))

    return app


@pytest.fixture
def pool(driver: DriverUnderTest, site: Any) -> Iterator[Callable[..., Any]]:
    """Open a pool of one connection to both servers."""
    with ExitStack() as stack:

        def pool(dsn: Any = None, **keywords: Any) -> Any:
            opened = driver.pool(dsn or site.dsn(), **keywords)
            stack.callback(driver.close_pool, opened)
            return opened

        yield pool


@pytest.fixture
def table(site: Any) -> str:
    return site.make_table()


@pytest.fixture
def proxy(driver: DriverUnderTest, cluster: Any) -> Iterator[Proxy]:
    """A proxy in front of the primary."""
    driver.needs("server")
    with Proxy(cluster.primary.host, cluster.primary.port) as proxy:
        yield proxy


@pytest.fixture
def other_proxy(driver: DriverUnderTest, cluster: Any) -> Iterator[Proxy]:
    """Another one, also in front of the primary."""
    driver.needs("server")
    with Proxy(cluster.primary.host, cluster.primary.port) as proxy:
        yield proxy


@pytest.fixture
def endpoint(driver: DriverUnderTest, cluster: Any) -> Iterator[Callable[[], Endpoint]]:
    """Make proxies in front of the primary that fail at certain bytes."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(Endpoint(cluster.primary.host, cluster.primary.port))


@pytest.fixture
def background() -> Iterator[Callable[..., "Future[Any]"]]:
    """Call something in a thread."""
    with ThreadPoolExecutor() as threads:
        yield threads.submit


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Measured:
    """What is measured from now on."""
    plugins = request.config.pluginmanager.get_plugins()
    return Measured(next(plugin.READER for plugin in plugins if hasattr(plugin, "READER")))
