package eventstore

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// expectations are all the ways to expect an aggregate with two events.
var expectations = map[string]es.ExpectedVersion{"any": es.Any(), "exact": es.Exact(2)}

// A conflict is retried, and a retry would store a routed event twice.
func TestEventsThatATriggerTakesAwayAreNoConflict(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"swallowed": `CREATE FUNCTION take() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
			CREATE TRIGGER take BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION take()`,
		"routed": `CREATE TABLE child (LIKE events INCLUDING ALL) INHERITS (events);
			CREATE FUNCTION take() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO child SELECT NEW.*; RETURN NULL; END $$;
			CREATE TRIGGER take BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION take()`,
		"swallowed in part": `CREATE FUNCTION take() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
			CREATE TRIGGER take BEFORE INSERT ON events FOR EACH ROW WHEN (NEW.aggregate_version % 2 = 1) EXECUTE FUNCTION take()`,
		"swallowed heads": `CREATE FUNCTION take() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
			CREATE TRIGGER take BEFORE INSERT ON aggregate_heads FOR EACH ROW EXECUTE FUNCTION take()`,
		"heads that are not updated": `CREATE FUNCTION take() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
			CREATE TRIGGER take BEFORE UPDATE ON aggregate_heads FOR EACH ROW EXECUTE FUNCTION take()`,
		"swapped versions": `CREATE FUNCTION take() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.aggregate_version = 10 - NEW.aggregate_version; RETURN NEW; END $$;
			CREATE TRIGGER take BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION take()`,
		"impossible positions": `CREATE FUNCTION take() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.global_position = NEW.global_position - 1000; RETURN NEW; END $$;
			CREATE TRIGGER take BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION take()`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, pool := newStore(t)
			mustAppend(t, s, pool, es.NoStream(), eventsOf("order-1", 2)...)
			exec(t, pool, change)
			for as, expected := range expectations {
				tx := begin(t, pool, pgx.TxOptions{})
				_, err := s.Append(t.Context(), tx, expected, eventsOf("order-1", 2))
				require.Error(t, err, as)
				require.NotErrorIs(t, err, ErrOptimisticConcurrency, as)
				require.ErrorContains(t, err, "look for triggers and rules on the table", as)
				require.Error(t, tx.Commit(t.Context()), "the head must not be advanced")
				stream, err := s.ReadAggregateStream(t.Context(), pool, "sales", "Order", "order-1", nil, nil)
				require.NoError(t, err)
				assert.Len(t, stream.Events, 2, as)
				assert.Equal(t, int64(2), headOf(t, pool, "order-1"), as)
			}
		})
	}
}

// headOf is the version of the aggregate's head.
func headOf(t *testing.T, pool *pgxpool.Pool, id string) (version int64) {
	t.Helper()
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT aggregate_version FROM aggregate_heads WHERE aggregate_id = $1", id).Scan(&version))
	return version
}

// asRole runs the rest of the test's transactions as a role that row-level security applies to.
func asRole(t *testing.T, pool *pgxpool.Pool) func(do func(tx pgx.Tx) error) error {
	t.Helper()
	name := "tenant_" + pool.Config().ConnConfig.Database
	exec(t, pool, "CREATE ROLE "+name+"; GRANT ALL ON ALL TABLES IN SCHEMA public TO "+name+"; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO "+name)
	t.Cleanup(func() {
		_, err := pool.Exec(context.Background(), "DROP OWNED BY "+name+" CASCADE; DROP ROLE "+name)
		assert.NoError(t, err)
	})
	return func(do func(tx pgx.Tx) error) error {
		return pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), "SET LOCAL ROLE "+name); err != nil {
				return err
			}
			return do(tx)
		})
	}
}

func TestAnAggregateThatAPolicyHidesIsNoConflict(t *testing.T) {
	t.Parallel()
	const heads, events = "ALTER TABLE aggregate_heads ENABLE ROW LEVEL SECURITY;", "ALTER TABLE events ENABLE ROW LEVEL SECURITY;"
	for name, policies := range map[string]string{
		"no policy of the heads":      heads,
		"no policy of the events":     events + "DELETE FROM aggregate_heads",
		"no policy":                   heads + events,
		"a policy that hides heads":   heads + "CREATE POLICY p ON aggregate_heads USING (aggregate_id = 'mine')",
		"a policy that shows few":     heads + "CREATE POLICY p ON aggregate_heads USING (aggregate_id = current_setting('server_version_num'))",
		"a policy that hides events":  events + "DELETE FROM aggregate_heads; CREATE POLICY p ON events USING (event_type = 'mine') WITH CHECK (true)",
		"a policy that inserts only":  heads + "CREATE POLICY p ON aggregate_heads FOR INSERT WITH CHECK (true)",
		"a policy that allows writes": heads + "CREATE POLICY p ON aggregate_heads FOR INSERT WITH CHECK (true); CREATE POLICY q ON aggregate_heads FOR UPDATE USING (true)",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, pool := newStore(t)
			mustAppend(t, s, pool, es.NoStream(), eventsOf("order-1", 2)...)
			as := asRole(t, pool)
			exec(t, pool, policies)
			for _, expected := range []es.ExpectedVersion{es.Exact(2), es.NoStream(), es.Any(), es.Exact(1)} {
				err := as(func(tx pgx.Tx) error {
					_, err := s.Append(t.Context(), tx, expected, eventsOf("order-1", 1))
					return err
				})
				require.Error(t, err, expected)
				require.NotErrorIs(t, err, ErrOptimisticConcurrency, expected)
			}
		})
	}
}

func TestTenantsAppendToWhatTheySee(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	as := asRole(t, pool)
	exec(t, pool, `ALTER TABLE aggregate_heads ENABLE ROW LEVEL SECURITY; ALTER TABLE events ENABLE ROW LEVEL SECURITY;
		CREATE POLICY p ON aggregate_heads USING (aggregate_id LIKE 'mine-%'); CREATE POLICY p ON events USING (aggregate_id LIKE 'mine-%')`)
	try := func(expected es.ExpectedVersion) error {
		return as(func(tx pgx.Tx) error {
			_, err := s.Append(t.Context(), tx, expected, eventsOf("mine-1", 1))
			return err
		})
	}
	require.NoError(t, try(es.NoStream()))
	require.ErrorIs(t, try(es.NoStream()), ErrOptimisticConcurrency, "the head is seen")
	require.ErrorIs(t, try(es.Exact(2)), ErrOptimisticConcurrency)
	require.NoError(t, try(es.Exact(1)))
	require.NoError(t, try(es.Any()))
}
