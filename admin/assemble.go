package admin

import (
	"slices"

	"github.com/google/uuid"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// assemble makes a snapshot from the rows.
func (s *assembly) assemble() {
	for i, g := range s.Generations {
		if g.State != "superseded" {
			s.Generation = &s.Generations[i]
			break
		}
	}
	names := map[uuid.UUID]string{}
	for _, w := range s.Workers {
		names[w.ID] = w.Name
	}
	s.countSlots()
	s.Projections = []Projection{}
	for i := range s.checkpoints {
		c := &s.checkpoints[i]
		replacedBy := replicaset.Replaced(c.projection, s.successions)
		if c.LagExact = true; replacedBy == "" {
			c.Lag, c.LagExact = s.latest.lag(c.Range)
		}
		n := len(s.Projections)
		if n == 0 || s.Projections[n-1].Name != c.projection {
			s.Projections = append(s.Projections, Projection{Name: c.projection, Position: c.Position, LagExact: true, TurnsUntil: s.turns[c.projection], ReplacedBy: replacedBy})
		}
		s.Projections[len(s.Projections)-1].add(*c, names)
	}
	for i := range s.Projections {
		p := &s.Projections[i]
		p.LagSeconds = s.waited(*p)
		slices.SortStableFunc(p.Partitions, func(a, b Partition) int { return a.Ranges[0].SlotFrom - b.Ranges[0].SlotFrom })
	}
	s.describeWorkers()
	s.describeSuccessions()
}

// describeSuccessions adds to the projections what they replace.
func (s *assembly) describeSuccessions() {
	for i := range s.Projections {
		p := &s.Projections[i]
		for _, one := range s.successions {
			if one.Projection == p.Name {
				p.Replaces = one.Replaced
			}
		}
		for _, w := range s.Workers {
			if of := w.Replaces[p.Name]; p.Replaces == "" && of != "" && w.State != "stopped" && w.State != "dead" {
				p.Replaces, p.Replay = of, true
			}
		}
	}
}

// waited is for how long the oldest event of a projection waits; nil if that is not known. A checkpoint below positions that have no event waits for nothing.
func (s *assembly) waited(p Projection) *float64 {
	seconds, known := s.waits[p.Name]
	switch {
	case p.Lag == 0 && p.LagExact:
		return new(float64)
	case known:
		return &seconds
	}
	return nil
}

// countSlots adds what is parked and has failed in each slot to the slot's range.
func (s *assembly) countSlots() {
	of := map[string][]*checkpoint{}
	for i := range s.checkpoints {
		c := &s.checkpoints[i]
		of[c.projection] = append(of[c.projection], c)
	}
	for _, n := range s.slotted {
		i := slices.IndexFunc(of[n.projection], func(c *checkpoint) bool { return c.contains(n.slot) })
		if i >= 0 {
			c := of[n.projection][i]
			c.Parked.add(n.parked)
			c.Letters.add(n.letters)
		}
	}
}

func (r Range) contains(s int) bool { return r.SlotFrom <= s && s < r.SlotTo }

// held says whether the range has come to where it is held back.
func (r Range) held() bool { return r.HoldAt != nil && r.Position >= *r.HoldAt }

func (p *Parked) add(q Parked) {
	p.Aggregates += q.Aggregates
	p.Events += q.Events
}

func (l *Letters) add(m Letters) {
	l.Retrying += m.Retrying
	l.Stopped += m.Stopped
	l.Skipped += m.Skipped
}

// add adds a range to the projection.
func (p *Projection) add(c checkpoint, names map[uuid.UUID]string) {
	p.Position = min(p.Position, c.Position)
	p.Lag += c.Lag
	p.LagExact = p.LagExact && c.LagExact
	p.Paused = p.Paused || c.held() && p.ReplacedBy == ""
	p.Stopped = p.Stopped || c.StoppedAt != nil
	p.Parked.add(c.Parked)
	p.Letters.add(c.Letters)
	i := slices.IndexFunc(p.Partitions, func(q Partition) bool {
		return q.Partition == c.partition && q.Generation == c.generation && (q.Worker == nil) == (c.worker == nil) && (q.Worker == nil || *q.Worker == *c.worker)
	})
	if i < 0 {
		i = len(p.Partitions)
		q := Partition{Partition: c.partition, Worker: c.worker, Generation: c.generation, Position: c.Position, LagExact: true}
		if c.worker != nil {
			q.WorkerName = names[*c.worker]
		}
		p.Partitions = append(p.Partitions, q)
	}
	q := &p.Partitions[i]
	q.Position = min(q.Position, c.Position)
	q.Lag += c.Lag
	q.LagExact = q.LagExact && c.LagExact
	q.Parked.add(c.Parked)
	q.Letters.add(c.Letters)
	q.Ranges = append(q.Ranges, c.Range)
}

// describeWorkers adds to the workers what other tables say of them, and to the projections who runs them.
func (s *assembly) describeWorkers() {
	place := map[uuid.UUID]*Worker{}
	runs := map[string]int{}
	for i := range s.Workers {
		w := &s.Workers[i]
		w.Partitions, w.Abandoned = []Assignment{}, []Abandoned{}
		place[w.ID] = w
		if known, ok := s.view.Worker(w.ID); ok && w.State != "stopped" && w.State != "dead" {
			w.Connected = known.SessionPID != 0
			w.Leading = w.Connected && known.SessionPID == s.view.LeaderPID
			for _, projection := range w.Projections {
				runs[projection]++
			}
		}
	}
	for i := range s.Projections {
		p := &s.Projections[i]
		p.Workers = runs[p.Name]
		for _, q := range p.Partitions {
			if q.Worker != nil && place[*q.Worker] != nil {
				w := place[*q.Worker]
				w.Partitions = append(w.Partitions, Assignment{Projection: p.Name, Partition: q.Partition})
			}
		}
	}
	for _, a := range s.abandoned {
		if w := place[a.worker]; w != nil {
			w.Abandoned = append(w.Abandoned, a.Abandoned)
		}
	}
}

// lag is how many events a range has yet to handle. Beyond the events that were read it is estimated, and exact is false.
func (l latest) lag(r Range) (events int64, exact bool) {
	for i, position := range l.positions {
		if position <= r.Position {
			return events, true
		}
		if r.contains(int(l.slots[i])) {
			events++
		}
	}
	if len(l.positions) <= countedMost {
		return events, true
	}
	below := l.positions[len(l.positions)-1] - 1 - r.Position
	return events + int64(float64(max(0, below))*float64(r.SlotTo-r.SlotFrom)/slot.Count), below <= 0
}
