"""The dashboards: what they name exists, they are laid out well, and each query says what really happened."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from itertools import combinations
from pathlib import Path
from typing import Any

import psycopg
import pytest
from prometheus import Exporter, Exposed, Prometheus, one_of_each
from psycopg_pool import ConnectionPool, PoolTimeout

from instrumented_wrapper import (
    FailoverError,
    FailoverSuccessError,
    SessionStateTransferHandlers,
    reset_session,
    switch,
)
from instrumented_wrapper.events import PristineFetch, ServerAddress, Signals, observe

FOLDER = Path(__file__).parents[2] / "dashboards"
PAGE = FOLDER.parent / "docs/how-to/finding-a-leak.md"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
WINDOWS = {"$__range": "5m", "$__rate_interval": "1m", "$__interval": "1m", "$job": "app", "$db_system": ".*"}
WINDOWS |= {"$driver": "psycopg", "$server": ".*", "$pool": ".*"}
NAMES = re.compile(r"\b((?:instrumented_wrapper|db_client)_\w+)\{")


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries(dashboard: dict[str, Any]) -> dict[str, str]:
    """Every query by the title of its panel, annotations included."""
    found = {f"{p['title']} {t['refId']}": t["expr"] for p in panels(dashboard) for t in p["targets"]}
    notes = [note for note in dashboard["annotations"]["list"] if "expr" in note]
    return found | {f"annotation {note['name']}": note["expr"] for note in notes}


def variables(dashboard: dict[str, Any]) -> dict[str, str]:
    return {v["name"]: v["definition"] for v in dashboard["templating"]["list"] if v["type"] == "query"}


def filled(text: str) -> str:
    """Put values in the place of Grafana's variables."""
    for name, value in WINDOWS.items():
        text = re.sub(re.escape(name) + r"\b", value, text)
    return text


ALL_QUERIES = [
    pytest.param(expression, id=f"{name}: {title}")
    for name, dashboard in DASHBOARDS.items()
    for title, expression in (queries(dashboard) | variables(dashboard)).items()
]
each_dashboard = pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS)


# --- without Prometheus -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(running_cluster) -> str:
    running_cluster.restore()
    return one_of_each(primary(running_cluster))


@pytest.mark.parametrize("query", ALL_QUERIES)
def test_each_metric_and_label_exists_in_the_package(query, exported):
    metrics = set(re.findall(r"^(\w+)\{", exported, re.MULTILINE))
    labels = set(re.findall(r"[{,](\w+)=", exported))
    named = set(NAMES.findall(query))
    assert named <= metrics
    assert named or "__name__" in query
    compared = set(re.findall(r'(\w+)(?:=~|!=|=)"', query))
    grouped = {word for group in re.findall(r"by \(([^)]*)\)", query) for word in group.split(", ")}
    assert (compared | grouped) - {"__name__"} <= labels | {"job"}


def test_each_metric_of_the_package_is_on_a_dashboard(exported):
    families = set(re.findall(r"^# TYPE (\w+) ", exported, re.MULTILINE)) - {"target_info"}
    told = " ".join(query for dashboard in DASHBOARDS.values() for query in queries(dashboard).values())
    assert {name for name in families if name not in told} == set()


@each_dashboard
def test_every_panel_explains_itself(dashboard):
    assert dashboard["schemaVersion"] >= 39
    assert dashboard["uid"] and dashboard["title"] and dashboard["description"]
    for panel in panels(dashboard):
        assert panel["title"] and len(panel["description"]) > 30
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
        assert panel["datasource"]["uid"] == "${datasource}"
    titles = [panel["title"] for panel in panels(dashboard)]
    assert len(titles) == len(set(titles))
    offered = [v["name"] for v in dashboard["templating"]["list"]]
    assert offered[:3] == ["datasource", "job", "db_system"]
    told = " ".join(queries(dashboard).values())
    assert all(f"${name}" in told for name in offered[1:]), "a variable that changes nothing"


@each_dashboard
def test_one_leads_to_the_other(dashboard):
    (link,) = dashboard["links"]
    assert link["type"] == "dashboards" and link["includeVars"] and link["keepTime"]
    assert set(link["tags"]) <= set(dashboard["tags"])


@each_dashboard
def test_the_first_row_is_green_if_nothing_is_wrong(dashboard):
    first = [panel for panel in panels(dashboard) if panel["gridPos"]["y"] == 1]
    assert 4 <= len(first) <= 6
    for panel in first:
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert panel["type"] == "stat" and panel["options"]["colorMode"] == "background"
        assert steps[0] == {"color": "green", "value": None}


@each_dashboard
def test_quantiles_lead_to_traces(dashboard):
    over_time = [t for p in panels(dashboard) for t in p["targets"] if t.get("range")]
    assert any("histogram_quantile" in target["expr"] for target in over_time)
    assert all(target.get("exemplar", False) == ("histogram_quantile" in target["expr"]) for target in over_time)
    assert "exemplarTraceIdDestinations" in (FOLDER / "provisioning/datasources/instrumented-wrapper.yaml").read_text()


