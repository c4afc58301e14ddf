"""Functions that a statement calls: which of them leave the session as it is, and what the body of another may set.

A name that is not known here is asked for once (`knowledge`); to take a harmless one for unknown costs a question, the
reverse a setting that leaks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from instrumented_wrapper.databases.postgresql.config_calls import doubtful_calls
from instrumented_wrapper.databases.postgresql.tokens import Token, folded, tokens_of

__all__ = ["HARMLESS", "Verdict", "calls_of", "judge", "may_call"]

_AGGREGATES: Final = (
    "any_value array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count covar_pop covar_samp cume_dist"
    " dense_rank every first_value json_agg json_agg_strict json_object_agg jsonb_agg jsonb_object_agg lag last_value"
    " lead max min mode nth_value ntile percent_rank percentile_cont percentile_disc range_agg range_intersect_agg rank"
    " regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy row_number stddev"
    " stddev_pop stddev_samp string_agg sum var_pop var_samp variance xmlagg grouping"
)
_NUMBERS_AND_TEXT: Final = (
    "abs acos asin atan atan2 cbrt ceil ceiling cos cot degrees div exp factorial floor gcd lcm ln log log10 mod pi"
    " power radians random random_normal round scale setseed sign sin sqrt tan trim_scale trunc width_bucket ascii"
    " bit_length btrim char_length character_length chr concat concat_ws convert convert_from convert_to decode encode"
    " format initcap left length lower lpad ltrim md5 normalize octet_length overlay parse_ident position quote_ident"
    " quote_literal quote_nullable regexp_count regexp_instr regexp_like regexp_match regexp_matches regexp_replace"
    " regexp_split_to_array regexp_split_to_table regexp_substr repeat replace reverse right rpad rtrim sha224 sha256"
    " sha384 sha512 split_part starts_with string_to_array string_to_table strpos substr substring to_ascii to_char"
    " to_date to_hex to_number to_timestamp to_bin to_oct translate trim unistr upper get_bit get_byte set_bit set_byte"
    " hashtext hashtextextended hashint4 hashint8 similarity word_similarity crc32 crc32c gen_random_bytes crypt"
    " gen_salt digest hmac unaccent levenshtein soundex metaphone"
)
_TIMES: Final = (
    "age clock_timestamp current_date current_time current_timestamp date_add date_bin date_part date_subtract"
    " date_trunc extract isfinite justify_days justify_hours justify_interval localtime localtimestamp make_date"
    " make_interval make_time make_timestamp make_timestamptz now overlaps statement_timestamp timeofday timezone"
    " transaction_timestamp gen_random_uuid uuidv4 uuidv7 uuid_generate_v1 uuid_generate_v4 uuid_extract_timestamp"
)
_STRUCTURES: Final = (
    "array array_append array_cat array_dims array_fill array_length array_lower array_ndims array_position"
    " array_positions array_prepend array_remove array_replace array_sample array_shuffle array_to_json"
    " array_to_string array_upper cardinality trim_array unnest coalesce nullif greatest least num_nonnulls num_nulls"
    " row row_to_json to_json to_jsonb json_array json_object json_build_array json_build_object jsonb_build_array"
    " jsonb_build_object json_array_elements json_array_elements_text jsonb_array_elements jsonb_array_elements_text"
    " json_array_length jsonb_array_length json_each json_each_text jsonb_each jsonb_each_text json_extract_path"
    " json_extract_path_text jsonb_extract_path jsonb_extract_path_text json_object_keys jsonb_object_keys"
    " json_populate_record json_populate_recordset jsonb_populate_record jsonb_populate_recordset json_strip_nulls"
    " jsonb_strip_nulls json_to_record json_to_recordset jsonb_to_record jsonb_to_recordset json_typeof jsonb_typeof"
    " jsonb_concat jsonb_insert jsonb_path_exists jsonb_path_match jsonb_path_query jsonb_path_query_array"
    " jsonb_path_query_first jsonb_pretty jsonb_set jsonb_set_lax jsonb_object json_table json_query json_value"
    " json_exists json_scalar json_serialize isempty lower_inc lower_inf upper_inc upper_inf range_merge multirange"
    " int4range int8range numrange tsrange tstzrange daterange int4multirange int8multirange nummultirange"
    " tsmultirange tstzmultirange datemultirange generate_series generate_subscripts hstore cube earth_distance"
    " ll_to_earth xmlelement xmlforest xmlparse xmlserialize xmlconcat xpath xpath_exists xmlexists"
)
_SEARCH_AND_SHAPES: Final = (
    "plainto_tsquery phraseto_tsquery querytree setweight strip to_tsquery to_tsvector ts_headline ts_rank ts_rank_cd"
    " ts_rewrite tsvector_to_array websearch_to_tsquery numnode ts_delete ts_filter array_to_tsvector tsquery_phrase"
    " get_current_ts_config area center diagonal diameter height isclosed isopen npoints path pclose point polygon"
    " popen radius slope width box circle line lseg abbrev broadcast family host hostmask inet_merge"
    " inet_same_family masklen netmask network set_masklen text macaddr8_set7bit enum_first enum_last enum_range"
)
_SERVER: Final = (
    "nextval currval lastval setval current_setting current_database current_query current_schema current_schemas"
    " current_user session_user current_role current_catalog inet_client_addr inet_client_port inet_server_addr"
    " inet_server_port version has_table_privilege has_schema_privilege has_database_privilege has_column_privilege"
    " has_function_privilege has_sequence_privilege pg_has_role row_security_active col_description obj_description"
    " shobj_description format_type to_regclass to_regtype to_regproc to_regnamespace to_regrole txid_current"
    " txid_current_if_assigned txid_current_snapshot txid_snapshot_xmin txid_status pg_advisory_unlock"
    " pg_advisory_unlock_all pg_advisory_unlock_shared pg_advisory_lock pg_advisory_lock_shared pg_advisory_xact_lock"
    " pg_advisory_xact_lock_shared pg_try_advisory_lock pg_try_advisory_lock_shared pg_try_advisory_xact_lock"
    " pg_try_advisory_xact_lock_shared pg_backend_pid pg_blocking_pids pg_cancel_backend pg_terminate_backend"
    " pg_client_encoding pg_collation_for pg_column_size pg_conf_load_time pg_control_system pg_create_restore_point"
    " pg_current_wal_flush_lsn pg_current_wal_insert_lsn pg_current_wal_lsn pg_current_xact_id"
    " pg_current_xact_id_if_assigned pg_current_snapshot pg_database_size pg_describe_object pg_encoding_to_char"
    " pg_export_snapshot pg_function_is_visible pg_get_constraintdef pg_get_expr pg_get_functiondef"
    " pg_get_function_arguments pg_get_function_identity_arguments pg_get_function_result pg_get_indexdef"
    " pg_get_keywords pg_get_partkeydef pg_get_ruledef pg_get_serial_sequence pg_get_triggerdef pg_get_userbyid"
    " pg_get_viewdef pg_indexes_size pg_is_in_recovery pg_is_other_temp_schema pg_is_wal_replay_paused"
    " pg_jit_available pg_last_committed_xact pg_last_wal_receive_lsn pg_last_wal_replay_lsn"
    " pg_last_xact_replay_timestamp pg_listening_channels pg_lsn pg_my_temp_schema pg_notification_queue_usage"
    " pg_notify pg_opclass_is_visible pg_options_to_table pg_partition_root pg_partition_tree pg_postmaster_start_time"
    " pg_promote pg_relation_filenode pg_relation_filepath pg_relation_size pg_reload_conf pg_rotate_logfile"
    " pg_safe_snapshot_blocking_pids pg_size_bytes pg_size_pretty pg_sleep pg_sleep_for pg_sleep_until"
    " pg_snapshot_xmax pg_snapshot_xmin pg_stat_get_activity pg_stat_reset pg_stat_file pg_switch_wal"
    " pg_table_is_visible pg_table_size pg_tablespace_location pg_tablespace_size pg_total_relation_size"
    " pg_trigger_depth pg_type_is_visible pg_typeof pg_visible_in_snapshot pg_wal_lsn_diff pg_wal_replay_pause"
    " pg_wal_replay_resume pg_walfile_name pg_xact_commit_timestamp pg_xact_status lo_close lo_creat lo_create"
    " lo_export lo_from_bytea lo_get lo_import lo_lseek lo_open lo_put lo_tell lo_truncate lo_unlink loread lowrite"
    " merge_action"
)
HARMLESS: Final = frozenset(
    " ".join((_AGGREGATES, _NUMBERS_AND_TEXT, _TIMES, _STRUCTURES, _SEARCH_AND_SHAPES, _SERVER)).split()
)
# Words that stand before a parenthesis without calling anything: reserved ones, names of types, and some of clauses.
_NOT_CALLED: Final = frozenset(
    "all and any array as asymmetric between by case cast check collate constraint cross default distinct do else end"
    " except exists for foreign from full group grouping having if ilike in inner intersect interval into is isnull"
    " join key lateral left like limit natural not notnull offset on only or order out outer overlay primary references"
    " returning right row select similar some symmetric table tablesample then to union unique user using values when"
    " where window with bernoulli conflict copy explain filter include materialized ordinality over system within"
    " bigint bit bool boolean bpchar bytea char character date dec decimal double float float4 float8 int int2 int4"
    " int8 integer json jsonb name numeric oid precision real smallint text time timestamp timestamptz timetz uuid"
    " varbit varchar varying xml".split()
)
# What may stand before the name of a table, a CTE or an alias that has a list of columns.
_BEFORE_COLUMNS: Final = frozenset("into table as references only update with recursive".split())
_QUERIES: Final = frozenset(
    "select with values insert update delete merge table explain copy declare create alter refresh set".split()
)
# A name after a dot is known to nobody.
_CALLED: Final = re.compile(r"((?<![\w$])[\w$]++|\.[\w$]++|\")\s*+(?:(?:/\*.*?\*/|--[^\n]*\n)\s*)*\(", re.DOTALL)
_INTO: Final = re.compile(r"\s*insert\s+into\s+[\w$.\"]+(?:\s+as\s+\w+)?\s*\(", re.IGNORECASE)


def may_call(text: str) -> bool:
    """Tell at little cost whether a text may call a function that is not known to be harmless."""
    start = head.end() if (head := _INTO.match(text)) else 0
    return any(name.lower() not in _KNOWN for name in set(_CALLED.findall(text, start)) if not name.isdigit())


_KNOWN: Final = HARMLESS | _NOT_CALLED


def calls_of(statement: Sequence[Token]) -> frozenset[str]:
    """Return the names of the functions that a query calls, without those that are known to be harmless."""
    if not statement or statement[0].text not in _QUERIES:
        return frozenset()
    return frozenset(
        token.text
        for place, token in enumerate(statement[:-1])
        if token.kind in ("word", "name") and statement[place + 1].text == "(" and _is_called(statement, place)
    )


def _is_called(statement: Sequence[Token], place: int) -> bool:
    token, of_the_apps = statement[place], _is_of_the_apps(statement, place)
    plain = token.text in HARMLESS or (token.kind == "word" and token.text in _NOT_CALLED)
    if token.text == "set_config" or (plain and not of_the_apps):
        return False
    while place > 1 and statement[place - 1].text == ".":
        place -= 2
    before = statement[place - 1] if place else None
    if before is None or before.kind != "word":
        return True
    return before.text not in _BEFORE_COLUMNS and not (before.text == "on" and statement[0].text == "create")


def _is_of_the_apps(statement: Sequence[Token], place: int) -> bool:
    """Tell whether a name stands in a schema that is not PostgreSQL's own."""
    return place > 1 and statement[place - 1].text == "." and statement[place - 2].text != "pg_catalog"


