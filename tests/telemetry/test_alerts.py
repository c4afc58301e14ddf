"""The alert rules: Prometheus' own tool finds them right, each is tested, and what they name exists."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus import one_of_each

FOLDER = Path(__file__).parents[2] / "dashboards/alerts"
RULES = FOLDER / "instrumented-wrapper.rules.yaml"
TESTS = FOLDER / "instrumented-wrapper.rules.test.yaml"
EXAMPLE = FOLDER.parents[1] / "examples/observability/prometheus.yml"
ALERTS = {text.split()[0]: text for text in RULES.read_text().split("- alert: ")[1:]}


@pytest.mark.parametrize(
    "command",
    [("check", "rules", RULES), ("test", "rules", TESTS), ("check", "config", EXAMPLE)],
    ids=["rules", "their tests", "example"],
)
def test_promtool_is_content(command):
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("no program `promtool` in PATH: the alert rules are not run (Debian package `prometheus`)")
    done = subprocess.run([promtool, *map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_says_what_to_do(name):
    assert re.search(r"labels: {severity: (critical|warning)}", ALERTS[name])
    assert re.search(r"summary: .*{{ \$labels\.job }}", ALERTS[name])
    assert len(ALERTS[name].partition("description: ")[2]) > 60
    assert f"| {name} |" in (FOLDER.parent / "README.md").read_text()


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_has_a_test_in_which_it_fires_and_is_silent(name):
    (test,) = re.findall(rf"- name: {name}\n(.*?)(?:\n\n|\Z)", TESTS.read_text(), re.DOTALL)
    fires, silent = f'alertname="{name}", alertstate="firing"', "exp_samples: []"
    assert fires in test and silent in test


def test_each_metric_and_label_exists_in_the_package(cluster):
    exported, rules = one_of_each(cluster.dsn(target_session_attrs="primary")), RULES.read_text()
    names = r"(?<![:\w])((?:instrumented_wrapper|db_client)_\w+|target_info)"
    known = set(re.findall(r"^(\w+)\{", exported, re.MULTILINE)) | set(re.findall(r"[{,](\w+)=", exported))
    named = set(re.findall(names, rules))
    assert len(named) > 8
    assert named <= known


def test_what_is_recorded_is_used():
    rules = RULES.read_text()
    recorded = re.findall(r"- record: (job:\S+)", rules)
    alerts = " ".join(ALERTS.values())
    assert recorded and all(name in alerts for name in recorded)
    assert all(rules.count(name) > 1 for name in re.findall(r"- record: (\S+)", rules))
    assert set(re.findall(r"job:\w+:\w+", alerts)) == set(recorded)
