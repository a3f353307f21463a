package handling_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var errBad = errors.New("bad event")

// each is a Projection by a function for one event.
type each struct {
	name   string
	handle func(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error
}

func (p *each) Name() string { return p.name }

func (p *each) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	return p.handle(ctx, tx, event)
}

// whole is a BatchHandler by a function for a batch.
type whole struct {
	each
	batch func(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error
}

func (p *whole) HandleBatch(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error {
	return p.batch(ctx, tx, events)
}
