package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"
)

// Times are nanoseconds since 1970, by the clock that all processes of the machine share, the server's log among them.
const sqlTables = `
CREATE TABLE chaos_calls (
    worker text NOT NULL, call bigint NOT NULL, projection text NOT NULL, position bigint NOT NULL, backend bigint NOT NULL,
    began bigint NOT NULL, ended bigint NOT NULL, outcome text NOT NULL, slot integer);
CREATE TABLE chaos_lives (worker text PRIMARY KEY, began bigint NOT NULL, ended bigint, killed boolean NOT NULL);
CREATE TABLE chaos_expiries (worker text NOT NULL, at bigint NOT NULL); -- of leases
CREATE TABLE chaos_deeds (fault text NOT NULL, detail text NOT NULL, worker text NOT NULL, began bigint NOT NULL, ended bigint NOT NULL);
CREATE TABLE chaos_ends (backend bigint NOT NULL, at bigint NOT NULL, abnormal boolean NOT NULL);
CREATE TABLE chaos_server_log (
    log_time timestamptz, user_name text, database_name text, process_id integer, connection_from text, session_id text,
    session_line_num bigint, command_tag text, session_start_time timestamptz, virtual_transaction_id text, transaction_id bigint,
    error_severity text, sql_state_code text, message text, detail text, hint text, internal_query text, internal_query_pos integer,
    context text, query text, query_pos integer, location text, application_name text, backend_type text, leader_pid integer,
    query_id bigint)`

// A session that was ended by somebody, or that lost its client, says so before it ends; an end within a crash or an immediate
// shutdown is not logged.
const sqlEnds = `
INSERT INTO chaos_ends
SELECT process_id, (extract(epoch FROM log_time) * 1e9)::bigint,
       NOT message LIKE 'disconnection:%'
FROM chaos_server_log
WHERE message LIKE 'disconnection:%' OR error_severity IN ('FATAL', 'PANIC')
   OR sql_state_code LIKE '08%' OR sql_state_code LIKE '57P%'`

// collect enters the journals, the server's log and what was done into tables.
func (c *chaos) collect(ctx context.Context) error {
	if err := c.insertDeeds(ctx); err != nil {
		return err
	}
	for _, w := range c.fleet.all {
		if err := c.collectWorker(ctx, w); err != nil {
			return err
		}
	}
	for _, statement := range []string{
		`COPY chaos_server_log FROM '` + logFile + `' WITH (FORMAT csv)`,
		sqlEnds,
		`UPDATE chaos_calls AS c SET slot = (hashtextextended(e.aggregate_id, 0) & 65535)::integer
		 FROM events AS e WHERE e.global_position = c.position`,
		// The end of a call that has none is that of its process.
		`UPDATE chaos_calls AS c SET ended = l.ended FROM chaos_lives AS l WHERE c.ended = 0 AND l.worker = c.worker`,
		`CREATE INDEX ON chaos_calls (projection, slot, began)`,
		`CREATE INDEX ON chaos_calls (projection, position, began)`,
		`CREATE INDEX ON chaos_calls (worker, projection, ended) WHERE outcome <> 'ok'`,
		`CREATE INDEX ON chaos_ends (backend, at)`,
		`ANALYZE`,
	} {
		if _, err := c.pool.Exec(ctx, statement); err != nil {
			return fmt.Errorf("preparing the checks: %s: %w", statement, err)
		}
	}
	return nil
}

// collectWorker enters one worker's journal and life.
func (c *chaos) collectWorker(ctx context.Context, w *worker) error {
	calls, err := readJournal(c.dir, w.Name)
	if err != nil {
		return err
	}
	_, err = c.pool.CopyFrom(ctx, pgx.Identifier{"chaos_calls"},
		[]string{"worker", "call", "projection", "position", "backend", "began", "ended", "outcome"},
		pgx.CopyFromSlice(len(calls), func(i int) ([]any, error) {
			e := calls[i]
			return []any{e.Worker, e.Call, e.Projection, e.Position, e.Backend, e.Began, e.Ended, e.Outcome}, nil
		}))
	if err != nil {
		return fmt.Errorf("entering the journal of worker %s: %w", w.Name, err)
	}
	if err := c.collectExpiries(ctx, w); err != nil {
		return err
	}
	ended := w.ended
	if ended.IsZero() {
		ended = time.Now()
	}
	_, err = c.pool.Exec(ctx, "INSERT INTO chaos_lives VALUES ($1, $2, $3, $4)", w.Name, w.began.UnixNano(), ended.UnixNano(), w.killed)
	if err != nil {
		return fmt.Errorf("entering the life of worker %s: %w", w.Name, err)
	}
	return nil
}

// leaseExpired is what a worker logs when it does not trust itself any more: it gives up its batches then.
var leaseExpired = regexp.MustCompile(`(?m)^time=(\S+) level=ERROR msg="no heartbeat succeeded for too long`)

// collectExpiries enters when the worker's lease expired. Its log says so to the millisecond.
func (c *chaos) collectExpiries(ctx context.Context, w *worker) error {
	log, err := os.ReadFile(w.LogFile)
	if err != nil {
		return fmt.Errorf("reading the log of worker %s: %w", w.Name, err)
	}
	for _, match := range leaseExpired.FindAllSubmatch(log, -1) {
		at, err := time.Parse(time.RFC3339Nano, string(match[1]))
		if err == nil {
			_, err = c.pool.Exec(ctx, "INSERT INTO chaos_expiries VALUES ($1, $2)", w.Name, at.UnixNano())
		}
		if err != nil {
			return fmt.Errorf("entering when the lease of worker %s expired: %w", w.Name, err)
		}
	}
	return nil
}
