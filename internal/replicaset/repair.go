package replicaset

import (
	"fmt"
	"slices"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// Repair is the checkpoints with those that are missing, at the beginning of the stream,
// and the members without the projections that have checkpoints in another replica set,
// which elsewhere names: such a projection is not divided, since slots that are missing here
// may be there. noticed is what was repaired. It is a pure function.
func Repair(stored []Checkpoint, members []Member, elsewhere map[string]string) (all []Checkpoint, running []Member, noticed []Change) {
	all = slices.Clone(stored)
	pieces := map[string][]slot.Piece{}
	for _, c := range stored {
		pieces[c.Projection] = append(pieces[c.Projection], c.Piece)
	}
	for _, projection := range Projections(members) {
		if other, is := elsewhere[projection]; is {
			noticed = append(noticed, Change{Kind: Elsewhere, Projections: []string{projection}, Detail: other})
			continue
		}
		missing := slot.Gaps(pieces[projection])
		for _, slots := range missing {
			all = append(all, Checkpoint{Projection: projection, Piece: slot.Piece{Range: slots}})
		}
		if len(missing) > 0 {
			noticed = append(noticed, Change{Kind: Repaired, Projections: []string{projection}, Detail: fmt.Sprint(missing)})
		}
	}
	running = slices.Clone(members)
	for i := range running {
		running[i].Projections = slices.DeleteFunc(slices.Clone(running[i].Projections), func(projection string) bool {
			_, is := elsewhere[projection]
			return is
		})
	}
	return all, running, noticed
}

// Projections is what any of the members runs.
func Projections(members []Member) []string {
	names := []string{}
	for _, m := range members {
		names = append(names, m.Projections...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
