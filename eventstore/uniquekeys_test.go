package eventstore

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

const (
	versionConstraint = "events_bounded_context_aggregate_type_aggregate_id_aggregat_key"
	partitioned       = `
		DROP TABLE events;
		CREATE TABLE events (
			global_position bigserial, bounded_context text NOT NULL, aggregate_type text NOT NULL, aggregate_id text NOT NULL,
			aggregate_version bigint NOT NULL, event_id uuid NOT NULL, event_type text NOT NULL, event_version int NOT NULL DEFAULT 1,
			payload bytea NOT NULL, trace_id text, correlation_id text, causation_id text, metadata jsonb,
			created_at timestamptz NOT NULL DEFAULT now(),
			PRIMARY KEY (global_position, aggregate_id), UNIQUE (event_id, aggregate_id),
			UNIQUE (bounded_context, aggregate_type, aggregate_id, aggregate_version)
		) PARTITION BY LIST (aggregate_id)`
)

// forget makes the heads fall one version behind, as a writer leaves them that does not advance them.
func forget(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	exec(t, pool, "UPDATE aggregate_heads SET aggregate_version = aggregate_version - 1")
}

func TestAVersionConflictIsRecognisedByTheColumnsOfTheIndex(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"as it is made":              "",
		"a renamed constraint":       "ALTER TABLE events RENAME CONSTRAINT " + versionConstraint + " TO event_id_of_mine",
		"an index":                   "ALTER TABLE events DROP CONSTRAINT " + versionConstraint + "; CREATE UNIQUE INDEX event_id ON events (aggregate_version, aggregate_id, bounded_context, aggregate_type) INCLUDE (global_position)",
		"an index of some rows":      "ALTER TABLE events DROP CONSTRAINT " + versionConstraint + "; CREATE UNIQUE INDEX of_some ON events (aggregate_version, aggregate_id, bounded_context, aggregate_type) WHERE event_type <> 'x'",
		"a partition":                partitioned + "; CREATE TABLE event_id PARTITION OF events DEFAULT",
		"a partition of a partition": partitioned + "; CREATE TABLE first PARTITION OF events DEFAULT PARTITION BY LIST (aggregate_id); CREATE TABLE second PARTITION OF first DEFAULT",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, pool := newStore(t)
			mustAppend(t, s, pool, es.Any(), eventsOf("another", 1)...) // it learns the indexes as they are made
			exec(t, pool, change)
			mustAppend(t, s, pool, es.NoStream(), eventsOf("order-1", 2)...)
			forget(t, pool)
			for range 2 {
				_, err := tryAppend(t.Context(), s, pool, es.Exact(1), event("order-1"))
				require.ErrorIs(t, err, ErrOptimisticConcurrency)
				assert.Equal(t, uniqueViolation, dbfault.Code(err))
			}
			_, err := tryAppend(t.Context(), New(WithLogger(nil)), pool, es.Exact(1), event("order-1"))
			require.ErrorIs(t, err, ErrOptimisticConcurrency, "a store that has seen nothing else")
		})
	}
}

func TestADuplicateEventIsRecognisedByTheColumnOfTheIndex(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"as it is made":        "",
		"a renamed constraint": "ALTER TABLE events RENAME CONSTRAINT events_event_id_key TO bounded_context",
		"an index":             "ALTER TABLE events DROP CONSTRAINT events_event_id_key; CREATE UNIQUE INDEX ON events (event_id) INCLUDE (aggregate_version)",
		"a partition":          partitioned + "; CREATE TABLE other PARTITION OF events DEFAULT",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, pool := newStore(t)
			mustAppend(t, s, pool, es.Any(), eventsOf("another", 1)...)
			exec(t, pool, change)
			e := event("order-1")
			e.EventID = uuid.New()
			mustAppend(t, s, pool, es.NoStream(), e)
			_, err := tryAppend(t.Context(), s, pool, es.Exact(1), e)
			require.ErrorIs(t, err, ErrDuplicateEvent)
			require.NotErrorIs(t, err, ErrOptimisticConcurrency)
		})
	}
}

