package horizon

import (
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
)

// All statements name the schema of everything they use, since whoever had the connection before may have left a search_path or
// a temporary table behind. All fail on a standby, whose sequences and locks are not those of the writers.

// sqlLocate looks up the events table by schema (or, where $1 is null, by the session's search_path, without the session's temporary
// tables) and name $2, and the sequence that feeds its position: the one that the
// column's default draws from, or that of an identity column. The last column is the names whose collation is not deterministic, or whose type is citext.
const sqlLocate = `
SELECT c.oid, n.nspname, c.relname, current_user::pg_catalog.text, c.relkind::pg_catalog.text, c.relispartition,
       coalesce(a.attnum, 0), coalesce(d.oid, 0), coalesce(s.count, 0), coalesce(s.oid, 0), coalesce(s.nspname, ''), coalesce(s.relname, ''),
       ARRAY(SELECT x.attname::pg_catalog.text FROM pg_catalog.pg_attribute x JOIN pg_catalog.pg_collation l ON l.oid = x.attcollation
             JOIN pg_catalog.pg_type y ON y.oid = x.atttypid LEFT JOIN pg_catalog.pg_type b ON b.oid = y.typbasetype
             WHERE x.attrelid = c.oid AND x.attname IN ('bounded_context', 'aggregate_type', 'aggregate_id')
               AND (NOT l.collisdeterministic OR 'citext' IN (y.typname, b.typname))
             ORDER BY x.attnum)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = 'global_position' AND NOT a.attisdropped
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
LEFT JOIN LATERAL (
    SELECT pg_catalog.count(*) OVER () AS count, q.oid, qn.nspname, q.relname
    FROM pg_catalog.pg_depend p
    JOIN pg_catalog.pg_class q ON q.relkind = 'S'
     AND q.oid = CASE WHEN p.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass THEN p.refobjid ELSE p.objid END
    JOIN pg_catalog.pg_namespace qn ON qn.oid = q.relnamespace
    WHERE (p.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND p.objid = d.oid AND p.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass)
       OR (p.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND p.deptype = 'i'
           AND p.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND p.refobjid = c.oid AND p.refobjsubid = a.attnum)
    LIMIT 1
) s ON true
WHERE c.relname = $2 AND c.relpersistence <> 't'
  AND CASE WHEN $1::pg_catalog.text IS NULL THEN n.nspname = ANY (pg_catalog.current_schemas(false)) ELSE n.nspname = $1 END
  AND ` + dbguard.Primary + `
ORDER BY pg_catalog.array_position(pg_catalog.current_schemas(false), n.nspname)
LIMIT 1`

// sqlLastValue reads the highest number drawn from the sequence $1, and whether the role may read it, since a server from
// version 18 on answers null where it may not. Null is also the answer before the first number.
//
// It must not be read as a row of the sequence: drawing a number writes one
// that is up to 32 higher into that row for an instant, to be logged, and an
// ordinary scan reads without the lock that covers it. The function takes the lock.
const sqlLastValue = `
SELECT coalesce(pg_catalog.has_sequence_privilege($1::pg_catalog.oid, 'SELECT'), false),
       (SELECT pg_catalog.pg_sequence_last_value(s.seqrelid::pg_catalog.regclass) FROM pg_catalog.pg_sequence s WHERE s.seqrelid = $1::pg_catalog.oid)
WHERE ` + dbguard.Primary

// sqlNext reads the next number of the sequence %s, if is_called says that none was drawn since somebody has set it. See Prober.look.
const sqlNext = `SELECT last_value, is_called FROM %s WHERE ` + dbguard.Primary

// sqlState reads what must stay as it was at the start, and which run of the server it is: the columns of facts and server. $1 is
// the qualified name of the table, $2 the sequence and $3 the number of the table's column.
//
// Since version 15 the time when the statistics were reset tells runs apart, and costs nothing. To find out when the session
// began, the server copies what it knows of all sessions. So that is asked only on version 14, which reads a file for the other.
const sqlState = sqlStateColumns + `
FROM ` + sqlStateTables

const sqlStateColumns = `
       coalesce(t.oid, 0), coalesce(t.relkind::pg_catalog.text, ''), coalesce(t.relispartition, false),
       coalesce(pg_catalog.row_security_active(t.oid), false), coalesce(pg_catalog.has_column_privilege(t.oid, $3::pg_catalog.int2, 'SELECT'), false),
       coalesce((SELECT d.oid FROM pg_catalog.pg_attrdef d WHERE d.adrelid = t.oid AND d.adnum = $3::pg_catalog.int2), 0),
       coalesce(s.seqrelid, 0), coalesce(pg_catalog.pg_relation_filenode(s.seqrelid::pg_catalog.regclass), 0),
       coalesce(s.seqcache, 0), coalesce(s.seqincrement, 0), coalesce(s.seqmin, 0), coalesce(s.seqcycle, false),
       coalesce(pg_catalog.has_sequence_privilege(s.seqrelid, 'SELECT'), false),
       pg_catalog.pg_postmaster_start_time(), pg_catalog.clock_timestamp(), session.start,
       CASE WHEN session.start IS NULL THEN pg_catalog.pg_stat_get_bgwriter_stat_reset_time() END`

