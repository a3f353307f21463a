// Command effects sends mails from a projection. A mail cannot be rolled back, so the handler passes on the event's id, by which the mail server recognises a repeated
// call, and the fencing token, by which it refuses a worker that has been replaced.
package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/examples/internal/setup"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

const tables = `CREATE TABLE mails (event_id uuid PRIMARY KEY, recipient text NOT NULL)`

func main() { setup.Main("example_effects", tables, run) }

func run(ctx context.Context, db *pgxpool.Pool) error {
	store, server := eventstore.New(), &MailServer{sent: map[uuid.UUID]bool{}}
	mails := &Mails{server: server}
	for _, user := range []string{"ada", "grace"} {
		if _, err := setup.Append(ctx, db, store, setup.Event("User", user, "UserRegistered", user+"@example.org")); err != nil {
			return err
		}
		// Each call is another worker, and another generation of the replica set.
		orch, err := orchestrator.New(
			db, store, "example", orchestrator.WithLogger(setup.Logger()),
			orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: 3, First: 10 * time.Millisecond, Max: time.Second}),
		)
		if err != nil {
			return err
		}
		if _, err := orch.RunUntilCaughtUp(ctx, []projection.Projection{mails}); err != nil {
			return err
		}
	}
	fmt.Println("a worker of generation 1 wakes up:", server.Send("eve@example.org", uuid.New(), 1))

	var rows int
	if err := db.QueryRow(ctx, "SELECT count(*) FROM mails").Scan(&rows); err != nil {
		return err
	}
	fmt.Printf("%d mails sent, %d rows\n", len(server.sent), rows)
	return nil
}

// Mails sends a mail to each new user, and writes a row for it.
type Mails struct {
	server *MailServer
	failed bool
}

// Name is the name of the projection.
func (*Mails) Name() string { return "mails" }

// Handle fails once after it has sent a mail: what it wrote through tx is rolled back, the mail is not, and the event is handled again.
func (m *Mails) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	delivery, ok := projection.DeliveryFrom(ctx)
	if !ok {
		return errors.New("this projection needs the orchestrator: the manual runner has no fencing token")
	}
	if delivery.Replay || delivery.Trial {
		return nil // another projection still sends the mails, or all will be rolled back
	}
	if _, err := tx.Exec(ctx, "INSERT INTO mails (event_id, recipient) VALUES ($1, $2)", event.EventID, string(event.Payload)); err != nil {
		return err
	}
	if err := m.server.Send(string(event.Payload), event.EventID, delivery.Generation); err != nil {
		return err
	}
	if !m.failed {
		m.failed = true
		return errors.New("the connection was lost, for example")
	}
	return nil
}

// MailServer stands for a system outside PostgreSQL.
type MailServer struct {
	sent    map[uuid.UUID]bool // by idempotency key
	highest int64              // fencing token
}

// Send sends a mail, unless the key is known or a higher token has been seen.
func (s *MailServer) Send(to string, key uuid.UUID, token int64) error {
	switch {
	case token < s.highest:
		return fmt.Errorf("refused: token %d, but %d has been seen", token, s.highest)
	case s.sent[key]:
		fmt.Printf("token %d: the mail to %s was sent before\n", token, to)
		return nil
	}
	s.highest, s.sent[key] = token, true
	fmt.Printf("token %d: mail to %s\n", token, to)
	return nil
}
