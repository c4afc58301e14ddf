"""A cluster of Galera with three nodes, any of which can be killed, frozen, cut off, and brought back.

A node that has lost its cluster, is not ready yet, or is told to reject queries answers errno 1047 to everything but
what is about variables. A node that comes back gets what it lacks from the cache of another one (`wsrep_sst_ist`).
Debian packages: galera-4, mariadb-server-core, mariadb-client-core.
"""

import os
import re
import shutil
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from servers import binaries, guard
from servers.mariadb_server import MISSING as MARIADB_MISSING
from servers.mariadb_server import MariaDBServer
from servers.mariadb_server import available as mariadb_available
from servers.server import HOST, START_SECONDS, ServerError, free_port

__all__ = ["MISSING", "GaleraCluster", "GaleraNode", "available"]

MISSING: Final = f"Galera is not installed: apt-get install galera-4 (or {MARIADB_MISSING})"
_PLACES: Final = ("/usr/lib/galera", "/usr/lib64/galera-4", "/usr/lib/galera-4", "/usr/lib64/galera")
_TRANSFER: Final = Path(__file__).parent / "wsrep_sst_ist"
# A node that is silent for a second is taken for lost, and looks for its cluster again at once.
_QUICK: Final = """
gcache.size=16M
evs.suspect_timeout=PT1S
evs.inactive_timeout=PT3S
evs.inactive_check_period=PT0.1S
evs.keepalive_period=PT0.3S
evs.join_retrans_period=PT0.3S
gmcast.peer_timeout=PT1S
pc.recovery=false
""".split()


def provider() -> Path | None:
    """Return where Galera's library is."""
    return next((path for place in _PLACES if (path := Path(place) / "libgalera_smm.so").is_file()), None)


def available() -> bool:
    """Return True if all that is needed is on this machine."""
    return provider() is not None and mariadb_available()


class GaleraNode(MariaDBServer):
    """One node in a folder of its own."""

    def __init__(self, folder: Path, name: str, number: int) -> None:
        """Set nothing up yet: see create() and take()."""
        super().__init__(folder, name, number)
        self.group_port, self._transfer_port = free_port(), free_port()
        self.peers: tuple[Self, ...] = ()  # none: it begins a cluster of its own
        self._position = ""

    @property
    def settings(self) -> tuple[str, ...]:  # type: ignore[override]
        """The options of a node."""
        ports = (f"gmcast.listen_addr=tcp://{HOST}:{self.group_port}", f"ist.recv_addr={HOST}:{self._transfer_port}")
        peers = ",".join(f"{HOST}:{node.group_port}" for node in self.peers)
        return (
            "wsrep-on=ON",
            f"wsrep-provider={provider()}",
            f"wsrep-provider-options={';'.join((*ports, *_QUICK))}",
            f"wsrep-cluster-address=gcomm://{peers}",
            f"wsrep-node-address={HOST}:{self.group_port}",
            f"wsrep-node-name={self.name}",
            "wsrep-sst-method=ist",
            "innodb-autoinc-lock-mode=2",
            *([f"wsrep-start-position={self._position}"] if self._position else []),
        )

    def _command(self) -> list[str]:
        path = os.pathsep.join((str(self.data.parent), os.environ.get("PATH", os.defpath)))
        return ["env", f"PATH={path}", *super()._command()]

    def start(self) -> None:
        """Start the node and wait until it serves; one that was killed says first how far it had come."""
        state = self.data / "grastate.dat"
        if not self.alive and state.exists() and re.search(r"seqno:\s*-1", state.read_text()):
            self._position = self._recovered()
        super().start()
        self._position = ""

    def _recovered(self) -> str:
        own = {"datadir": self.data, "tmpdir": self.tmp, "socket": self.socket}
        options = [*self.settings, "log-bin=binlog", "wsrep-recover", *(f"{name}={path}" for name, path in own.items())]
        printed = self.run([*self._command(), *(f"--{option}" for option in options)])
        if found := re.search(r"Recovered position:? (\S+)", printed):
            return found[1]
        raise ServerError(f"{self!r} does not know how far it had come: {printed[-500:]}")

    def status(self, name: str) -> str | None:
        """Return one of its status variables, without the prefix."""
        ((_, value),) = self.sql(f"SHOW STATUS LIKE 'wsrep_{name}'", "")
        return value

    def answers(self) -> bool:
        """Return True if the node is ready to serve."""
        try:
            return super().answers() and self.status("ready") == "ON"
        except ServerError:  # a node ends all sessions while it joins
            return False

    def has_cluster(self) -> bool:
        """Return True if the node is in the component that goes on."""
        return self.status("cluster_status") == "Primary"

    def refuse(self) -> None:
        """Refuse all that clients send, but for what is about variables."""
        self.sql("SET GLOBAL wsrep_reject_queries=ALL", "")

    def serve(self) -> None:
        """Serve again."""
        self.sql("SET GLOBAL wsrep_reject_queries=NONE", "")

    def cut_off(self, yes: bool = True) -> None:
        """Exchange nothing with the other nodes from now on, or do so again."""
        self._provide(f"gmcast.isolate={int(yes)}")

    def found(self) -> None:
        """Go on alone, where there is no cluster any more."""
        self._provide("pc.bootstrap=1")

    def _provide(self, option: str) -> None:
        self.sql(f"SET GLOBAL wsrep_provider_options='{option}'", "")

    def received(self) -> int:
        """Return how often it has got what it lacked from the cache of another node."""
        return self.log.read_text(errors="replace").count("WSREP: IST received")


