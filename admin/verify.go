package admin

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Severity is how serious a finding is.
type Severity string

// The severities.
const (
	// Note is harmless, but worth knowing.
	Note Severity = "note"
	// Warning may be wrong, and a person should look at it.
	Warning Severity = "warning"
	// Fault must never happen. Somebody changed rows, or the library has a bug.
	Fault Severity = "fault"
)

// Finding is something in the rows of a replica set that is wrong or worth knowing.
type Finding struct {
	// Kind is a stable word for the finding.
	Kind     string   `json:"kind"`
	Severity Severity `json:"severity"`
	// Projection is empty if the finding concerns none, or several.
	Projection string `json:"projection"`
	// Count is how many rows the finding is about.
	Count int64 `json:"count"`
	// Text describes the finding. Remedy says what to do.
	Text   string `json:"text"`
	Remedy string `json:"remedy"`
}

// Verify looks for inconsistencies in the rows of the replica set, and between them and the events. It changes nothing.
// The findings are ordered by kind. A healthy replica set whose projections all have workers has none. Verify reads all
// letters that are not handled, and their events.
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

// FindingKinds returns all values of Finding.Kind.
func FindingKinds() []string {
	kinds := []string{
		"projection_of_two_replica_sets", "slots_without_checkpoint", "slots_of_two_checkpoints", "checkpoint_above_sequence", "checkpoint_above_horizon",
	}
	for _, c := range checks {
		kinds = append(kinds, c.kind)
	}
	return kinds
}
