package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// phase is a phase of a change of generation, at which the leader is hit.
type phase int

const (
	phaseDue        phase = iota // a worker has come, nothing is prepared
	phasePreparing               // the others drain
	phaseActivating              // the activation waits for a checkpoint
	phaseActive                  // members have not started yet
	phases
)

func (p phase) String() string {
	return [...]string{"a change is due", "preparing", "activating", "just active"}[p]
}

// phasePatience bounds the wait for a phase; the leader is hit then all the same.
const phasePatience = time.Second

// hitLeader causes a change of generation and kills or freezes the leader in one of its phases.
func (c *chaos) hitLeader(ctx context.Context, s step) error {
	at, freeze := phase(s.Kind)%phases, s.Kind >= int(phases)
	before := c.generation(ctx)
	release := func() {}
	if at == phaseActivating {
		release = c.holdCheckpoint(ctx)
	}
	defer release()
	if err := c.join(ctx); err != nil {
		return err
	}
	c.await(ctx, at, before)
	w := c.fleet.named(c.leader(ctx))
	if w == nil || !slices.Contains(c.fleet.staying(), w) {
		return nil // nobody leads now, or the database does not know yet
	}
	end := c.note(faultLeader, w, "%s, which leads: %s", w.Name, at)
	defer end()
	if freeze {
		return c.freezeNow(ctx, w, s.For)
	}
	return c.kill(w)
}

// The leader's lock is the one that a worker's session holds beside its own, and beside that of its transactions. Where workers have no sessions it is the live worker
// with the least id.
const sqlLeader = `
SELECT coalesce((
    SELECT w.name FROM pg_locks AS l
    JOIN pg_stat_activity AS a USING (pid)
    JOIN orchestrator_workers AS w ON a.application_name = 'pupsourcing-worker ' || w.worker_id
    WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
      AND ((l.classid::bigint << 32) | l.objid::bigint) IS DISTINCT FROM w.session_key
      AND ((l.classid::bigint << 32) | l.objid::bigint) <> hashtextextended('pupsourcing-worker ' || w.worker_id, 0) LIMIT 1
), (
    SELECT name FROM orchestrator_workers WHERE state NOT IN ('dead', 'stopped') ORDER BY worker_id LIMIT 1
), '')`

// leader is the leader's name; empty if there is none, or nobody can be asked.
func (c *chaos) leader(ctx context.Context) string {
	var name string
	if err := c.pool.QueryRow(ctx, sqlLeader).Scan(&name); err != nil {
		return ""
	}
	return name
}

// generation is the highest number; 0 if there is none, or nobody can be asked.
func (c *chaos) generation(ctx context.Context) int64 {
	var number int64
	if err := c.pool.QueryRow(ctx, "SELECT coalesce(max(number), 0) FROM orchestrator_generations").Scan(&number); err != nil {
		return 0
	}
	return number
}

var sqlPhase = map[phase]string{
	phasePreparing: `SELECT EXISTS (SELECT FROM orchestrator_generations WHERE number > $1 AND state = 'preparing')`,
	phaseActivating: `SELECT $1::bigint IS NOT NULL AND EXISTS (SELECT FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND query LIKE '%orchestrator_checkpoints%FOR UPDATE%' AND application_name <> 'chaos')`,
	phaseActive: `SELECT EXISTS (SELECT FROM orchestrator_generations WHERE number > $1 AND state = 'active')`,
}

// await waits for the phase of a generation after the one before.
func (c *chaos) await(ctx context.Context, at phase, before int64) {
	sql, looks := sqlPhase[at]
	if !looks {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, phasePatience)
	defer cancel()
	reached := false
	for !reached && rest(ctx, 2*time.Millisecond) {
		if err := c.pool.QueryRow(ctx, sql, before).Scan(&reached); err != nil {
			return
		}
	}
}

// holdCheckpoint locks a checkpoint's row, so that an activation waits, until release is called.
func (c *chaos) holdCheckpoint(ctx context.Context) (release func()) {
	tx, err := c.pool.Begin(ctx)
	if err != nil {
		return func() {}
	}
	var one int
	err = tx.QueryRow(ctx, "SELECT 1 FROM orchestrator_checkpoints ORDER BY projection, slot_from LIMIT 1 FOR UPDATE").Scan(&one)
	if err != nil {
		_ = tx.Rollback(context.WithoutCancel(ctx))
		return func() {}
	}
	return func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }
}

// insertDeeds enters what was done into a table.
func (c *chaos) insertDeeds(ctx context.Context) error {
	c.injections.mu.Lock()
	defer c.injections.mu.Unlock()
	_, err := c.pool.CopyFrom(ctx, pgx.Identifier{"chaos_deeds"}, []string{"fault", "detail", "worker", "began", "ended"},
		pgx.CopyFromSlice(len(c.injections.list), func(i int) ([]any, error) {
			d := c.injections.list[i]
			ended := d.Ended
			if ended.IsZero() {
				ended = time.Now()
			}
			return []any{string(d.Fault), d.Detail, d.Worker, d.Began.UnixNano(), ended.UnixNano()}, nil
		}))
	if err != nil {
		return fmt.Errorf("entering what was done: %w", err)
	}
	return nil
}
