package face

import (
	"context"
	"maps"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// hostile are settings of a role that change what statements mean, how they are planned, or how values are written. Without index scans the
// server would compile each statement, hence jit.
var hostile = map[string]string{
	"default_transaction_read_only": "on", "default_transaction_isolation": "serializable", "default_transaction_deferrable": "on",
	"row_security": "off", "search_path": "''", "quote_all_identifiers": "on", "xmloption": "document", "synchronous_commit": "off",
	"IntervalStyle": "sql_standard", "TimeZone": "'Asia/Kathmandu'", "extra_float_digits": "-15", "DateStyle": "'ISO, DMY'",
	"client_min_messages": "debug5", "plan_cache_mode": "force_generic_plan", "work_mem": "'64kB'", "jit": "off",
	"enable_indexscan": "off", "enable_indexonlyscan": "off", "enable_bitmapscan": "off", "enable_hashjoin": "off", "enable_nestloop": "off",
	"backslash_quote": "off", "escape_string_warning": "on", "array_nulls": "off", "transform_null_equals": "on",
}

// hostileToTexts are settings that Run refuses by name in the modes that use texts.
var hostileToTexts = map[string]string{"bytea_output": "escape", "DateStyle": "'German'", "standard_conforming_strings": "off"}

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
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		t.Run(mode.String(), func(t *testing.T) {
			w := newWorld(t)
			role := w.role("hostile", "SUPERUSER")
			settings := maps.Clone(hostile)
			if mode == pgx.QueryExecModeCacheStatement {
				maps.Copy(settings, hostileToTexts)
			}
			if mode == pgx.QueryExecModeExec {
				settings["work_mem"], settings["temp_file_limit"] = "'1MB'", "0" // less is refused
			}
			for _, name := range slices.Sorted(maps.Keys(settings)) {
				w.exec("ALTER ROLE " + role + " SET " + name + " = " + settings[name])
			}
			w.with(func(c *pgxpool.Config) {
				c.ConnConfig.User, c.ConnConfig.Password, c.ConnConfig.DefaultQueryExecMode = role, "pw", mode
			})
			schema := orchestrator.WithSchema("public")
			w.append("ada", 5)
			w.store = eventstore.New(eventstore.WithSchema("public"), eventstore.WithLogger(nil))
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