class Verdict(NamedTuple):
    """What a function may do: change the session by itself; call others; set custom settings, named there or not."""

    sets: bool
    calls: frozenset[str]
    settings: frozenset[str]
    nameless: bool


_SETTING_IN_C: Final = frozenset({"set_limit", "dblink_exec"})
_WORDS: Final = frozenset(
    "set_config reset discard execute call do listen unlisten load deallocate prepare temp temporary pg_temp".split()
)
_MAY_SET: Final = re.compile(r"\s*set\b|.*\bset_config\b", re.IGNORECASE | re.DOTALL)
_EXECUTE: Final = Token("word", "execute")
_STARTS: Final = frozenset({"", ";", "begin", "then", "else", "loop", "as"})
_NAMED: Final = re.compile(
    r"(?:\bset(?:\s+(?:session|local))?|\breset|set_config\s*\(\s*'+)\s*\"?"
    r"([^\W\d][\w$]*(?:\.[^\W\d][\w$]*)+|role\b|search_path\b)",
    re.IGNORECASE,
)


def judge(name: str, language: str, body: str) -> Verdict:
    """Judge a function by its language and its body, as ``pg_proc`` has them."""
    if language in ("internal", "c"):
        return Verdict(name in _SETTING_IN_C or name == "set_config", frozenset(), frozenset(), False)
    if language not in ("sql", "plpgsql"):
        return Verdict(True, frozenset(), _settings_in(body), bool(_MAY_SET.search(body)))
    tokens = list(tokens_of(body))
    calls = (place for place, token in enumerate(tokens[:-1]) if tokens[place + 1].text == "(")
    called = frozenset(tokens[p].text for p in calls if tokens[p].kind in ("word", "name") and _is_called(tokens, p))
    sets = any(_sets(tokens, p) for p in range(len(tokens)))
    return Verdict(sets, called, _settings_in(body), sets and _sets_nameless(tokens))


