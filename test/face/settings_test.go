package face

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// publicRecorder is a recorder that names its table's schema.
type publicRecorder struct{ recorder }

func (r publicRecorder) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	_, err := tx.Exec(ctx, "INSERT INTO public.handled (projection, position, aggregate_id, aggregate_version) VALUES ($1, $2, $3, $4)",
		r.name, event.GlobalPosition, event.AggregateID, event.AggregateVersion)
	return err
}

// Workers whose role has every setting against them handle all events, in each of pgx's modes.
func TestARoleWithHostileSettingsHandlesAll(t *testing.T) {
	pgtest.SkipBehindPooler(t, "the role that connects is its own")
	skipHostile(t, "it has settings and modes of its own")
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		t.Run(mode.String(), func(t *testing.T) {
			w := newWorld(t)
			role := w.role("hostile", "SUPERUSER")
			settings := maps.Clone(hostile)
			settings["search_path"] = "''"
			if mode == pgx.QueryExecModeCacheStatement {
				maps.Copy(settings, hostileToTexts)
			}
			if mode == pgx.QueryExecModeExec {
				settings["work_mem"], settings["temp_file_limit"] = "'1MB'", "0" // less is refused
			}
			w.makeHostile(role, settings)
			w.with(func(c *pgxpool.Config) {
				c.ConnConfig.User, c.ConnConfig.Password, c.ConnConfig.DefaultQueryExecMode = role, "pw", mode
			})
			schema := orchestrator.WithSchema("public")
			w.store = eventstore.New(eventstore.WithSchema("public"), eventstore.WithLogger(nil))
			w.append("ada", 5)
			users := publicRecorder{recorder{name: "users"}}
			r := start(t, w.orchestrator("set", schema), users)
			w.awaitHandled("users", 5)
			second := start(t, w.orchestrator("set", schema), users)
			w.awaitRunning("set", 2)
			for _, id := range []string{"grace", "alan", "edsger"} {
				w.append(id, 5)
			}
			w.awaitHandled("users", 20)
			require.NoError(t, r.stop())
			w.append("ada", 5)
			w.awaitHandled("users", 25)
			require.NoError(t, second.stop())
			w.requireOrder("users")
		})
	}
}

// leavesBehind is a recorder that changes a setting of its connection.
type leavesBehind struct {
	recorder
	sql string
}

func (l leavesBehind) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	err := l.recorder.Handle(ctx, tx, event)
	if err == nil {
		_, err = tx.Exec(ctx, l.sql)
	}
	return err
}

// The next user of the connection is the library itself.
func TestSettingsThatAreLeftBehindStopNobody(t *testing.T) {
	pgtest.SkipBehindPooler(t, "it changes sessions")
	skipHostile(t, "it has settings and modes of its own")
	for _, setting := range []string{"client_encoding = LATIN1", "datestyle = German", "bytea_output = escape"} {
		for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec} {
			t.Run(setting+" in mode "+mode.String(), func(t *testing.T) {
				w := newWorld(t)
				config := w.config()
				config.ConnConfig.DefaultQueryExecMode = mode
				pool := w.open(config)
				left := func(name string) leavesBehind { return leavesBehind{recorder{name: name}, "SET " + setting} }
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() {
					ended <- projection.NewPostgresProcessor(projection.ProcessorConfig{
						DB: pool, EventStore: w.store, Projection: left("manual"), PollInterval: 20 * time.Millisecond, Logger: w.logs.Logger(),
					}).Run(ctx)
				}()
				orch, err := orchestrator.New(pool, w.store, "set", orchestrator.WithLogger(w.logs.Logger()), orchestrator.WithPollInterval(20*time.Millisecond))
				require.NoError(t, err)
				r := start(t, orch, left("users"))
				for n := range 10 {
					w.append("ada", 2)
					w.awaitHandled("users", 2*n+2)
					w.awaitHandled("manual", 2*n+2)
				}
				cancel()
				require.NoError(t, await(t, ended, "Run to return"))
				require.NoError(t, r.stop())
				require.NotContains(t, w.logs.String(), "try again")
			})
		}
	}
}

// The application has left something behind, on each connection that rests in the pool.
func TestARoleThatIsLeftBehindStopsNobody(t *testing.T) {
	pgtest.SkipBehindPooler(t, "it changes sessions")
	skipHostile(t, "the role that connects is its own")
	for _, left := range []string{"a role without rights", "a role that does not see all rows", "a timeout", "a timeout for the handler"} {
		t.Run(left, func(t *testing.T) {
			w := newWorld(t)
			w.troubled = true
			app, tenant := w.owned(), w.role("tenant", "")
			w.exec("GRANT " + tenant + " TO " + app)
			leave := "SET ROLE " + tenant
			switch left {
			case "a timeout":
				leave = "SET statement_timeout = 1"
			case "a timeout for the handler":
				leave = "SET statement_timeout = 20"
				w.exec(`CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_catalog.pg_sleep(0.05); RETURN NEW; END $$;
					CREATE TRIGGER slow BEFORE INSERT ON handled FOR EACH ROW EXECUTE FUNCTION slow()`)
			case "a role that does not see all rows":
				w.exec("ALTER ROLE " + app + " BYPASSRLS; ALTER TABLE events ENABLE ROW LEVEL SECURITY; GRANT SELECT ON ALL TABLES IN SCHEMA public TO " + tenant)
				w.exec("GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO " + tenant)
			}
			pool := w.as(app)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() {
				ended <- projection.NewPostgresProcessor(projection.ProcessorConfig{
					DB: pool, EventStore: w.store, Projection: recorder{name: "manual"}, PollInterval: 20 * time.Millisecond, Logger: w.logs.Logger(),
					ErrorPolicy: &projection.ErrorPolicy{}, // or Run ends at the handler's first error
				}).Run(ctx)
			}()
			orch, err := orchestrator.New(pool, w.store, "set", orchestrator.WithLogger(w.logs.Logger()), orchestrator.WithPollInterval(20*time.Millisecond))
			require.NoError(t, err)
			r := start(t, orch, recorder{name: "users"})
			w.awaitRunning("set", 1)
			for n := range 5 {
				w.append("ada", 2)
				w.awaitHandled("users", 2*n+2)
				w.awaitHandled("manual", 2*n+2)
				for _, conn := range pool.AcquireAllIdle(t.Context()) {
					_, err := conn.Exec(t.Context(), leave)
					require.NoError(t, err)
					conn.Release()
				}
			}
			cancel()
			require.NoError(t, await(t, ended, "Run to return"))
			require.NoError(t, r.stop())
		})
	}
}
