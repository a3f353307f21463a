package pgcoord

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// A generation is prepared because of the workers that the leader saw come or go.
// Others come and go until it is activated, and it takes them in too. So the reason is
// completed when the members are known for good.

// Called is how people are told of a worker: its name, and the end of its id, since
// names need not be unique. (An id's beginning is the time.)
func Called(name string, id uuid.UUID) string {
	return fmt.Sprintf("worker %s (%s)", name, shortID(id))
}

func shortID(id uuid.UUID) string { return id.String()[len(id.String())-8:] }

// What a reason says of a worker, after its name.
const (
	hasJoined  = "joined"
	hasLeft    = "left"
	isLost     = "was lost"
	isDead     = "was declared dead"
	isNotReady = "is not ready"
)

// Joined is what a reason says of a worker that came.
func Joined(name string, id uuid.UUID) string { return Called(name, id) + " " + hasJoined }

// Left is of a worker that said goodbye.
func Left(name string, id uuid.UUID) string { return Called(name, id) + " " + hasLeft }

// Lost is of a worker that is held for dead, with the evidence.
func Lost(name string, id uuid.UUID, detail string) string {
	return Called(name, id) + " " + isLost + ": " + detail
}

// DeclaredDead is of a worker that was held for dead before.
func DeclaredDead(name string, id uuid.UUID) string { return Called(name, id) + " " + isDead }

// The generation's reason, the members of the one before, and the workers that either
// is about, or that are about to be members.
const sqlTurnover = `
SELECT g.cause, g.reason, coalesce(p.members, '{}'), w.worker_id, w.name, w.state, w.detail
FROM {{schema}}orchestrator_generations AS g
LEFT JOIN {{schema}}orchestrator_generations AS p ON p.replica_set = g.replica_set AND p.number = (
    SELECT max(number) FROM {{schema}}orchestrator_generations WHERE replica_set = $1 AND number < $2)
LEFT JOIN {{schema}}orchestrator_workers AS w ON w.replica_set = g.replica_set AND (w.worker_id = ANY (p.members)
    OR (w.state = 'ready' AND w.generation = $2) OR strpos(g.reason, '(' || right(w.worker_id::text, 8) || ')') > 0)
WHERE g.replica_set = $1 AND g.number = $2
ORDER BY w.worker_id LIMIT {{all rows}}`

// turnover is what a generation's cause and reason are completed from.
type turnover struct {
	cause  string      // that it was prepared with
	reason string      // the same
	before []uuid.UUID // the members of the generation before
	known  []acquaintance
}

// acquaintance is a worker that came, stayed or went.
type acquaintance struct {
	id           uuid.UUID
	name, detail string
	state        WorkerState
}

// collect takes the rows of sqlTurnover.
func (t *turnover) collect(rows pgx.Rows) error {
	var id *uuid.UUID
	var name, state, detail *string
	_, err := pgx.ForEachRow(rows, []any{&t.cause, &t.reason, &t.before, &id, &name, &state, &detail}, func() error {
		if id != nil {
			t.known = append(t.known, acquaintance{id: *id, name: *name, state: WorkerState(*state), detail: *detail})
		}
		return nil
	})
	return err
}

// complete is the cause and the reason with all who are members and were not, and the other way
// round. Of who was said to have joined, and is no member after all, it says what
// became of them.
func (t *turnover) complete(members []uuid.UUID, a Activation) (cause, reason string) {
	cause, reasons := t.cause, []string{t.reason}
	for _, w := range t.known {
		is, was := slices.Contains(members, w.id), slices.Contains(t.before, w.id)
		switch {
		case is && !was && !t.tells(w.id, hasJoined):
			cause, reasons = Causes(cause, CauseJoined), append(reasons, Joined(w.name, w.id))
		case !is && (was || t.tells(w.id, hasJoined)) && !t.tells(w.id, hasLeft, isLost, isDead):
			why, gone := w.gone(a)
			cause, reasons = Causes(cause, why), append(reasons, gone)
		}
	}
	return cause, strings.Join(reasons, "; ")
}

// Causes is the one cause that a generation has for these, of which empty ones do not count: the first generation stays the first, a
// worker that was lost comes before everything else, and others that differ are CauseChanged.
func Causes(causes ...string) string {
	causes = slices.DeleteFunc(causes, func(cause string) bool { return cause == "" })
	switch {
	case slices.Contains(causes, CauseFirst):
		return CauseFirst
	case slices.Contains(causes, CauseLost):
		return CauseLost
	case len(causes) == 0 || slices.ContainsFunc(causes, func(cause string) bool { return cause != causes[0] }):
		return CauseChanged
	}
	return causes[0]
}

// tells says whether the reason has one of these of a worker.
func (t *turnover) tells(id uuid.UUID, what ...string) bool {
	return slices.ContainsFunc(what, func(what string) bool {
		return strings.Contains(t.reason, "("+shortID(id)+") "+what)
	})
}

// gone says what became of a worker that is not among the members, as a cause and for people.
func (w acquaintance) gone(a Activation) (cause, reason string) {
	switch {
	case w.state == Dead:
		return CauseLost, Lost(w.name, w.id, w.detail)
	case w.state == Stopped || w.state == Stopping:
		return CauseLeft, Left(w.name, w.id)
	case slices.Contains(a.Exclude, w.id):
		return CauseLost, Lost(w.name, w.id, a.Detail)
	default:
		return "", Called(w.name, w.id) + " " + isNotReady
	}
}
