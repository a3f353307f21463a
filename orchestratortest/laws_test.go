package orchestratortest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// by is a projection made of a function.
type by struct {
	handle        func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent) error
	unpartitioned bool
}

func (by) Name() string          { return "p" }
func (b by) Unpartitioned() bool { return b.unpartitioned }

func (b by) Handle(ctx context.Context, tx pgx.Tx, e es.PersistedEvent) error {
	return b.handle(ctx, tx, e)
}

// byBatches handles whole batches by another function.
type byBatches struct {
	by
	batch func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent) error
}

func (b byBatches) HandleBatch(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error {
	for _, e := range events {
		if err := b.batch(ctx, tx, e); err != nil {
			return err
		}
	}
	return nil
}

// set writes a number for an id.
func set(ctx context.Context, db interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, id string, told any,
) error {
	return db.QueryRow(ctx, "INSERT INTO users (id, told) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET told = excluded.told RETURNING told", id, told).Scan(new(int))
}

// add adds one for an id.
func add(ctx context.Context, tx pgx.Tx, e es.PersistedEvent) error {
	return users{}.Handle(ctx, tx, e)
}

// latest keeps the position of the latest event.
func latest(ctx context.Context, tx pgx.Tx, e es.PersistedEvent) error {
	return set(ctx, tx, "latest", e.GlobalPosition)
}

// sample is events of some aggregates.
func sample() (events []es.Event) {
	for i := range 24 {
		events = append(events, event("User", fmt.Sprint("user ", i%5)))
	}
	events[17].EventType = "Rare"
	return append(events, event("Order", "7"))
}

func readUsers(t *testing.T) func(pgx.Tx) (any, error) {
	t.Helper()
	return func(tx pgx.Tx) (any, error) { return told(t, tx), nil }
}

func TestGoodProjectionsKeepTheLaws(t *testing.T) {
	for name, p := range map[string]projection.Projection{
		"counts":                  users{},
		"counts in batches":       batches{},
		"counts both ways":        byBatches{by: by{handle: add}, batch: add},
		"database/sql":            sqlUsers{},
		"database/sql, both ways": sqlBatches{},
		"wrapped":                 Failing(users{}, func(es.PersistedEvent) error { return nil }),
		"the latest, in one part": by{handle: latest, unpartitioned: true},
		"the latest version": by{handle: func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent) error {
			return set(ctx, tx, e.AggregateID, e.AggregateVersion)
		}},
		"nothing is left at the end": by{handle: func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent) error {
			if e.GlobalPosition == 25 {
				_, err := tx.Exec(ctx, "DELETE FROM users")
				return err
			}
			return add(ctx, tx, e)
		}, unpartitioned: true},
		"a row for each event": by{handle: func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent) error {
			return set(ctx, tx, e.EventID.String(), e.GlobalPosition)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			db := newDatabase(t)
			CheckLaws(t, db, p, sample(), readUsers(t))
			assert.Empty(t, told(t, db), "it leaves nothing")
		})
	}
}

func TestBadProjectionsBreakALaw(t *testing.T) {
	for name, c := range map[string]struct {
		make func(*pgxpool.Pool) projection.Projection
		want []string
	}{
		"it keeps its state in memory": {func(*pgxpool.Pool) projection.Projection {
			seen := map[string]int{}
			return by{handle: func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent) error {
				seen[e.AggregateID]++
				return set(ctx, tx, e.AggregateID, seen[e.AggregateID])
			}}
		}, []string{"when it is handled again:\n  the first run, in order: ", "\n  then, when it is handled again: ", "The handler may keep something in memory, or read the clock.\n", "The smallest events that show it:\n  25: Something of Order"}},
		"it writes outside of the transaction": {func(db *pgxpool.Pool) projection.Projection {
			return by{handle: func(ctx context.Context, _ pgx.Tx, e es.PersistedEvent) error { return set(ctx, db, e.AggregateID, 1) }}
		}, []string{"after a rollback", "\n  before all events: ", "user 0 1", "The handler may write outside of tx.\n"}},
		"it depends on the order across aggregates": {
			func(*pgxpool.Pool) projection.Projection { return by{handle: latest} },
			[]string{"partitions", "latest 24"},
		},
		"its HandleBatch forgets a type": {func(*pgxpool.Pool) projection.Projection {
			return byBatches{by: by{handle: add}, batch: func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent) error {
				if e.EventType == "Rare" {
					return nil
				}
				return add(ctx, tx, e)
			}}
		}, []string{"through Handle", "The smallest events that show it:\n  18: Rare of User"}},
		"it uses the clock": {func(*pgxpool.Pool) projection.Projection {
			return by{handle: func(ctx context.Context, tx pgx.Tx, _ es.PersistedEvent) error {
				_, err := tx.Exec(ctx, "INSERT INTO users (id, told) VALUES ('now', extract(microseconds FROM clock_timestamp())) ON CONFLICT (id) DO UPDATE SET told = excluded.told")
				return err
			}}
		}, []string{"when it is handled again", "now"}},
		"it counts batches": {func(*pgxpool.Pool) projection.Projection {
			return countingBatches{}
		}, []string{"in batches of 1", "calls"}},
	} {
		t.Run(name, func(t *testing.T) {
			db := newDatabase(t)
			p := c.make(db)
			text := failure(t, func(tb testing.TB) { CheckLaws(tb, db, p, sample(), readUsers(t)) })
			t.Logf("CheckLaws says:\n%s", text)
			for _, want := range c.want {
				assert.Contains(t, text, want)
			}
		})
	}
}

// countingBatches counts its calls.
type countingBatches struct{ projection.BatchOnly }

func (countingBatches) Name() string { return "p" }

func (countingBatches) HandleBatch(ctx context.Context, tx pgx.Tx, _ []es.PersistedEvent) error {
	return add(ctx, tx, es.PersistedEvent{AggregateID: "calls"})
}

func TestCheckLawsRefusesWhatItCannotCheck(t *testing.T) {
	db := newDatabase(t)
	for want, p := range map[string]projection.Projection{
		errBad.Error() + "\nThe event, and those after it in its batch:\n  1: Something": by{handle: func(context.Context, pgx.Tx, es.PersistedEvent) error { return errBad }},
		"the projection cannot be run": (*by)(nil),
	} {
		assert.Contains(t, failure(t, func(tb testing.TB) { CheckLaws(tb, db, p, sample(), readUsers(t)) }), want)
	}
	assert.Contains(t, failure(t, func(tb testing.TB) { CheckLaws(tb, db, users{}, []es.Event{event("Order", "7")}, readUsers(t)) }), "at least one event in the scope")
	assert.Contains(t, failure(t, func(tb testing.TB) { CheckLaws(tb, db, users{}, []es.Event{event("", "7")}, readUsers(t)) }), "AggregateType must not be empty")
}

// A read model that is never read would keep all laws.
func TestCheckLawsTellsThatItReadsNothing(t *testing.T) {
	db := newDatabase(t)
	nothing := by{handle: func(context.Context, pgx.Tx, es.PersistedEvent) error { return nil }}
	for _, test := range []struct {
		projection projection.Projection
		tells      bool
	}{{nothing, true}, {users{}, false}} {
		log := &logged{TB: t}
		CheckLaws(log, db, test.projection, sample(), readUsers(t))
		assert.Equal(t, test.tells, strings.Contains(log.text, "the read model was empty after each of the events"), log.text)
	}
}

// logged keeps what a test logs.
type logged struct {
	testing.TB
	text string
}

func (l *logged) Logf(format string, args ...any) { l.text += fmt.Sprintf(format, args...) }
