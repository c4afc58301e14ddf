"""Procedures, functions and triggers of MariaDB and MySQL, and the statements that run them."""

import functools
from typing import Any

from drivers.mysql.spelling import create

INT = "RETURNS int DETERMINISTIC MODIFIES SQL DATA BEGIN"
SIGNAL = "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'refused by the routine'"
ROUTINES = (
    ("PROCEDURE", "sets_nothing", "() INSERT INTO written VALUES (1)"),
    ("PROCEDURE", "shows", "() BEGIN INSERT INTO written VALUES (1); SELECT 1; END"),
    ("PROCEDURE", "sets_tenant", "() SET @tenant = 7"),
    ("PROCEDURE", "sets_and_shows", "() BEGIN SET @tenant = 7; SELECT 1; END"),
    ("PROCEDURE", "sets_both", "() BEGIN SET @tenant = 7; SET SESSION lock_wait_timeout = 9; END"),
    ("PROCEDURE", "gives_and_sets", "(OUT x int) BEGIN SET x = 5; SET @tenant = 7; END"),
    ("PROCEDURE", "changes_first", "() SET @first = 8, @tenant = 7"),
    ("FUNCTION", "of_nothing", f"() {INT} INSERT INTO written VALUES (1); RETURN 7; END"),
    ("FUNCTION", "of_tenant", f"() {INT} SET @tenant = 7; RETURN 7; END"),
    ("FUNCTION", "of_both", f"() {INT} SET @tenant = 7; SET SESSION lock_wait_timeout = 9; RETURN 7; END"),
    ("TRIGGER", "on_fired", "BEFORE INSERT ON fired FOR EACH ROW SET @tenant = NEW.i"),
    ("TRIGGER", "on_quiet", "BEFORE INSERT ON quiet FOR EACH ROW INSERT INTO written VALUES (NEW.i)"),
    ("PROCEDURE", "sets_by_another", "() CALL sets_tenant()"),
    ("PROCEDURE", "sets_by_a_function", "() SELECT of_tenant()"),
    ("PROCEDURE", "sets_by_prepare", "() BEGIN PREPARE p FROM 'SET @tenant = 7'; EXECUTE p; DEALLOCATE PREPARE p; END"),
    ("PROCEDURE", "sets_all", "() BEGIN SET @tenant = 7, @other = 1, time_zone = '+01:00'; END"),
    ("PROCEDURE", "fails", f"() BEGIN SET @tenant = 7; {SIGNAL}; END"),
    ("FUNCTION", "of_failing", f"() {INT} SET @tenant = 7; {SIGNAL}; RETURN 1; END"),
    ("FUNCTION", "of_given", f"(given int) {INT} SET @tenant = 7; RETURN given; END"),
    ("FUNCTION", "of_another", "() RETURNS int DETERMINISTIC MODIFIES SQL DATA RETURN of_tenant()"),
)
SETTING = (
    *("CALL sets_tenant()", "CALL sets_and_shows()", "CALL sets_both()", "CALL gives_and_sets(@given)"),
    *("SELECT of_both()", "INSERT INTO written VALUES (of_tenant())", "SELECT @other := of_tenant()"),
)
QUIET = ("CALL sets_nothing()", "CALL shows()", "SELECT of_nothing()", "INSERT INTO quiet VALUES (1)")


@functools.cache
def made(cluster: Any) -> Any:
    """Return the servers, on which the routines are."""
    for name in ("written", "fired", "quiet"):
        cluster.primary.sql(f"CREATE TABLE IF NOT EXISTS {name} (i int)")
    for kind, name, rest in ROUTINES:
        create(cluster.primary, kind, name, rest)
    cluster.wait_streaming()
    return cluster
