"""Functions of MySQL that set nothing. Pure.

Which others a text calls matters where the server does not report at once what they set: to the rows of a query MySQL
adds nothing. The list is what MySQL 9.7 takes in ``SELECT name()`` without looking for a stored function, keywords
included; a name that is missing costs a question.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["calls"]

_QUERY: Final = re.compile(
    r"(?:\A|;)(?:[\s(]|/\*.{0,200}?\*/|(?:--|\#)[^\n]{0,200}+\n)*+(?:/\*M?!\d*\s*)?"
    r"(?:select|with|values|table|explain|analyze|desc(?:ribe)?)\b",
    re.IGNORECASE | re.DOTALL,
)
_CALL: Final = re.compile(r"(\.\s*+)?+(?<!\w)(\w++|`[^`]++`)\s*+\(")
_HARMLESS: Final = frozenset(
    """
    abs absent accessible account acos active add adddate addtime aes_decrypt aes_encrypt against
    all allow_missing_files alter always analyze and any any_value array as asc ascii asensitive asin
    assign_gtids_to_anonymous_transactions at atan atan2 authentication auto auto_increment auto_refresh
    auto_refresh_source avg avg_row_length begin benchmark bernoulli between bigint bin bin_to_uuid binary bit
    bit_and bit_count bit_length bit_or bit_xor blob boolean both buckets by byte cascade cascaded case cast
    ceil ceiling challenge_response changed char char_length character character_length charset checksum clone
    coalesce code coercibility collate collation column_format columns comment committed compact completion
    compress compressed compression concat concat_ws concurrent condition connection_id constraint_catalog
    constraint_schema context continue conv convert cot count cpu crc32 create cross cube cume_dist curdate
    current_date current_role current_role_in current_time current_timestamp current_user current_user_in
    curtime data database databases datafile date date_add date_format date_sub datediff datetime day day_hour
    day_microsecond day_minute day_second dayname dayofmonth dayofweek dayofyear deallocate dec decimal
    declare default default_auth definer degrees delay_key_write delete dense_rank desc describe description
    diagnostics discard distinct distinctrow div do double drop dual dumpfile dynamic each else elseif elt
    encryption end ends engine enum errors escape escaped etag event events every except exchange exclude
    execute exists exp expansion export export_set external_format extract extractvalue false fast faults
    fetch field file file_pattern file_prefix files find_in_set first_value fixed float float4 float8 floor
    flush following follows force foreign format format_bytes format_pico_time from from_base64 from_days
    from_unixtime from_vector fulltext general generate geomcollection geometrycollection get get_format
    get_jdv_property_key_value get_lock get_source_public_key grant greatest group_concat grouping groups
    gtid_subset gtid_subtract guided having help hex history host hosts hour hour_microsecond hour_minute
    hour_second icu_version if ifnull in inactive index inet6_aton inet6_ntoa inet_aton inet_ntoa initiate
    inner inout insensitive insert insert_method instr int int1 int2 int3 int4 int8 integer intersect interval
    into invoker io io_after_gtids io_before_gtids ipc is is_free_lock is_ipv4 is_ipv4_compat is_ipv4_mapped
    is_ipv6 is_used_lock is_uuid is_visible_dd_object isnull isolation issuer iterate join json json_array
    json_array_append json_array_insert json_arrayagg json_contains json_contains_path json_depth json_extract
    json_insert json_keys json_length json_merge json_merge_patch json_merge_preserve json_object json_objectagg
    json_overlaps json_pretty json_quote json_remove json_replace json_schema_valid json_schema_validation_report
    json_search json_set json_storage_free json_table json_type json_unquote json_valid json_value key
    keyring keys kill lag language last last_day last_insert_id last_value lateral lcase lead leading least
    leaves left length less linear lines linestring list ln load local localtime localtimestamp locate lock
    log log10 log2 longblob longtext loop low_priority lower lpad ltrim make_set makedate maketime manual
    masking master_pos_wait match materialized max maxvalue mbrcontains mbrcoveredby mbrcovers mbrdisjoint
    mbrequals mbrintersects mbroverlaps mbrtouches mbrwithin md5 medium mediumblob mediumint mediumtext
    member message_text microsecond mid middleint migrate min minute minute_microsecond minute_second mod
    mode modifies modify month monthname multilinestring multipoint multipolygon mysql_errno name name_const
    natural nchar nested network_namespace new next no no_wait no_write_to_binlog nodegroup none not now nowait
    nth_value ntile null nullif number numeric nvarchar oct of offset oj old on open optional optionally or
    ord order ordinality organization others out outer outfile over owner pack_keys parameters parse_tree
    partial partition partitions password path percent_rank period_add period_diff persist persist_only pi
    plugin plugin_dir point polygon port position pow power precedes preceding prev process processlist proxy
    ps_current_thread_id ps_thread_id qualify quarter radians rand random random_bytes range rank real recursive
    redundant references regexp regexp_instr regexp_like regexp_replace regexp_substr relational relay relaylog
    release release_all_locks release_lock reload remove_dd_property_key reorganize repeat repeatable replace
    replica replicas resignal respect restrict resume retain returned_sqlstate returning returns reuse reverse
    revoke right rlike roles_graphml rollback rollup rotate round routine row row_count row_format row_number rows
    rpad rtrim s3 schedule schema schemas sec_to_time second second_microsecond security select separator serial
    serializable session session_user set sha sha1 sha2 show shutdown sign signed sin skip sleep slow smallint
    socket some soname soundex sounds space specific sql sqrt ssl st_area st_asbinary st_asgeojson st_astext
    st_aswkb st_aswkt st_buffer st_buffer_strategy st_centroid st_collect st_contains st_convexhull st_crosses
    st_difference st_dimension st_disjoint st_distance st_distance_sphere st_endpoint st_envelope st_equals
    st_exteriorring st_frechetdistance st_geohash st_geomcollfromtext st_geomcollfromtxt st_geomcollfromwkb
    st_geometrycollectionfromtext st_geometrycollectionfromwkb st_geometryfromtext st_geometryfromwkb st_geometryn
    st_geometrytype st_geomfromgeojson st_geomfromtext st_geomfromwkb st_hausdorffdistance st_interiorringn
    st_intersection st_intersects st_isclosed st_isempty st_issimple st_isvalid st_latfromgeohash
    st_latitude st_length st_linefromtext st_linefromwkb st_lineinterpolatepoint st_lineinterpolatepoints
    st_linestringfromtext st_linestringfromwkb st_longfromgeohash st_longitude st_makeenvelope
    st_mlinefromtext st_mlinefromwkb st_mpointfromtext st_mpointfromwkb st_mpolyfromtext st_mpolyfromwkb
    st_multilinestringfromtext st_multilinestringfromwkb st_multipointfromtext st_multipointfromwkb
    st_multipolygonfromtext st_multipolygonfromwkb st_numgeometries st_numinteriorring st_numinteriorrings
    st_numpoints st_overlaps st_pointatdistance st_pointfromgeohash st_pointfromtext st_pointfromwkb st_pointn
    st_polyfromtext st_polyfromwkb st_polygonfromtext st_polygonfromwkb st_simplify st_srid st_startpoint
    st_swapxy st_symdifference st_touches st_transform st_union st_validate st_within st_x st_y stacked starts
    statement_digest statement_digest_text stats_auto_recalc stats_persistent stats_sample_pages status std
    stddev stddev_pop stddev_samp stop storage stored str_to_date straight_join strcmp strict_load string
    string_to_vector subclass_origin subdate subject subpartition subpartitions substr substring substring_index
    subtime sum super suspend swaps switches sysdate system_user table table_checksum tables tablesample
    tan temporary temptable text than then ties time time_format time_to_sec timediff timestamp timestampadd
    timestampdiff tinyblob tinyint tinytext tls to to_base64 to_days to_seconds to_vector trailing trigger
    triggers trim true truncate type ucase uncompress uncompressed_length undo undofile unhex unicode union
    unique unix_timestamp unknown unlock unregister unsigned until update updatexml upper uri url usage use user
    using utc_date utc_time utc_timestamp uuid uuid_short uuid_to_bin validate_password_strength validation
    value values var_pop var_samp varbinary varchar varcharacter variance vcpu vector_dim vector_to_string
    verify_key_constraints version version_with_update view visible wait_for_executed_gtid_set warnings week
    weekday weekofyear weight_string when where while window with within without wrapper write x509 xa xid
    xml xor year year_month yearweek zerofill
    """.split()
)


def calls(text: str) -> frozenset[str]:
    """Return the names of functions that a query may call, and that may be stored ones (lower case)."""
    if not _QUERY.search(text):
        return frozenset()
    found = ((qualified, name.lower()) for qualified, name in _CALL.findall(text))
    return frozenset(name for qualified, name in found if qualified or name not in _HARMLESS)