@each_dashboard
def test_the_layout(dashboard):
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(places)
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y
    rows = {place["y"] for place in places}
    assert all(sum(place["w"] for place in places if place["y"] == y) == 24 for y in rows), "no holes"


def test_the_readme_explains_each_panel():
    told = (FOLDER / "README.md").read_text()
    assert [p["title"] for d in DASHBOARDS.values() for p in panels(d) if f"| {p['title']} |" not in told] == []


def test_the_provisioning_names_what_is_there():
    sources = (FOLDER / "provisioning/datasources/instrumented-wrapper.yaml").read_text()
    assert "type: prometheus" in sources and "type: jaeger" in sources
    assert "type: file" in (FOLDER / "provisioning/dashboards/instrumented-wrapper.yaml").read_text()


# --- with a real one --------------------------------------------------------------------------------------------


def failing(state: Any, connection: Any) -> bool:
    raise LookupError("a handler of the app")


def everyday(dsn: str) -> None:
    """What happens without any trouble: resets of each kind, a planned switch, a pool."""
    with psycopg.connect(dsn) as connection:
        connection.autocommit = True
        reset_session(connection)
        connection.autocommit = True
        switch(connection)
        connection.read_only = True
    with ConnectionPool(dsn, min_size=1, max_size=1, name="shop") as pool, pool.connection() as connection:
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        connection.execute("SELECT 1")


def leaks(dsn: str) -> None:
    """A pool that reports what its borrowers leave: twice the search path, once a setting of the app."""
    report = {"instrumented_wrapper": {"reset_on_return": "report"}}
    with ConnectionPool(dsn, min_size=1, max_size=1, name="shop", kwargs=report) as pool:
        for text in ("SET search_path = pg_catalog", "SET search_path = public", "SET app.tenant = 'acme'"):
            with pool.connection() as connection:
                connection.execute(text)


def trouble(dsn: str) -> None:
    """Handlers that raise, a pristine value that cannot be read, a statement that fails, a pool that is empty."""
    connection = psycopg.connect(dsn, autocommit=True)
    connection.read_only = True
    SessionStateTransferHandlers.set_transfer_session_state_on_switch_func(failing)
    with pytest.raises(FailoverError):
        switch(connection)
    SessionStateTransferHandlers.reset_transfer_session_state_on_switch_func()
    SessionStateTransferHandlers.set_reset_session_state_on_close_func(failing)
    connection.close()
    SessionStateTransferHandlers.clear_reset_session_state_on_close_func()
    where = {"driver": "psycopg", "peer": ServerAddress("postgresql", "app", "h", 1), "signals": Signals()}
    with pytest.raises(LookupError), observe(PristineFetch(**where, setting="autocommit", source="server")):
        raise LookupError
    with psycopg.connect(dsn) as connection, pytest.raises(psycopg.errors.UndefinedTable):
        connection.execute("SELECT * FROM nowhere")
    with (
        ConnectionPool(dsn, min_size=1, max_size=1, name="shop") as pool,
        pool.connection(),
        pytest.raises(PoolTimeout),
    ):
        pool.getconn(timeout=0.01)


def primary(cluster: Any) -> str:
    """Return how to connect to whichever is the primary: tests before this one may have changed the roles."""
    return cluster.dsn(target_session_attrs="primary")


def disaster(cluster: Any) -> None:
    """A real failover with a transaction open, and with none."""
    dsn = primary(cluster)
    with psycopg.connect(dsn, autocommit=True) as idle, psycopg.connect(dsn) as working:
        idle.read_only = False
        working.execute("SELECT 1")
        cluster.failover()
        assert idle.execute("SELECT 1").fetchone() == (1,)
        with pytest.raises(FailoverSuccessError):
            working.execute("SELECT 1")
        working.rollback()


@pytest.fixture(scope="module")
def seen(running_cluster, tmp_path_factory) -> Iterator[Prometheus]:
    """A Prometheus that has seen a day in the life of an app."""
    if not shutil.which("prometheus"):
        pytest.skip("no program `prometheus` in PATH: the queries are not run (Debian package `prometheus`)")
    running_cluster.restore()
    exporter = Exporter()
    dsn = primary(running_cluster)
    with (
        closing(Exposed(exporter.registry)) as exposed,
        Prometheus(tmp_path_factory.mktemp("prometheus"), exposed) as prometheus,
        exporter.told(),
    ):
        everyday(dsn)
        prometheus.see()
        everyday(dsn)
        leaks(dsn)
        trouble(dsn)
        disaster(running_cluster)
        with (
            ConnectionPool(primary(running_cluster), min_size=1, max_size=2, name="shop") as pool,
            pool.connection(),
            psycopg.connect(primary(running_cluster), autocommit=True) as exposed_to_loss,
        ):
            exposed_to_loss.execute("CREATE TEMP TABLE scratch (id int)")
            prometheus.see()
            yield prometheus


def of_panel(seen: Prometheus, title: str, *labels: str) -> dict[Any, float]:
    """Return what the panel shows, by its labels."""
    (expression,) = [query for d in DASHBOARDS.values() for name, query in queries(d).items() if name == title]
    ours = [f"instrumented_wrapper_{label}" if label != "error_type" else label for label in labels]
    return {tuple(series[label] for label in ours): value for series, value in seen.query(filled(expression))}


