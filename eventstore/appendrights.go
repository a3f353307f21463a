package eventstore

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbrights"
)

// refusals is what was found of the rights that appends lack, so that many appends that fail open few connections. It may be used by
// several goroutines at once.
type refusals struct {
	mu    sync.Mutex
	found map[refused]*refusal
}

// refusal is what was missing at a time; nil if nothing was, or that could not be looked up. A goroutine
// that has sent to looking may use the other fields until it has received.
type refusal struct {
	looking chan struct{}
	at      time.Time
	missing error
	looked  bool // missing could be looked up
}

// refused is what was refused to whom.
type refused struct {
	databaseName
	reading bool // only
}

// of returns what was found for a database and role.
func (r *refusals) of(name refused) *refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.found[name] == nil {
		r.found[name] = &refusal{looking: make(chan struct{}, 1)}
	}
	return r.found[name]
}

// explainRead adds to the failure of a read what the role lacks.
func (s *Store) explainRead(ctx context.Context, db DB, err error) error {
	if tx, ok := db.(pgx.Tx); ok {
		return s.explainIn(ctx, tx, err, true)
	}
	return dbrights.Explain(ctx, db, err, s.needs(true))
}

// needs is the rights that appends need, or reads only.
func (s *Store) needs(reading bool) []dbrights.Need {
	if reading {
		return []dbrights.Need{dbrights.On(s.EventsTable(), "SELECT")}
	}
	return []dbrights.Need{
		dbrights.On(s.EventsTable(), "SELECT", "INSERT"), dbrights.OnSequence(s.EventsTable(), "USAGE"),
		dbrights.On(s.AggregateHeadsTable(), "SELECT", "INSERT", "UPDATE"),
	}
}

// explain adds to the failure of an append what the role lacks.
func (s *Store) explain(ctx context.Context, tx pgx.Tx, err error) error {
	return s.explainIn(ctx, tx, err, false)
}

// explainIn adds to the failure of an append or a read what the role lacks. The transaction is aborted, so that is looked up on another connection.
// Its role is the one that logs in, which the error says: that the transaction has another since SET ROLE does not show any more.
func (s *Store) explainIn(ctx context.Context, tx pgx.Tx, err error, reading bool) error {
	conn := tx.Conn()
	if !dbrights.IsRefusal(err) || conn == nil {
		return err
	}
	cfg := conn.Config()
	known := s.refusals.of(refused{nameOf(cfg), reading})
	select {
	case known.looking <- struct{}{}:
		defer func() { <-known.looking }()
	case <-ctx.Done():
		return err
	}
	if time.Since(known.at) >= keysKeep {
		known.missing, known.looked = s.lookUpRights(ctx, cfg, reading)
		known.at = time.Now()
	}
	switch {
	case known.missing == nil && known.looked && dbfault.Code(err) == "42501":
		return fmt.Errorf("%w: the role that logs in, %s, lacks no right that this needs: grant it to the role of SET ROLE, or to that of a trigger: %s",
			err, cfg.User, strings.Join(described(s.needs(reading)), ", "))
	case known.missing == nil:
		return err
	}
	return fmt.Errorf("%w; that is what the role that logs in lacks, so after SET ROLE grant it to the other (%w)", known.missing, err)
}

// described says which rights are needed.
func described(needs []dbrights.Need) (texts []string) {
	for _, n := range needs {
		object := n.Name
		if n.Kind == dbrights.SequenceOf {
			object = "the sequence of " + n.Name
		}
		texts = append(texts, strings.Join(n.Rights, ", ")+" on "+object)
	}
	return texts
}

// lookUpRights returns what an append or a read lacks, nil if nothing, and whether that could be looked up.
func (s *Store) lookUpRights(ctx context.Context, cfg *pgx.ConnConfig, reading bool) (missing error, looked bool) {
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, false // the refusal itself is returned
	}
	defer func() { _ = conn.Close(ctx) }()
	grants, err := dbrights.Missing(ctx, conn, s.needs(reading))
	if err != nil || len(grants) == 0 {
		return nil, err == nil
	}
	return dbrights.NotGranted(grants), true
}