// Whoever takes one of these for a conflict retries for ever.
func TestEveryOtherUniqueViolationIsTheDatabasesOwn(t *testing.T) {
	t.Parallel()
	const trigger = `CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO %s
		SELECT NEW.bounded_context, NEW.aggregate_type, NEW.aggregate_id, 1, NEW.event_id; RETURN NEW; END $$;
		CREATE TRIGGER keep AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION keep()`
	const columns = "(bounded_context text, aggregate_type text, aggregate_id text, aggregate_version bigint, event_id uuid, "
	for name, change := range map[string]string{
		"an index of a type":                "CREATE UNIQUE INDEX event_id_bounded_context ON events (event_type)",
		"an index of part of the version":   "CREATE UNIQUE INDEX ON events (bounded_context, aggregate_type, aggregate_id)",
		"an index of an expression":         "CREATE UNIQUE INDEX ON events (bounded_context, aggregate_type, aggregate_id, (aggregate_version > 0))",
		"an index by another collation":     `CREATE COLLATION careless (provider = icu, locale = 'und-u-ks-level2', deterministic = false); CREATE UNIQUE INDEX ON events (bounded_context, aggregate_type, event_type COLLATE careless)`,
		"a trigger's own table":             "CREATE TABLE mine " + columns + "UNIQUE (bounded_context, aggregate_type, aggregate_id, aggregate_version)); " + fmt.Sprintf(trigger, "mine"),
		"an events table in another schema": "CREATE SCHEMA archive; CREATE TABLE archive.events " + columns + "CONSTRAINT " + versionConstraint + " UNIQUE (bounded_context, aggregate_type, aggregate_id, aggregate_version)); " + fmt.Sprintf(trigger, "archive.events"),
		"a constraint of the same name":     "ALTER TABLE events DROP CONSTRAINT " + versionConstraint + "; CREATE UNIQUE INDEX " + versionConstraint + " ON events (event_type)",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, pool := newStore(t)
			exec(t, pool, change)
			mustAppend(t, s, pool, es.NoStream(), event("order-1"))
			for range 2 {
				_, err := tryAppend(t.Context(), s, pool, es.Any(), event("order-1"))
				assert.Equal(t, uniqueViolation, dbfault.Code(err))
				require.NotErrorIs(t, err, ErrOptimisticConcurrency)
				require.NotErrorIs(t, err, ErrDuplicateEvent)
			}
		})
	}
}

func TestAnEventIDThatATriggerRepeatsIsTheDatabasesOwnError(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	exec(t, pool, `CREATE FUNCTION repeat_id() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.event_id = '00000000-0000-0000-0000-000000000001'; RETURN NEW; END $$;
		CREATE TRIGGER repeat_id BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION repeat_id()`)
	mustAppend(t, s, pool, es.NoStream(), event("order-1"))
	_, err := tryAppend(t.Context(), s, pool, es.Any(), event("order-1"))
	assert.Equal(t, uniqueViolation, dbfault.Code(err))
	require.NotErrorIs(t, err, ErrDuplicateEvent)
}

func TestASequenceBehindTheEventsIsNamedWithItsRemedy(t *testing.T) {
	t.Parallel()
	const identity = `ALTER TABLE events ALTER COLUMN global_position DROP DEFAULT, ALTER COLUMN global_position ADD GENERATED BY DEFAULT AS IDENTITY`
	for name, tt := range map[string]struct{ change, sequence string }{
		"one table":                      {"", "events_global_position_seq"},
		"partitions":                     {partitioned + "; CREATE TABLE other PARTITION OF events DEFAULT", "events_global_position_seq"},
		"an identity":                    {identity, "events_global_position_seq1"}, // and the column still owns the sequence that it had before
		"a sequence that nothing owns":   {`CREATE SEQUENCE "of Mine"; ALTER TABLE events ALTER COLUMN global_position SET DEFAULT nextval('"of Mine"')`, `"of Mine"`},
		"a sequence of another column's": {"ALTER SEQUENCE events_global_position_seq OWNED BY aggregate_heads.aggregate_version", "events_global_position_seq"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, pool := newStore(t)
			exec(t, pool, tt.change)
			mustAppend(t, s, pool, es.NoStream(), eventsOf("order-1", 3)...)
			exec(t, pool, "SELECT setval('"+tt.sequence+"', 1)")
			_, err := tryAppend(t.Context(), s, pool, es.Exact(3), event("order-1"))
			assert.Equal(t, uniqueViolation, dbfault.Code(err))
			require.NotErrorIs(t, err, ErrOptimisticConcurrency)
			remedy := `SELECT setval('public.` + tt.sequence + `', (SELECT max(global_position) FROM "public"."events"))`
			require.ErrorContains(t, err, remedy)
			exec(t, pool, remedy)
			mustAppend(t, s, pool, es.Exact(3), event("order-1"))
		})
	}
}

