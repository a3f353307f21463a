package pgcoord

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
)

// A generation is prepared because of the workers that the leader saw come or go.
// Others come and go until it is activated, and it takes them in too. So its changes are
// completed when the members are known for good.

// The generation's changes, the members of the one before, and the workers that either
// is about, or that are about to be members.
const sqlTurnover = `
SELECT g.cause, g.changes::text, coalesce(p.members, '{}'), w.worker_id, w.name, w.state, w.detail
FROM {{schema}}orchestrator_generations AS g
LEFT JOIN {{schema}}orchestrator_generations AS p ON p.replica_set = g.replica_set AND p.number = (
    SELECT max(number) FROM {{schema}}orchestrator_generations WHERE replica_set = $1 AND number < $2)
LEFT JOIN {{schema}}orchestrator_workers AS w ON w.replica_set = g.replica_set AND (w.worker_id = ANY (p.members)
    OR (w.state = 'ready' AND w.generation = $2) OR g.changes @> jsonb_build_array(jsonb_build_object('worker', w.worker_id)))
WHERE g.replica_set = $1 AND g.number = $2
ORDER BY w.worker_id LIMIT {{all rows}}`

// turnover is what a generation's changes are completed from.
type turnover struct {
	first    bool                // there was no generation before
	prepared []replicaset.Change // that it was prepared for
	workers  []replicaset.Participant
}

// collect takes the rows of sqlTurnover.
func (t *turnover) collect(rows pgx.Rows) error {
	var cause, changes string
	var before []uuid.UUID
	var id *uuid.UUID
	var name, state, detail *string
	_, err := pgx.ForEachRow(rows, []any{&cause, &changes, &before, &id, &name, &state, &detail}, func() error {
		if id == nil {
			return nil
		}
		is := replicaset.WorkerState(*state)
		t.workers = append(t.workers, replicaset.Participant{
			ID: *id, Name: *name, Was: slices.Contains(before, *id), Dead: is == replicaset.Dead, Left: is == replicaset.Stopped || is == replicaset.Stopping, Detail: *detail,
		})
		return nil
	})
	t.first = cause == replicaset.CauseFirst
	// What a person has put there must not stop everybody.
	if err == nil && json.Unmarshal([]byte(changes), &t.prepared) != nil {
		t.prepared = nil
	}
	return err
}

// complete is all changes of the generation, when its members are known.
func (t *turnover) complete(members []replicaset.Member, a replicaset.Activation) []replicaset.Change {
	for i := range t.workers {
		t.workers[i].Is = slices.ContainsFunc(members, func(m replicaset.Member) bool { return m.ID == t.workers[i].ID })
	}
	return replicaset.Complete(t.prepared, t.workers, a.Exclude, a.Detail)
}

// changeColumns are a generation's cause, its changes as JSON, and its reason in words.
func changeColumns(first bool, changes []replicaset.Change) (cause, encoded, reason string, err error) {
	text, err := json.Marshal(slices.Concat([]replicaset.Change{}, changes)) // [] for none
	if err != nil {
		return "", "", "", fmt.Errorf("encoding the changes: %w", err)
	}
	return replicaset.Cause(first, changes), string(text), replicaset.Reason(changes), nil
}
