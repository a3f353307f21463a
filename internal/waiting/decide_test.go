package waiting

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

var ada = &replicaset.Aggregate{BoundedContext: "Identity", Type: "User", ID: "ada"}

// halves are checkpoints of two halves of the slots.
func halves(lower, upper slot.Piece) []slot.Piece {
	lower.Range, upper.Range = slot.Range{From: 0, To: slot.Count / 2}, slot.Range{From: slot.Count / 2, To: slot.Count}
	return []slot.Piece{lower, upper}
}

func at(position int64) slot.Piece { return slot.Piece{Position: position} }

func TestDecide(t *testing.T) {
	all, one := Wait{Projection: "p", Position: 10}, Wait{Projection: "p", Position: 10, Aggregate: ada}
	const lower, upper = 7, slot.Count - 1 // slots
	running := func(pieces []slot.Piece) Standing {
		return Standing{EventsTable: "public.events", Pieces: pieces, Running: true}
	}
	parked := func(s Standing) Standing {
		s.Parked = true
		return s
	}
	replaced := func(s Standing) Standing {
		s.ReplacedBy = "q"
		return s
	}
	cuttingOver := func(s Standing) Standing {
		s.CuttingOver = true
		return s
	}
	idle := func(s Standing) Standing {
		s.Running = false
		return s
	}
	reached, short := at(10), at(9)
	for name, c := range map[string]struct {
		wait     Wait
		standing Standing
		slot     int
		examined *Examined
		here     bool
		want     Verdict
		err      error
		text     string
	}{
		"all slots are there":               {wait: all, standing: running(halves(reached, reached)), want: Done},
		"one slot is behind":                {wait: all, standing: running(halves(reached, short)), want: Behind},
		"a slot has no checkpoint":          {wait: all, standing: running(halves(reached, reached)[1:]), want: Behind},
		"there are no checkpoints yet":      {wait: all, standing: Standing{Running: true}, want: Behind},
		"the aggregate's slot is there":     {wait: one, slot: lower, standing: running(halves(reached, short)), want: Done},
		"the aggregate's slot is behind":    {wait: one, slot: upper, standing: running(halves(reached, short)), want: Behind},
		"its slot has no checkpoint":        {wait: one, slot: lower, standing: running(halves(reached, reached)[1:]), want: Behind},
		"its slot is not known":             {wait: one, slot: -1, standing: running(halves(reached, reached)), want: Unclear},
		"no worker, but all are there":      {wait: all, standing: idle(running(halves(reached, reached))), want: Done},
		"no worker":                         {wait: all, standing: idle(running(halves(reached, short))), want: Failed, err: ErrNotRunning, text: "it is at position 9"},
		"no worker ever":                    {wait: all, standing: Standing{}, want: Failed, err: ErrNotRunning, text: "none ever has"},
		"a worker here is about to":         {wait: all, standing: Standing{}, here: true, want: Behind},
		"all have left it out":              {wait: all, standing: Standing{LeftOut: true}, want: Failed, err: ErrNotRunning, text: "orchestrator_abandoned_handlers"},
		"one has left it out":               {wait: all, standing: Standing{LeftOut: true, Running: true}, want: Behind},
		"stopped before":                    {wait: all, standing: running(halves(reached, slot.Piece{Position: 9, Stopped: 10})), want: Failed, err: ErrStopped, text: "at position 10"},
		"stopped after":                     {wait: all, standing: running(halves(short, slot.Piece{Position: 10, Stopped: 11})), want: Behind},
		"stopped after, and on its way":     {wait: all, standing: running(halves(reached, slot.Piece{Position: 9, Stopped: 11})), want: Behind},
		"others are stopped":                {wait: one, slot: lower, standing: running(halves(short, slot.Piece{Position: 9, Stopped: 10})), want: Behind},
		"paused before":                     {wait: all, standing: running(halves(reached, slot.Piece{Position: 8, Held: 10})), want: Failed, err: ErrPaused, text: "after position 9"},
		"paused until":                      {wait: all, standing: running(halves(reached, slot.Piece{Position: 9, Held: 10, HeldUntil: 1e15})), want: Failed, err: ErrPaused, text: "until 2001-09-09"},
		"held at it":                        {wait: all, standing: running(halves(reached, slot.Piece{Position: 9, Held: 11})), want: Behind},
		"others are paused":                 {wait: one, slot: lower, standing: running(halves(short, slot.Piece{Position: 9, Held: 10})), want: Behind},
		"something is parked":               {wait: all, standing: parked(running(halves(reached, reached))), want: Unclear},
		"something of others is parked":     {wait: all, standing: parked(running(halves(reached, reached))), examined: &Examined{}, want: Done},
		"the event is put aside":            {wait: all, standing: parked(running(halves(reached, reached))), examined: &Examined{PutAside: true}, want: Failed, err: ErrParked},
		"letters count as handled":          {wait: Wait{Projection: "p", Position: 10, Letters: true}, standing: parked(running(halves(reached, reached))), want: Done},
		"the aggregate will be put aside":   {wait: one, slot: upper, standing: parked(running(halves(reached, short))), examined: &Examined{Parked: true}, want: Failed, err: ErrParked, text: `"ada"`},
		"the aggregate is parked, behind":   {wait: one, slot: lower, standing: parked(running(halves(reached, short))), examined: &Examined{Parked: true}, want: Done},
		"the aggregate's event is a letter": {wait: one, slot: lower, standing: parked(running(halves(reached, short))), examined: &Examined{Parked: true, PutAside: true}, want: Failed, err: ErrParked},
		"replaced before":                   {wait: all, standing: replaced(running(halves(reached, short))), want: Failed, err: ErrReplaced, text: `wait for "q"`},
		"held by a cut-over":                {wait: all, standing: cuttingOver(running(halves(reached, slot.Piece{Position: 9, Held: 10, HeldUntil: 1e15}))), want: Behind},
		"paused during a cut-over":          {wait: all, standing: cuttingOver(running(halves(reached, slot.Piece{Position: 9, Held: 10}))), want: Failed, err: ErrPaused},
		"replaced at it, or after":          {wait: all, standing: replaced(running(halves(reached, reached))), want: Done},
		"another events table":              {wait: all, standing: Standing{EventsTable: "other.events", Pieces: halves(reached, reached)}, want: Failed, text: "other.events"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Decide(c.wait, c.standing, c.slot, c.examined, "public.events", c.here)
			assert.Equal(t, c.want, got)
			if c.err != nil {
				require.ErrorIs(t, err, c.err)
			}
			if c.want == Failed {
				require.ErrorContains(t, err, c.text)
			} else {
				require.NoError(t, err)
			}
		})
	}
}
