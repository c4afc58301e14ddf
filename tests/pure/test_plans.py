"""The law of plans: an entry that nobody has carried out has failed, whoever forgot it."""

from instrumented_wrapper.drivers import Assigned
from instrumented_wrapper.events import SettingChange, SettingsEnd
from instrumented_wrapper.plans import Change
from instrumented_wrapper.resets import accounted

PLAN = (Change("a", 1, 0), Change("b", 2, 0))


def test_what_is_not_done_has_failed() -> None:
    assigned = Assigned({}, frozenset({"a"}), own=frozenset({"b"}))
    assert [assigned.outcome(name, "reset") for name in "abc"] == ["reset", "skipped", "failed"]


def test_a_reset_without_an_outcome_for_each_entry_has_failed() -> None:
    end = accounted(SettingsEnd((SettingChange("a", 1, 0, "reset"),), "default", 1), PLAN)
    assert [(change.name, change.outcome) for change in end.changes] == [("a", "reset"), ("b", "failed")]
    assert end.error == "NotSupportedError"  # what no error says has the name of a PEP 249 exception


def test_a_reset_with_all_its_outcomes() -> None:
    changes = (SettingChange("a", 1, 0, "reset"), SettingChange("b", 2, 0, "skipped"))
    end = SettingsEnd(changes, "default", 1)
    assert accounted(end, PLAN) is end


def test_what_a_handler_has_done_is_its_own_affair() -> None:
    end = SettingsEnd((), "custom", 0)
    assert accounted(end, PLAN) is end