def _sets(tokens: Sequence[Token], place: int) -> bool:
    token = tokens[place]
    if token.kind not in ("word", "name"):
        return False
    before = tokens[place - 1].text if place else ""
    if token.text == "do":
        return before in _STARTS
    return token.text in _WORDS or "advisory_lock" in token.text or (token.text == "set" and before in _STARTS)


def _settings_in(body: str) -> frozenset[str]:
    """Return the security state that a body names where it may set it; the server lists all but custom settings."""
    return frozenset(folded(name) for name in _NAMED.findall(body))


def _sets_nameless(tokens: Sequence[Token]) -> bool:
    """Tell whether a body may set something of which the name is found when it runs."""
    if any(not isinstance(step.name, str) or not step.name for step in doubtful_calls(tokens)):
        return True
    return any(_runs_unseen(tokens[place + 1 :]) for place, token in enumerate(tokens) if token == _EXECUTE)


def _runs_unseen(what: Sequence[Token]) -> bool:
    """Tell whether the text after EXECUTE, or its format, may set something and does not spell its name."""
    if [token.text for token in what[:2]] == ["format", "("]:
        what = what[2:]
    if not what or what[0].kind not in ("string", "escaped"):
        return True
    return bool(_MAY_SET.match(what[0].text)) and not _NAMED.search(what[0].text)
