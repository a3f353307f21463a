package admin

import (
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// This file has the two checks of Verify (verify.go) that run in memory: each slot of a projection has one checkpoint,
// and no checkpoint is above the horizon.

// sqlCovered is the checkpoints of all projections that the replica set has some of.
const sqlCovered = `
SELECT c.projection, c.slot_from, c.slot_to, c.position, c.replica_set = $1
FROM {{schema}}orchestrator_checkpoints AS c
WHERE c.projection IN (SELECT own.projection FROM {{schema}}orchestrator_checkpoints AS own WHERE own.replica_set = $1)
ORDER BY c.projection, c.slot_from`

// coveredRange is a range of slots with its position, and whether the replica set has it.
type coveredRange struct {
	slot.Piece
	projection string
	own        bool
}

func scanCovered(rows pgx.Rows, c *coveredRange) error {
	return rows.Scan(&c.projection, &c.From, &c.To, &c.Position, &c.own)
}

// checkCover says which projections have not exactly one checkpoint of the replica set for each slot.
func checkCover(ranges []coveredRange) (findings []Finding) {
	for len(ranges) > 0 {
		name := ranges[0].projection
		n := slices.IndexFunc(ranges, func(c coveredRange) bool { return c.projection != name })
		if n < 0 {
			n = len(ranges)
		}
		of := ranges[:n]
		ranges = ranges[n:]
		var pieces []slot.Piece
		others, overlaps, end := int64(0), int64(0), 0
		for _, c := range of {
			pieces = append(pieces, c.Piece)
			if !c.own {
				others++
			}
			if c.From < end {
				overlaps++
			}
			end = max(end, c.To)
		}
		if others > 0 {
			findings = append(findings, Finding{
				Kind: "projection_of_two_replica_sets", Severity: Fault, Projection: name, Count: others,
				Text:   fmt.Sprintf("%d of the checkpoints of projection %q are another replica set's", others, name),
				Remedy: "set replica_set of all of its rows in orchestrator_checkpoints to the one that is to run it",
			})
		}
		if gaps := slot.Gaps(pieces); len(gaps) > 0 {
			findings = append(findings, Finding{
				Kind: "slots_without_checkpoint", Severity: Fault, Projection: name, Count: int64(len(gaps)),
				Text:   fmt.Sprintf("no checkpoint of projection %q covers the slots %v: their events are handled by nobody", name, gaps),
				Remedy: "a worker that runs the projection begins these slots again at position 0; to go on elsewhere, insert the rows by hand while no worker runs",
			})
		}
		if overlaps > 0 {
			findings = append(findings, Finding{
				Kind: "slots_of_two_checkpoints", Severity: Fault, Projection: name, Count: overlaps,
				Text:   fmt.Sprintf("%d checkpoints of projection %q overlap others: two workers may handle the same events", overlaps, name),
				Remedy: "stop its workers, delete the row of each pair that has the higher position, and restore the constraint orchestrator_checkpoints_disjoint",
			})
		}
	}
	return findings
}

// settledAfter is how long the horizon must have been held back before a checkpoint above it counts: workers store it once a second.
const settledAfter = 5 * time.Second

// checkPositions says which checkpoints are at positions that no event has yet been given, or where one can still appear.
func checkPositions(ranges []coveredRange, now settled) (findings []Finding) {
	h := now.horizon
	highest := map[string]int64{}
	var names []string
	for _, c := range ranges {
		if _, known := highest[c.projection]; !known {
			names = append(names, c.projection)
		}
		highest[c.projection] = max(highest[c.projection], c.Position)
	}
	for _, name := range names {
		position := highest[name]
		switch {
		case h.LastAllocated != nil && position > *h.LastAllocated:
			findings = append(findings, Finding{
				Kind: "checkpoint_above_sequence", Severity: Fault, Projection: name, Count: 1,
				Text:   fmt.Sprintf("a checkpoint of projection %q is at %d, and the sequence of positions at %d: events that are given positions in between would be skipped", name, position, *h.LastAllocated),
				Remedy: "see docs/architecture.md, After a failover or a restore: set the checkpoints back, or advance the sequence",
			})
		case h.longHeldBack(now.view) && position > h.StoredPosition:
			findings = append(findings, Finding{
				Kind: "checkpoint_above_horizon", Severity: Warning, Projection: name, Count: 1,
				Text:   fmt.Sprintf("a checkpoint of projection %q is at %d, and the horizon at %d, held back by %s: an event below the checkpoint may yet appear", name, position, h.StoredPosition, h.HeldBackBy[0]),
				Remedy: "look again; if it stays, somebody has set the checkpoint: set it back to the horizon",
			})
		}
	}
	return findings
}

// longHeldBack says whether workers have had the time to store that the horizon stands still.
func (h Horizon) longHeldBack(view replicaset.View) bool {
	now := time.Unix(0, 0).Add(view.Clock)
	if len(h.HeldBackBy) == 0 || h.HeldBackBy[0].Since == nil || now.Sub(*h.HeldBackBy[0].Since) < settledAfter {
		return false
	}
	return h.StoredAt != nil && now.Sub(*h.StoredAt) >= settledAfter && slices.ContainsFunc(view.Workers, func(w replicaset.Worker) bool {
		return w.State == replicaset.Running && w.HeartbeatAge < settledAfter && w.StateAge >= settledAfter
	})
}
