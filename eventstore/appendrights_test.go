package eventstore

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
)

// Looking up what is missing may take as long as a connection does. An append that waits for another's lookup ends with its context.
func TestAnAppendDoesNotWaitForAnothersLookup(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	tx := begin(t, pool, pgx.TxOptions{})
	cfg := tx.Conn().Config()
	s.refusals.of(refused{databaseName: databaseName{host: cfg.Host, port: cfg.Port, database: cfg.Database, user: cfg.User}}).looking <- struct{}{} // and never back
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	refused := &pgconn.PgError{Code: "42501"}
	assert.Equal(t, error(refused), s.explain(ctx, tx, refused))
}