const sqlStateTables = `(SELECT CASE WHEN pg_catalog.current_setting('server_version_num')::pg_catalog.int4 < 150000
                  THEN (SELECT backend_start FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid())) END AS start OFFSET 0) AS session
LEFT JOIN pg_catalog.pg_class t ON t.oid = pg_catalog.to_regclass($1)
LEFT JOIN pg_catalog.pg_sequence s ON s.seqrelid = $2::pg_catalog.oid
WHERE ` + dbguard.Primary

// sqlQuiet reads the highest number drawn, as sqlLastValue does, and the state.
const sqlQuiet = `
SELECT coalesce(pg_catalog.has_sequence_privilege(s.seqrelid, 'SELECT'), false),
       CASE WHEN s.seqrelid IS NOT NULL THEN pg_catalog.pg_sequence_last_value(s.seqrelid::pg_catalog.regclass) END,` + sqlState

// sqlGlanceLocks bounds how long sqlGlance, in the same implicit transaction, waits for a lock on the events table: an ALTER TABLE, for one, excludes readers.
const sqlGlanceLocks = `SELECT pg_catalog.set_config('lock_timeout', '100ms', true)`

// sqlGlance reads what sqlQuiet does, and the positions and slots of the next events above $4, up to glanceMost of them. slot is
// the expression of a slot, or empty. It needs no guard against row-level security: a hidden event is a missing position.
func sqlGlance(events pgx.Identifier, slot string) string {
	if slot == "" {
		slot = "-1"
	}
	return fmt.Sprintf(`
SELECT coalesce(pg_catalog.has_sequence_privilege(s.seqrelid, 'SELECT'), false),
       CASE WHEN s.seqrelid IS NOT NULL THEN pg_catalog.pg_sequence_last_value(s.seqrelid::pg_catalog.regclass) END,
       above.positions, above.slots,`+sqlStateColumns+`
FROM (SELECT pg_catalog.array_agg(e.global_position) AS positions, pg_catalog.array_agg(e.slot) AS slots
      FROM (SELECT global_position, %s::pg_catalog.int4 AS slot FROM %s WHERE global_position > $4::pg_catalog.int8
            ORDER BY global_position LIMIT %d) AS e) AS above
CROSS JOIN `, slot, events.Sanitize(), glanceMost) + sqlStateTables
}

// withHolders is who holds the writers' lock on the events table ($1) or a partition of it, and who may have made a child of one of them: nobody
// else sees such a child before its transaction commits, so neither who writes to it. Making one locks the parent with ShareUpdateExclusiveLock
// and gives the transaction an ID, which VACUUM and the long parts of CREATE INDEX CONCURRENTLY, with the same lock, do not have.
// pg_locks covers all databases, hence the restriction.
const withHolders = `
WITH RECURSIVE target(oid) AS (
    SELECT pg_catalog.to_regclass($1)::pg_catalog.oid
    UNION ALL
    SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN target ON i.inhparent = target.oid
), holder AS (
    SELECT l.virtualtransaction AS name, coalesce(pg_catalog.min(l.pid), 0) AS pid
    FROM pg_catalog.pg_locks l
    WHERE l.granted AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
      AND (l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock'
        OR l.locktype = 'relation' AND l.mode IN ('RowExclusiveLock', 'ShareUpdateExclusiveLock')
          AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
          AND l.relation IN (SELECT oid FROM target))
    GROUP BY 1
    HAVING pg_catalog.bool_or(l.mode = 'RowExclusiveLock')
      OR pg_catalog.bool_or(l.mode = 'ShareUpdateExclusiveLock') AND pg_catalog.bool_or(l.mode = 'ExclusiveLock')
)`

// sqlHolders reads the holders and the state.
const sqlHolders = withHolders + `
SELECT coalesce((SELECT pg_catalog.array_agg(name ORDER BY name) FROM holder), '{}'),
       coalesce((SELECT pg_catalog.array_agg(pid ORDER BY name) FROM holder), '{}'),` + sqlState

// sqlMayReadLocks says whether the role may read what sqlHolders reads.
const sqlMayReadLocks = `SELECT pg_catalog.has_table_privilege('pg_catalog.pg_locks', 'SELECT') WHERE ` + dbguard.Primary

// sqlOldestSession reads which run of the server it is, when the oldest began of the sessions that the role may
// see, its own, and with pg_read_all_stats all, and when the statistics were reset.
const sqlOldestSession = `
SELECT pg_catalog.pg_postmaster_start_time(), pg_catalog.min(backend_start), pg_catalog.pg_stat_get_bgwriter_stat_reset_time()
FROM pg_catalog.pg_stat_get_activity(NULL) WHERE ` + dbguard.Primary

