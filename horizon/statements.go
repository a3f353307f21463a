package horizon

// sqlLocate looks up by name ($1, as the session's search_path finds it) the
// events table and the sequence that feeds its position: the one that the
// column's default draws from, or that of an identity column. The last three
// columns are the server's identity, as in sqlHolders.
const sqlLocate = `
SELECT c.oid, n.nspname, c.relname, c.relkind::text, c.relispartition,
       a.attnum IS NOT NULL AS has_position, coalesce(s.count, 0), coalesce(s.oid, 0), coalesce(s.nspname, ''), coalesce(s.relname, ''),
       pg_postmaster_start_time(), clock_timestamp(), (SELECT backend_start FROM pg_stat_get_activity(pg_backend_pid()))
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'global_position' AND NOT a.attisdropped
LEFT JOIN LATERAL (
    SELECT count(*) OVER () AS count, q.oid, qn.nspname, q.relname
    FROM pg_depend d
    LEFT JOIN pg_attrdef def ON d.classid = 'pg_attrdef'::regclass AND d.objid = def.oid
    JOIN pg_class q ON q.relkind = 'S'
     AND q.oid = CASE WHEN d.classid = 'pg_attrdef'::regclass THEN d.refobjid ELSE d.objid END
    JOIN pg_namespace qn ON qn.oid = q.relnamespace
    WHERE (def.adrelid = c.oid AND def.adnum = a.attnum AND d.refclassid = 'pg_class'::regclass)
       OR (d.classid = 'pg_class'::regclass AND d.deptype = 'i'
           AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.refobjsubid = a.attnum)
    LIMIT 1
) s ON true
WHERE c.oid = to_regclass($1)`

// sqlLastValue reads the highest number drawn from the sequence $1; 0 before the
// first. It must not be read as a row of the sequence: drawing a number writes one
// that is up to 32 higher into that row for an instant, to be logged, and an
// ordinary scan reads without the lock that covers it. The function takes the lock.
const sqlLastValue = `SELECT coalesce(pg_sequence_last_value($1::text::regclass), 0)`

// sqlQuiet reads the highest number drawn, as sqlLastValue does, with the rest of
// what sqlHolders reads apart from the holders. $2 is the table.
const sqlQuiet = `
SELECT coalesce(pg_sequence_last_value($1::text::regclass), 0),
       coalesce(to_regclass($2)::oid, 0), pg_postmaster_start_time(), clock_timestamp(),
       (SELECT backend_start FROM pg_stat_get_activity(pg_backend_pid()))`

// sqlHolders reads who holds the writers' lock on the events table ($1) or a
// partition of it, and what tells whether the server is still the one of an
// earlier probe. pg_locks covers all databases, hence the restriction.
const sqlHolders = `
WITH RECURSIVE target(oid) AS (
    SELECT to_regclass($1)::oid
    UNION ALL
    SELECT i.inhrelid FROM pg_inherits i JOIN target ON i.inhparent = target.oid
), holder AS (
    SELECT DISTINCT l.virtualtransaction AS name, coalesce(l.pid, 0) AS pid
    FROM pg_locks l
    WHERE l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND l.granted
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND l.relation IN (SELECT oid FROM target)
      AND l.pid IS DISTINCT FROM pg_backend_pid()
)
SELECT coalesce(to_regclass($1)::oid, 0),
       pg_postmaster_start_time(),
       clock_timestamp(),
       (SELECT backend_start FROM pg_stat_get_activity(pg_backend_pid())),
       coalesce((SELECT array_agg(name ORDER BY name) FROM holder), '{}'),
       coalesce((SELECT array_agg(pid ORDER BY name) FROM holder), '{}')`

// sqlOldestSession reads which run of the server it is, and when the oldest began of the sessions that the role may
// see: its own, and with pg_read_all_stats all.
const sqlOldestSession = `SELECT pg_postmaster_start_time(), min(backend_start) FROM pg_stat_get_activity(NULL)`

// sqlCountVisible counts the events in ($1, $2]; %s is the events table.
const sqlCountVisible = `SELECT count(*) FROM %s WHERE global_position > $1 AND global_position <= $2`

// sqlBlocker describes the oldest of some transactions, given as names ($1) and
// the pids of their sessions ($2). Other roles' sessions show their details only to
// members of pg_read_all_stats.
const sqlBlocker = `
SELECT pid, application, age, gid FROM (
    SELECT a.pid, coalesce(a.application_name, '') AS application,
           coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::float8 AS age, '' AS gid
    FROM pg_stat_activity a
    WHERE a.pid = ANY ($2)
    UNION ALL
    SELECT 0, '', extract(epoch FROM clock_timestamp() - p.prepared)::float8, p.gid
    FROM pg_locks l
    JOIN pg_prepared_xacts p ON p.transaction = l.transactionid
    WHERE l.locktype = 'transactionid' AND l.pid IS NULL AND l.virtualtransaction = ANY ($1)
) found
ORDER BY age DESC
LIMIT 1`

// sqlPreconditions reads what Check demands of the sequence ($1), the server and the role.
const sqlPreconditions = `
SELECT s.seqcache, s.seqincrement, s.seqcycle, pg_is_in_recovery(),
       has_sequence_privilege(s.seqrelid, 'SELECT'),
       has_table_privilege('pg_catalog.pg_locks', 'SELECT')
FROM pg_sequence s
WHERE s.seqrelid = $1`
