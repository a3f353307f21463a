package admin

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Severity is how bad a finding is.
type Severity string

// The severities.
const (
	// Note is nothing wrong, but worth knowing.
	Note Severity = "note"
	// Warning is something that may be wrong, or that a person should look at.
	Warning Severity = "warning"
	// Fault is something that must not be: somebody changed rows, or the library is at fault.
	Fault Severity = "fault"
)

// Finding is something about the rows of a replica set that should not be, or is worth knowing.
type Finding struct {
	// Kind is what was found, in a word that is stable.
	Kind     string   `json:"kind"`
	Severity Severity `json:"severity"`
	// Projection is empty if it concerns none, or several.
	Projection string `json:"projection"`
	// Count is how many rows it is about.
	Count int64 `json:"count"`
	// Text says what was found, Remedy what to do.
	Text   string `json:"text"`
	Remedy string `json:"remedy"`
}

// Verify looks for what should not be in the rows of the replica set, and in what they say about events. It changes nothing. The findings are in order of their
// kinds; a healthy replica set whose projections are all run by workers has none. It reads all letters that are not handled, and their events.
func (a *Admin) Verify(ctx context.Context) ([]Finding, error) {
	findings, err := a.verify(ctx)
	if err != nil {
		return nil, a.explainReading(ctx, "verifying the rows", err)
	}
	return findings, nil
}

func (a *Admin) verify(ctx context.Context) (findings []Finding, err error) {
	err = a.look(ctx, func(l look) error {
		// Read after the transaction has begun, the sequence is at or above all that its rows say.
		now, err := readSettled(ctx, l.tx, l.store, l.events)
		if err != nil {
			return err
		}
		rows, err := l.tx.Query(ctx, l.store.SQL(sqlCovered), a.replicaSet) //nolint:rowserrcheck // collect checks it
		if err != nil {
			return err
		}
		var covered []coveredRange
		if err := collect(&covered, scanCovered)(rows); err != nil {
			return err
		}
		findings = append(checkCover(covered), checkPositions(covered, now)...)
		found, err := l.runChecks(ctx)
		findings = append(findings, found...)
		return err
	})
	if findings == nil {
		findings = []Finding{}
	}
	return findings, err
}

// runChecks runs the checks that are statements, in one round trip.
func (l look) runChecks(ctx context.Context) (findings []Finding, err error) {
	var batch pgx.Batch
	for _, c := range checks {
		args := []any{l.admin.replicaSet}
		if strings.Contains(c.sql, "$2") {
			args = append(args, l.store.EventsTable())
		}
		sql := strings.ReplaceAll(l.store.SQL(c.sql), "{{events}}", l.events.Sanitize())
		batch.Queue(sql, args...).Query(func(rows pgx.Rows) error {
			var found []Finding
			err := collect(&found, func(rows pgx.Rows, f *Finding) error {
				var detail string
				err := rows.Scan(&f.Projection, &f.Count, &detail)
				f.Kind, f.Severity, f.Remedy = c.kind, c.severity, c.remedy
				f.Text = strings.NewReplacer("{projection}", fmt.Sprintf("%q", f.Projection), "{count}", fmt.Sprint(f.Count), "{detail}", detail).Replace(c.text)
				return err
			})(rows)
			findings = append(findings, found...)
			return err
		})
	}
	err = l.tx.SendBatch(ctx, &batch).Close()
	return findings, err
}

// FindingKinds are the kinds that findings have.
func FindingKinds() []string {
	kinds := []string{
		"projection_of_two_replica_sets", "slots_without_checkpoint", "slots_of_two_checkpoints", "checkpoint_above_sequence", "checkpoint_above_horizon",
	}
	for _, c := range checks {
		kinds = append(kinds, c.kind)
	}
	return kinds
}