// sqlKeyed says whether the table $1 has a unique index of its column $2. The unique index of a partitioned table may have more columns, since it must have
// those that the table is partitioned by. Columns after the first indnkeyatts are only stored in the index (INCLUDE). It also reads which of the
// columns that decide who reads an event may be null, and which enabled subscription writes into the table or a partition of it.
const sqlKeyed = `
SELECT EXISTS (SELECT FROM pg_catalog.pg_index i
               WHERE i.indrelid = t.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
                 AND $2::pg_catalog.int2 = ANY ((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1]) AND (i.indnkeyatts = 1 OR t.relkind = 'p')),
       ARRAY(SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
             WHERE a.attrelid = t.oid AND a.attname IN ('global_position', 'aggregate_id') AND NOT a.attnotnull AND NOT y.typnotnull ORDER BY a.attnum),
       coalesce((SELECT u.subname::pg_catalog.text FROM pg_catalog.pg_subscription_rel r JOIN pg_catalog.pg_subscription u ON u.oid = r.srsubid
                 WHERE u.subenabled AND (r.srrelid = t.oid OR r.srrelid IN (SELECT relid FROM pg_catalog.pg_partition_tree(t.oid)))
                 ORDER BY 1 LIMIT 1), '')
FROM pg_catalog.pg_class t WHERE t.oid = $1::pg_catalog.oid AND ` + dbguard.Primary

// sqlExtent reads the lowest and the highest position of the stored events, null if there are none.
func sqlExtent(events pgx.Identifier) string {
	return fmt.Sprintf(`SELECT pg_catalog.min(global_position), pg_catalog.max(global_position), %s FROM %s WHERE `+dbguard.Primary,
		dbguard.SelectAllRows(events), events.Sanitize())
}

// sqlWithoutHole reads up to where the positions above $1 are visible without a hole. It reads at most $2 rows.
func sqlWithoutHole(events pgx.Identifier, oid uint32) string {
	return fmt.Sprintf(`
SELECT coalesce(pg_catalog.max(global_position), $1::pg_catalog.int8) FROM (
    SELECT global_position, pg_catalog.dense_rank() OVER (ORDER BY global_position) AS n FROM (
        SELECT global_position FROM %s WHERE global_position > $1::pg_catalog.int8 AND global_position <= $3::pg_catalog.int8 AND `+dbguard.Primary+`
        ORDER BY global_position LIMIT %s
    ) AS above
) AS numbered
WHERE global_position = $1::pg_catalog.int8 + n`, events.Sanitize(), dbguard.LimitAllRowsOf(events, oid, "$2::pg_catalog.int8"))
}

// sqlNews reads the slots of the events in ($1, $2], of up to $3 of them.
func sqlNews(events pgx.Identifier, oid uint32, slot string) string {
	return fmt.Sprintf(`
SELECT pg_catalog.array_agg(e.slot) FROM (
    SELECT %s::pg_catalog.int4 AS slot FROM %s WHERE global_position > $1::pg_catalog.int8 AND global_position <= $2::pg_catalog.int8 AND `+dbguard.Primary+`
    ORDER BY global_position LIMIT %s
) AS e`, slot, events.Sanitize(), dbguard.LimitAllRowsOf(events, oid, "$3::pg_catalog.int8"))
}

// sqlCountVisible counts the events in ($1, $2], up to $3 of them.
func sqlCountVisible(events pgx.Identifier, oid uint32) string {
	return fmt.Sprintf(`
SELECT pg_catalog.count(*) FROM (
    SELECT FROM %s WHERE global_position > $1::pg_catalog.int8 AND global_position <= $2::pg_catalog.int8 AND `+dbguard.Primary+`
    ORDER BY global_position LIMIT %s
) AS found`, events.Sanitize(), dbguard.LimitAllRowsOf(events, oid, "$3::pg_catalog.int8"))
}

// sqlBlocker describes the oldest of some transactions, given as names ($1) and
// the pids of their sessions ($2). Other roles' sessions show their details only to
// members of pg_read_all_stats.
const sqlBlocker = `
SELECT pid, application, age, gid FROM (
    SELECT a.pid, coalesce(a.application_name, '') AS application,
           coalesce(extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start), 0) AS age, '' AS gid
    FROM pg_catalog.pg_stat_activity a
    WHERE a.pid = ANY ($2)
    UNION ALL
    SELECT 0, '', extract(epoch FROM pg_catalog.clock_timestamp() - p.prepared), p.gid
    FROM pg_catalog.pg_locks l
    JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = l.transactionid
    WHERE l.locktype = 'transactionid' AND l.pid IS NULL AND l.virtualtransaction = ANY ($1)
) found
WHERE ` + dbguard.Primary + `
ORDER BY age DESC
LIMIT 1`
