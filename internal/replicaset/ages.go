package replicaset

import (
	"maps"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// Ages measures how long what the looks show has stood, on the worker's own clock. The database's clock may be set while workers run:
// back, and for as long nothing would seem to get old; or ahead, and everything would be old at once. Its ages count only for what was
// there before the first look.
//
// It belongs to the coordinator's goroutine.
type Ages struct {
	stood map[standing]since
}

// agesAgree is by how much the two clocks may differ in an age, as they do by the time that a look takes.
const agesAgree = time.Second

// standing is something that has a value: a worker's heartbeat, say.
type standing struct {
	what string
	id   uuid.UUID
}

// since is a value, since when it has stood, and when it was last seen.
type since struct {
	value    string
	at, seen time.Duration
}

// Measure returns the view with ages on the worker's clock. at is when it was seen, on the same clock.
func (a *Ages) Measure(v View, at time.Duration) View {
	before := *a
	*a = Ages{stood: map[standing]since{}}
	if v.Glance { // which shows neither the other workers nor sessions
		*a = Ages{stood: maps.Clone(before.stood)}
	}
	age := func(what string, id uuid.UUID, value string, databases time.Duration) time.Duration {
		key := standing{what, id}
		stood, known := before.stood[key]
		if !known || stood.value != value {
			databases = max(databases, 0)
			if known { // it is not older than the look that showed the other value
				databases = min(databases, at-stood.seen)
			}
			stood = since{value: value, at: at - databases}
		}
		stood.seen = at
		a.stood[key] = stood
		own := at - stood.at
		if (own - databases).Abs() < agesAgree {
			return databases // which is more exact
		}
		return own
	}
	v.At = at
	if !v.Glance {
		v.SessionAge = age("session", uuid.Nil, v.Session, v.SessionAge)
		v.ServerAge = age("server", uuid.Nil, v.Server, v.ServerAge)
	}
	g := &v.Generation
	number := strconv.FormatInt(g.Number, 10)
	g.Age = age("generation", uuid.Nil, number, g.Age)
	if g.State == Active {
		g.ActiveFor = age("active", uuid.Nil, number, g.ActiveFor)
	}
	v.Workers = append([]Worker(nil), v.Workers...)
	for i := range v.Workers {
		w := &v.Workers[i]
		w.StateAge = age("state", w.ID, string(w.State), w.StateAge)
		if w.HeartbeatAge != NoHeartbeat {
			w.HeartbeatAge = age("heartbeat", w.ID, w.Heartbeat, w.HeartbeatAge)
		}
	}
	return v
}
