package face

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/migrations"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// grantPattern finds the statements in an error.
var grantPattern = regexp.MustCompile(`GRANT [^;()]+? TO [\w"]+`)

// unquoted is the error without quotes, which quote_all_identifiers puts around every name.
func unquoted(err error) string { return strings.ReplaceAll(fmt.Sprint(err), `"`, "") }

// eachRight takes each right away in turn, runs what needs it, and makes sure that the error names the GRANT that gives it back. A right is
// "SELECT ON events".
func eachRight(t *testing.T, w *world, role string, rights []string, run func() error) {
	t.Helper()
	for _, right := range rights {
		w.exec("REVOKE " + right + " FROM " + role)
		err := run()
		require.Error(t, err, right)
		grants := grantPattern.FindAllString(unquoted(err), -1)
		privilege, object, _ := strings.Cut(right, " ON ")
		if !strings.HasPrefix(object, "SCHEMA") {
			kind, name, isSequence := strings.Cut(object, " ")
			if object = "public." + object; isSequence {
				object = kind + " public." + name
			}
		}
		require.Equal(t, []string{fmt.Sprintf("GRANT %s ON %s TO %s", privilege, object, role)}, grants, "%v", err)
		w.exec(grants[0])
	}
}

func onEach(privileges []string, objects ...string) (rights []string) {
	for _, object := range objects {
		for _, privilege := range privileges {
			rights = append(rights, privilege+" ON "+object)
		}
	}
	return rights
}

// Whatever right is taken away, the error names the GRANT that repairs it.
func TestErrorsNameTheGrantThatIsMissing(t *testing.T) {
	pgtest.SkipBehindPooler(t, "the roles that connect are its own")
	w := newWorld(t)
	worker, writer, manual := w.role("worker", ""), w.role("writer", ""), w.role("manual", "")
	sql := regexp.MustCompile(`\bworker\b`).ReplaceAllString(documentedGrants(t), worker)
	w.exec(regexp.MustCompile(`\bwriter\b`).ReplaceAllString(sql, writer))
	w.exec("REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO " + manual)
	w.exec("GRANT ALL ON handled TO " + worker + ", " + manual + "; GRANT ALL ON SEQUENCE handled_nth_seq TO " + worker + ", " + manual)
	w.exec("GRANT SELECT ON events TO " + manual + "; GRANT SELECT ON SEQUENCE events_global_position_seq TO " + manual +
		"; GRANT SELECT, INSERT, UPDATE ON projection_checkpoints TO " + manual + "; GRANT SELECT ON projection_dead_letters, projection_parked_aggregates TO " + manual)

	appending := w.as(writer)
	appendOne := func() error {
		return pgx.BeginTxFunc(t.Context(), appending, readWrite, func(tx pgx.Tx) error {
			_, err := eventstore.New().Append(t.Context(), tx, es.Any(), []es.Event{{
				BoundedContext: "Identity", AggregateType: "User", AggregateID: "ada", EventType: "Something", Payload: []byte("{}"),
			}})
			return err
		})
	}
	require.NoError(t, appendOne())
	eachRight(t, w, writer, append(onEach([]string{"SELECT", "INSERT"}, "events"),
		"INSERT ON aggregate_heads", "UPDATE ON aggregate_heads", "SELECT ON aggregate_heads", "USAGE ON SEQUENCE events_global_position_seq", "USAGE ON SCHEMA public"), appendOne)
	require.NoError(t, appendOne())

	read := func(db eventstore.DB) error {
		_, err := eventstore.New().ReadAggregateStream(t.Context(), db, "Identity", "User", "ada", nil, nil)
		return err
	}
	reads := []string{"SELECT ON events", "USAGE ON SCHEMA public"}
	eachRight(t, w, writer, reads, func() error { return read(appending) })
	eachRight(t, w, writer, reads, func() error {
		return pgx.BeginFunc(t.Context(), w.as(writer), func(tx pgx.Tx) error { return read(tx) })
	})

	w.workers = w.as(worker)
	run := func() error {
		err := w.orchestrator("set").Run(t.Context(), []projection.Projection{recorder{name: "users"}})
		require.ErrorIs(t, err, orchestrator.ErrNotGranted)
		return err
	}
	changed := []string{"generations", "workers", "heartbeats", "checkpoints", "horizons", "sequence_regressions", "turns", "abandoned_handlers", "dead_letters", "parked_aggregates", "operations", "requests", "drains", "successions", "waits"}
	for i := range changed {
		changed[i] = "orchestrator_" + changed[i]
	}
	eachRight(t, w, worker, append(onEach([]string{"SELECT", "INSERT", "UPDATE", "DELETE"}, changed...),
		"SELECT ON events", "SELECT ON orchestrator_schema_version", "SELECT ON SEQUENCE events_global_position_seq", "USAGE ON SCHEMA public"), run)
	r := start(t, w.orchestrator("set"), recorder{name: "users"})
	w.awaitHandled("users", 2)
	require.NoError(t, r.stop())

	hand := w.as(manual)
	byHand := func(ctx context.Context, total int) error {
		return projection.NewPostgresProcessor(projection.ProcessorConfig{
			DB: hand, EventStore: eventstore.New(), TotalPartitions: total, Logger: w.logs.Logger(), Projection: recorder{name: "manual"},
		}).Run(ctx)
	}
	eachRight(t, w, manual, []string{
		"SELECT ON events", "SELECT ON SEQUENCE events_global_position_seq", "USAGE ON SCHEMA public",
		"INSERT ON projection_checkpoints", "UPDATE ON projection_checkpoints", "SELECT ON projection_checkpoints",
		"SELECT ON projection_dead_letters", "SELECT ON projection_parked_aggregates",
	}, func() error { return byHand(t.Context(), 1) })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- byHand(ctx, 1) }()
	w.awaitHandled("manual", 2)
	cancel()
	require.NoError(t, <-done)
	assert.Contains(t, unquoted(byHand(t.Context(), 2)), "GRANT DELETE ON public.projection_checkpoints TO "+manual)
}

