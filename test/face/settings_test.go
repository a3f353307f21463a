package face

import (
	"context"
	"maps"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
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
