-- Up to which position the events went at which time, as the leader has sampled it: how long
-- events wait follows from it. The older the samples, the farther they are apart.
CREATE TABLE {{schema}}orchestrator_samples (
    replica_set text        NOT NULL,
    position    bigint      NOT NULL CHECK (position >= 0),
    sampled_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (replica_set, position)
);

-- About how many events each projection has yet to handle, for autoscalers. Work that more
-- workers would not do sooner is left out: of slots that are stopped, held back, or wait for
-- an event that fails, and of a projection that must not be divided and has its worker.
-- A position that is not known counts as handled, so that lag is never below 0.
CREATE VIEW {{schema}}orchestrator_scalable_lag AS
SELECT lagging.replica_set, lagging.projection,
       coalesce(ceil(sum(greatest(0, lagging.up_to - lagging.position) * (lagging.slot_to - lagging.slot_from)::numeric / 65536)
           FILTER (WHERE NOT lagging.stalled)), 0)::bigint AS lag
FROM (
    SELECT c.replica_set, c.projection, c.position, c.slot_from, c.slot_to,
           least(stream.position, CASE WHEN c.hold_at IS NOT NULL AND (c.hold_until IS NULL OR c.hold_until > now()) THEN c.hold_at END) AS up_to,
           c.stopped_at IS NOT NULL
           OR EXISTS (
               SELECT FROM {{schema}}orchestrator_dead_letters AS l
               WHERE l.projection = c.projection AND l.state = 'retrying' AND l.global_position > c.position
                 AND (hashtextextended(l.aggregate_id, 0) & 65535) >= c.slot_from AND (hashtextextended(l.aggregate_id, 0) & 65535) < c.slot_to)
           OR EXISTS (
               SELECT FROM {{schema}}orchestrator_workers AS w
               WHERE w.worker_id = c.worker_id AND w.state = 'running' AND c.projection = ANY (w.unpartitioned)) AS stalled
    FROM {{schema}}orchestrator_checkpoints AS c
    LEFT JOIN (
        SELECT h.events_table, greatest(h.position, (
            SELECT CASE WHEN has_sequence_privilege(s.sequence, 'SELECT') THEN pg_sequence_last_value(s.sequence) END
            FROM (SELECT pg_get_serial_sequence(format('%I.%I', n.nspname, t.relname), 'global_position')::regclass AS sequence
                  FROM pg_class AS t JOIN pg_namespace AS n ON n.oid = t.relnamespace
                  WHERE t.oid = h.table_oid AND t.relkind IN ('r', 'p')) AS s
            WHERE s.sequence IS NOT NULL)) AS position
        FROM {{schema}}orchestrator_horizons AS h
    ) AS stream ON stream.events_table = c.events_table
) AS lagging
GROUP BY lagging.replica_set, lagging.projection;
