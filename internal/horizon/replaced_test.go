package horizon

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// replacements are tables that take the name of one with five events, and whether all goes on with them.
var replacements = []struct {
	name, sql string
	right     bool
}{
	{"a copy", `CREATE TABLE next (LIKE events INCLUDING ALL); INSERT INTO next SELECT * FROM events`, true},
	{"a partitioned copy", `CREATE TABLE next (LIKE events INCLUDING DEFAULTS, PRIMARY KEY (global_position)) PARTITION BY RANGE (global_position);
		CREATE TABLE low PARTITION OF next FOR VALUES FROM (1) TO (4); CREATE TABLE high PARTITION OF next DEFAULT;
		INSERT INTO next SELECT * FROM events`, true},
	{"a copy with a sequence of its own", `CREATE TABLE next (LIKE events INCLUDING ALL); CREATE SEQUENCE own;
		ALTER TABLE next ALTER global_position SET DEFAULT nextval('own'); INSERT INTO next SELECT * FROM events; SELECT setval('own', 5)`, true},
	{"a copy without what is old", `CREATE TABLE next (LIKE events INCLUDING ALL); INSERT INTO next SELECT * FROM events WHERE global_position > 3`, true},
	{"an empty one", `CREATE TABLE next (LIKE events INCLUDING ALL)`, false},
	{"an empty one with an identity", `CREATE TABLE next (global_position bigint GENERATED ALWAYS AS IDENTITY (START 1000) PRIMARY KEY, body text,
		event_id uuid DEFAULT gen_random_uuid()); SELECT nextval('next_global_position_seq')`, false},
	{"a copy without the last event", `CREATE TABLE next (LIKE events INCLUDING ALL); INSERT INTO next SELECT * FROM events WHERE global_position < 5`, false},
	{"one with other events", `CREATE TABLE next (LIKE events INCLUDING ALL); INSERT INTO next (body) SELECT 'other' FROM events;
		UPDATE next SET global_position = global_position - 5; SELECT setval('events_global_position_seq', 5)`, false},
}

func TestATableThatTakesTheNameIsRecognized(t *testing.T) {
	for _, memory := range []bool{false, true} {
		for _, replacement := range replacements {
			name := replacement.name
			if memory {
				name += ", not stored"
			}
			t.Run(name, func(t *testing.T) {
				pool := newEvents(t)
				p, shared := newProber(t, pool, 0)
				if memory {
					p.checkpoints = shared.Checkpoints
				}
				for range 5 {
					insert(t, pool)
				}
				require.Equal(t, int64(5), probe(t, p).Position)
				shared.at.Store(5)
				for sql := range strings.SplitSeq(replacement.sql+`; ALTER TABLE events RENAME TO former; ALTER TABLE next RENAME TO events`, ";") {
					exec(t, pool, sql)
				}
				if replacement.right {
					insert(t, pool)
					require.Equal(t, int64(6), probe(t, p).Position)
					return
				}
				for range 2 {
					_, err := p.Probe(t.Context())
					require.Equal(t, []Reason{ReasonReplaced}, ReasonsOf(err), "%v", err)
				}
				exec(t, pool, `ALTER TABLE events RENAME TO next`)
				exec(t, pool, `ALTER TABLE former RENAME TO events`)
				require.Equal(t, int64(5), probe(t, p).Position, "it is back")
			})
		}
	}
}

// A table is dropped and restored while it is probed, as pg_restore does it. Until its events are back, no regression is recorded.
func TestATableIsRestoredWhileItIsProbed(t *testing.T) {
	pool := newEvents(t)
	p, shared := newProber(t, pool, 0)
	for range 5 {
		insert(t, pool)
	}
	require.Equal(t, int64(5), probe(t, p).Position)
	shared.at.Store(5)
	exec(t, pool, `CREATE TABLE dump AS SELECT * FROM events`)
	for _, sql := range []string{
		`DROP TABLE events`,
		`CREATE TABLE events (global_position bigint NOT NULL, body text, event_id uuid NOT NULL DEFAULT gen_random_uuid())`,
		`CREATE SEQUENCE events_global_position_seq OWNED BY events.global_position`,
		`ALTER TABLE events ALTER global_position SET DEFAULT nextval('events_global_position_seq')`,
	} {
		exec(t, pool, sql)
		_, err := p.Probe(t.Context())
		require.NotEmpty(t, ReasonsOf(err), "%s: %v", sql, err)
	}
	exec(t, pool, `INSERT INTO events SELECT * FROM dump`)
	exec(t, pool, `SELECT setval('events_global_position_seq', 5)`)
	_, err := p.Probe(t.Context())
	require.Equal(t, []Reason{ReasonTable}, ReasonsOf(err), "the indexes come last")
	exec(t, pool, `ALTER TABLE events ADD PRIMARY KEY (global_position)`)
	require.Equal(t, int64(5), probe(t, p).Position)
	require.Equal(t, int64(6), insert(t, pool))
	require.Equal(t, int64(6), probe(t, p).Position)
}

// Old events are deleted, or all of them, which is nobody's loss.
func TestDeletedEventsAreNoOtherTable(t *testing.T) {
	pool := newEvents(t)
	p, _ := newProber(t, pool, 0)
	for range 5 {
		insert(t, pool)
	}
	require.Equal(t, int64(5), probe(t, p).Position)
	exec(t, pool, `DELETE FROM events`)
	p.tracker = nil
	require.Equal(t, int64(5), probe(t, p).Position)
	insert(t, pool)
	require.Equal(t, int64(6), probe(t, p).Position)
}

// What is settled in one table says nothing about the other, though both draw from the same sequence: a schema gets its name while
// somebody inserts into its table, which waits for nobody.
func TestAnotherTableStartsFromItsOwnFloor(t *testing.T) {
	pool := newEvents(t)
	p, _ := newProber(t, pool, 0)
	insert(t, pool)
	exec(t, pool, `CREATE SCHEMA next`)
	exec(t, pool, `CREATE TABLE next.events (LIKE public.events INCLUDING ALL)`)
	late := begin(t, pool)
	exec(t, late, `INSERT INTO next.events (body) VALUES ('late')`)
	for range 3 {
		insert(t, pool)
	}
	require.Equal(t, int64(5), probe(t, p).Position, "it is another table's")
	exec(t, pool, `INSERT INTO next.events SELECT * FROM public.events`)
	for _, sql := range []string{`ALTER SCHEMA public RENAME TO former`, `ALTER SCHEMA next RENAME TO public`} {
		exec(t, pool, sql)
	}
	assert.Less(t, probe(t, p).Position, int64(2))
	require.NoError(t, late.Commit(t.Context()))
	assert.Equal(t, int64(5), probe(t, p).Position)
}

// The server has crashed, and what it had promised nobody is gone. Its positions are given again.
func TestWhatACrashTookIsForgotten(t *testing.T) {
	pool := newEvents(t)
	p := NewProber(dial(t, pool), events, InMemory(func(context.Context) (int64, error) { return 0, nil }), Options{RegressionsEvery: time.Nanosecond})
	insert(t, pool)
	require.Equal(t, int64(1), probe(t, p).Position)
	exec(t, pool, `UPDATE events SET event_id = gen_random_uuid()`)
	p.tracker = nil
	_, err := p.Probe(t.Context())
	require.Equal(t, []Reason{ReasonReplaced}, ReasonsOf(err), "%v", err)
	p.server.started = p.server.started.Add(-time.Hour) // as if it had
	require.Equal(t, int64(1), probe(t, p).Position)
}