@pytest.mark.parametrize(
    "query",
    [
        pytest.param(query, id=f"{name}: {title}")
        for name, dashboard in DASHBOARDS.items()
        for title, query in queries(dashboard).items()
    ],
)
def test_each_query_has_a_sensible_answer(seen, query):
    answer = seen.query(filled(query))
    assert answer, "it shows nothing"
    assert all(math.isfinite(value) and value >= 0 for _, value in answer)
    assert any(value > 0 for _, value in answer) or "vector(0)" in query or "pending" in query


def test_at_a_glance(seen):
    titles = ["Connections lost", "Failovers that failed", "Commits in doubt", "Transactions rolled back"]
    titles += ["Settings lost or refused", "Resets that failed"]
    shown = [of_panel(seen, f"{title} A")[()] for title in titles]
    assert shown == [2, 1, 0, 1, 2, 1]
    assert of_panel(seen, "Wait in a failover, p95 A")[()] > 0
    assert of_panel(seen, "Time the app was blocked A")[()] > 0


def test_the_panels_of_failovers_count_each_outcome(seen):
    assert of_panel(seen, "Failovers by outcome A", "outcome") == pytest.approx(
        {("success",): 4, ("failed",): 1}, abs=0.5
    )
    by_trigger = of_panel(seen, "Failovers by trigger A", "trigger")
    assert by_trigger == pytest.approx({("connection_lost",): 2, ("requested",): 3}, abs=0.7)
    by_fate = of_panel(seen, "Failovers by fate of the transaction A", "transaction")
    assert by_fate == pytest.approx({("none",): 4, ("rolled_back",): 1}, abs=0.7)


def test_the_quantiles_are_in_their_order(seen):
    for title in ("Wait in a failover", "Time of a reset", "Time of a transfer", "Time of a pristine fetch"):
        p50, p95, p99 = (of_panel(seen, f"{title} {ref}")[()] for ref in "ABC")
        assert 0 < p50 <= p95 <= p99 < 30


def test_the_heatmap_has_every_failover(seen):
    (expression,) = [q for d in DASHBOARDS.values() for name, q in queries(d).items() if name.startswith("Waits in")]
    buckets = sorted((float(series["le"]), value) for series, value in seen.query(filled(expression)))
    counts = [value for _, value in buckets]
    assert len(buckets) == 13 and counts == sorted(counts)
    assert counts[-1] == pytest.approx(5, abs=0.7)


def test_resets_transfers_and_fetches(seen):
    triggers = {trigger for (trigger,) in of_panel(seen, "Resets by trigger A", "trigger")}
    assert {"close", "pool_return", "switch", "requested"} <= triggers
    fetched = {name for (name,) in of_panel(seen, "Pristine values fetched, by setting A", "setting")}
    assert {"autocommit", "read_only", "isolation_level"} <= fetched
    outcomes = set(of_panel(seen, "Settings by operation and outcome A", "operation", "outcome"))
    assert {("reset", "reset"), ("reset", "failed"), ("transfer", "restored")} <= outcomes


def test_sessions_that_would_survive(seen):
    shown = {reason: number for (reason,), number in of_panel(seen, "Sessions by reason A", "reason").items() if number}
    assert shown.keys() == {"none", "temporary_table"}
    assert shown["none"] in (1, 2)  # the pool may have grown
    assert of_panel(seen, "What keeps the others from it A", "reason") == {("temporary_table",): 1}
    assert of_panel(seen, "Sessions that would survive A")[()] == shown["none"] / (shown["none"] + 1)


def test_the_panels_of_leaks_count_each_setting(seen):
    """They are neither lost nor refused: the first row does not count them (see `test_at_a_glance`)."""
    assert of_panel(seen, "Settings leaked A")[()] == 3
    (expression,) = [query for d in DASHBOARDS.values() for name, query in queries(d).items() if "Leaked most" in name]
    shown = {(s["job"], s["instrumented_wrapper_setting"]): value for s, value in seen.query(filled(expression))}
    assert shown == {("app", "search_path"): 2, ("app", "custom"): 1}
    (query,) = re.findall(r"```promql\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert {(s["job"], s["instrumented_wrapper_setting"]): value for s, value in seen.query(query)} == shown
    over_time = of_panel(seen, "Leaks by setting A", "setting")
    assert over_time == pytest.approx({("search_path",): 2, ("custom",): 1}, abs=0.5)


def test_errors_are_shown_by_their_type(seen):
    told = [set(of_panel(seen, f"Errors by type {ref}", "error_type")) for ref in "ABC"]
    assert told == [{("LookupError",)}] * 3


@each_dashboard
def test_the_variables_offer_what_there_is(seen, dashboard):
    there = {"job": "app", "db_system": "postgresql", "driver": "psycopg", "server": "127.0.0.1", "pool": "shop"}
    for name, definition in variables(dashboard).items():
        selector, _, label = definition.removeprefix("label_values(").removesuffix(")").rpartition(", ")
        assert seen.label_values(filled(selector), label) == [there[name]]