// RunMigrations names the right that it lacks, each that it asks for repairs it, and a schema that the role may not use is not taken for one
// without tables.
func TestMigrationsNameTheGrantThatIsMissing(t *testing.T) {
	pgtest.SkipBehindPooler(t, "the roles that connect are its own")
	w := newEmptyWorld(t)
	w.exec("REVOKE ALL ON SCHEMA public FROM PUBLIC")
	migrator, owner := w.role("migrator", ""), w.role("owner", "")
	db := w.as(migrator)
	quiet := eventstore.WithLogger(nil)
	both := func() error {
		if err := eventstore.RunMigrations(db, quiet); err != nil {
			return err
		}
		return orchestrator.RunMigrations(db)
	}
	repair := func(want string, run func() error) {
		t.Helper()
		err := run()
		require.ErrorIs(t, err, orchestrator.ErrNotGranted, want)
		grants := grantPattern.FindAllString(unquoted(err), -1)
		require.Equal(t, []string{want + " TO " + migrator}, grants, "%v", err)
		w.exec(grants[0])
	}
	repair("GRANT CREATE, USAGE ON SCHEMA public", both)
	require.NoError(t, both())
	w.exec("REVOKE CREATE ON SCHEMA public FROM " + migrator)
	require.NoError(t, both(), "nothing is left to create")
	for _, table := range []string{"orchestrator_schema_version", "eventstore_schema_version"} {
		w.exec("REVOKE SELECT ON " + table + " FROM " + migrator)
		repair("GRANT SELECT ON public."+table, both)
	}
	w.exec("REVOKE USAGE ON SCHEMA public FROM " + migrator)
	repair("GRANT USAGE ON SCHEMA public", both)
	require.NoError(t, both())

	w.exec("GRANT CREATE ON SCHEMA public TO " + migrator)
	require.NoError(t, migrations.Down(t.Context(), db, "", 1))
	require.NoError(t, both())

	// No right of its own lets another role take migrations back, but to be a member of the owner does.
	other := w.role("other", "")
	w.exec("GRANT CREATE, USAGE ON SCHEMA public TO " + other + "; GRANT ALL ON ALL TABLES IN SCHEMA public TO " + other)
	down := func() error { return migrations.Down(t.Context(), w.as(other), "", 1) }
	err := down()
	require.ErrorIs(t, err, orchestrator.ErrNotGranted)
	require.ErrorContains(t, err, "only the owner of the tables can take migrations back: run this as that role, or as a member of it")
	assert.Equal(t, []string{"GRANT " + migrator + " TO " + other}, grantPattern.FindAllString(unquoted(err), -1), "%v", err)
	w.exec("REVOKE CREATE ON SCHEMA public FROM " + other)
	require.Equal(t, err.Error(), down().Error(), "CREATE does not help")
	w.exec("GRANT " + migrator + " TO " + other)
	require.NoError(t, down())
	w.exec("ALTER TABLE orchestrator_schema_version OWNER TO " + owner)
	w.exec("GRANT SELECT ON orchestrator_schema_version TO " + migrator)
	repair("GRANT INSERT ON public.orchestrator_schema_version", both)
	require.NoError(t, both())

	elsewhere := func() error { return orchestrator.RunMigrations(db, orchestrator.WithSchema("elsewhere")) }
	repair("GRANT CREATE ON DATABASE "+w.db.Config().ConnConfig.Database, elsewhere)
	require.NoError(t, elsewhere())

	// The tables are in a schema in front, which the role may not use any more.
	w.exec("CREATE SCHEMA front; CREATE TABLE front.orchestrator_schema_version (); CREATE SCHEMA empty; GRANT ALL ON SCHEMA empty TO " + migrator)
	w.exec("ALTER ROLE " + migrator + ` SET search_path = "$user", "front", empty`)
	db = w.as(migrator)
	err = orchestrator.RunMigrations(db)
	require.ErrorIs(t, err, orchestrator.ErrNotGranted)
	assert.Contains(t, unquoted(err), "GRANT USAGE ON SCHEMA front TO "+migrator)
}