class GaleraCluster:
    """Three nodes, all of which take writes."""

    def __enter__(self) -> Self:
        """Start all.

        Raises:
            ServerError: Galera is not installed, or a node does not start.
        """
        if not available():
            raise ServerError(MISSING)
        self._folder = guard.Folder("ga-")
        binaries.own(self._folder.path)
        shutil.copy(_TRANSFER, self._folder.path)
        self.nodes = tuple(GaleraNode(self._folder.path, name, n) for n, name in enumerate(("one", "two", "three"), 1))
        try:
            self._start(self.nodes[0])
        except BaseException:
            self.close()
            raise
        return self

    def _start(self, first: GaleraNode) -> None:
        first.create()
        first.start()
        first.set_up()
        first.stop()
        for node in self.others(first):
            node.take(first.data)
        for node in self.nodes:
            node.start()
            for each in self.nodes:  # the first one has begun the cluster, and joins it from now on
                each.peers = self.others(each)
        self.wait_together()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop and remove everything."""
        self.close()

    @property
    def servers(self) -> tuple[GaleraNode, ...]:
        """All nodes."""
        return self.nodes

    @property
    def primary(self) -> GaleraNode:
        """A node that serves: any of them takes writes.

        Raises:
            ServerError: none does.
        """
        for node in self.nodes:
            if node.alive and node.answers():
                return node
        raise ServerError("no node serves")

    def wait_streaming(self) -> None:
        """Wait until each node has applied what was committed before."""
        self.rows("SELECT 1")

    def others(self, node: GaleraNode) -> tuple[GaleraNode, ...]:
        """Return all nodes but this one."""
        return tuple(each for each in self.nodes if each is not node)

    def restore(self) -> None:
        """Have all serve together, whatever was done to them."""
        for node in self.nodes:
            node.thaw()
        alive = [node for node in self.nodes if node.alive]
        for node in alive:
            node.cut_off(False)
            node.serve()
        if not guard.wait_until(lambda: any(node.has_cluster() for node in alive), 1):
            alive[0].found()
        for node in self.nodes:
            node.start()
        self.wait_together()

    def together(self) -> bool:
        """Return True if all serve in one cluster."""
        size = str(len(self.nodes))
        views = {node.status("cluster_conf_id") for node in self.nodes if node.alive and node.answers()}
        return len(views) == 1 and all(node.alive and node.status("cluster_size") == size for node in self.nodes)

    def wait_together(self) -> None:
        """Wait until all serve in one cluster."""
        if not guard.wait_until(self.together, START_SECONDS):
            raise ServerError(" / ".join(f"{node!r} is not back: {node.last_words()}" for node in self.nodes))

    def rows(self, text: str) -> list[tuple[str | None, ...]]:
        """Return the rows of a query, for which each node applies all that was committed before; all give the same."""
        answers = [sorted(node.sql(f"SET SESSION wsrep_sync_wait=1; {text}")) for node in self.nodes]
        if any(answer != answers[0] for answer in answers):
            raise ServerError(f"the nodes have {[len(answer) for answer in answers]} rows, and not the same")
        return answers[0]

    def close(self) -> None:
        """Stop all and remove their files."""
        for node in self.nodes:
            node.kill()
        self._folder.close()