// The tenants of an application may have a schema each, to which the search_path of its connections leads.
func TestAConflictIsRecognisedInEachSchemaOfTheTenants(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "it sets the search_path when it connects")
	s, pool := newStore(t)
	tenant := withPath(t, pool, "tenant")
	require.NoError(t, RunMigrations(pool, WithSchema("tenant"), WithLogger(nil)))
	e := event("order-1")
	e.EventID = uuid.New()
	for range 2 {
		for name, db := range map[string]*pgxpool.Pool{"public": pool, "tenant": tenant} {
			mustAppend(t, s, db, es.Any(), event("order-1"))
			_, err := tryAppend(t.Context(), s, db, es.Any(), e)
			if err != nil {
				require.ErrorIs(t, err, ErrDuplicateEvent, name)
			}
			_, err = tryAppend(t.Context(), s, db, es.Any(), e)
			require.ErrorIs(t, err, ErrDuplicateEvent, name)
			exec(t, db, "UPDATE aggregate_heads SET aggregate_version = 0")
			_, err = tryAppend(t.Context(), s, db, es.NoStream(), event("order-1"))
			require.ErrorIs(t, err, ErrOptimisticConcurrency, name)
			exec(t, db, "UPDATE aggregate_heads SET aggregate_version = (SELECT max(aggregate_version) FROM events); SELECT setval('events_global_position_seq', 1, false)")
			_, err = tryAppend(t.Context(), s, db, es.Any(), event("order-1"))
			require.ErrorContains(t, err, `setval('`+name+`.events_global_position_seq', (SELECT max(global_position) FROM "`+name+`"."events"))`)
			exec(t, db, "SELECT setval('events_global_position_seq', (SELECT max(global_position) FROM events))")
		}
	}
}

// A pool's connections may be all that the role is allowed.
func TestWhatIsKnownOfAnIndexDecidesWhereItCannotBeLookedUp(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "it counts connections")
	s, pool := newStore(t)
	mustAppend(t, s, pool, es.NoStream(), eventsOf("order-1", 2)...)
	forget(t, pool)
	name := "limited_" + pool.Config().ConnConfig.Database
	exec(t, pool, "CREATE ROLE "+name+" LOGIN CONNECTION LIMIT 1; GRANT ALL ON ALL TABLES IN SCHEMA public TO "+name+"; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO "+name)
	t.Cleanup(func() {
		_, err := pool.Exec(context.Background(), "DROP OWNED BY "+name+"; DROP ROLE "+name)
		assert.NoError(t, err)
	})
	cfg := pool.Config().ConnConfig.Copy()
	cfg.User = name
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	conflict := func() error {
		tx, err := conn.Begin(t.Context())
		require.NoError(t, err)
		defer func() { _ = tx.Rollback(t.Context()) }()
		_, err = s.Append(t.Context(), tx, es.Exact(1), eventsOf("order-1", 1))
		return err
	}
	require.ErrorIs(t, conflict(), ErrOptimisticConcurrency)
	for _, keys := range s.keys.known { // long ago
		keys.mu.Lock()
		for n, k := range keys.meaning {
			keys.meaning[n] = key{k.meaning, k.at.Add(-2 * keysKeep)}
		}
		keys.mu.Unlock()
	}
	require.ErrorIs(t, conflict(), ErrOptimisticConcurrency)
	exec(t, pool, "ALTER TABLE events RENAME CONSTRAINT "+versionConstraint+" TO renamed")
	err = conflict()
	require.NotErrorIs(t, err, ErrOptimisticConcurrency, "it may be any")
	require.ErrorContains(t, err, `looking up the unique index "renamed"`)
	assert.Equal(t, uniqueViolation, dbfault.Code(err))
}
