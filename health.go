package orchestrator

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/actors"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/health"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/waiting"
)

// Health is the state of an Orchestrator. In its JSON form, fields keep their names and meanings within a major version.
// New fields may be added.
type Health struct {
	// Live is true if no loop of the worker is stuck. It does not depend on the database: a loop that keeps trying to
	// reach the database makes progress. Live is true before Run, and false after Run has returned an error.
	Live bool `json:"live"`
	// Ready is true if the worker can do its work (see Orchestrator.ReadyHandler). Otherwise NotReady is a sentence that
	// tells people why; it is empty if Ready is true.
	Ready    bool   `json:"ready"`
	NotReady string `json:"not_ready,omitempty"`
	// Phase is "new" before Run, "starting" while Run looks for the database and the tables, then "running", then
	// "leaving". It is "ended" after Run has returned nil, and "failed" after Run has returned an error.
	Phase      string `json:"phase"`
	ReplicaSet string `json:"replica_set"`
	// Worker is the worker's id, and WorkerName its name, as in the tables and the log. Worker is empty while no worker
	// runs.
	Worker     string `json:"worker,omitempty"`
	WorkerName string `json:"worker_name"`
	// State is the worker's state when it last looked at the replica set: pending, ready, running, stopping, stopped or
	// dead. It is empty before the first look.
	State string `json:"state,omitempty"`
	// Generation is the number of the replica set's generation at that look. It is 0 before the first look.
	Generation int64 `json:"generation"`
	// Loops are the worker's loops, ordered by name. It is empty unless Run is running.
	Loops []LoopHealth `json:"loops"`
}

// LoopHealth is the state of one of a worker's internal loops.
type LoopHealth struct {
	// Name is supervisor, coordinator, heartbeat, horizon, session, reader or waits. For the others it begins with
	// partition or processor, followed by which one.
	Name string `json:"name"`
	// LastRound is when the loop's last round ended, and AllowedSeconds is how long ago that may be. AllowedSeconds is 0
	// while the loop waits for something outside the worker's control, such as a handler.
	LastRound      time.Time `json:"last_round"`
	AllowedSeconds float64   `json:"allowed_seconds"`
	// OK is true if the last round is recent enough.
	OK bool `json:"ok"`
}

// healthState is what an Orchestrator knows about its worker.
type healthState struct {
	member  health.Membership
	loops   atomic.Pointer[health.Loops] // nil unless a worker runs
	waits   atomic.Pointer[waiting.Hub]  // nil unless Run is running
	worker  atomic.Pointer[string]       // its id; nil while no worker runs
	onRound func(loop string)            // see health.NewLoops; nil outside tests
}

// begin records that Run was called.
func (s *healthState) begin(waits *waiting.Hub) {
	s.member.Begin()
	s.waits.Store(waits)
}

// run begins to watch the worker's loops.
func (s *healthState) run(cfg *actors.Config) {
	id := cfg.Membership.ID.String()
	cfg.Loops, cfg.Member = health.NewLoops(time.Second, s.onRound), &s.member
	s.loops.Store(cfg.Loops)
	s.worker.Store(&id)
	s.member.Enter(health.Running)
}

// end records that Run returns.
func (s *healthState) end(err error) {
	phase := health.Ended
	if err != nil {
		phase = health.Failed
	}
	s.member.Enter(phase)
	s.loops.Store(nil)
	s.waits.Store(nil)
	s.worker.Store(nil)
}

// Health returns the worker's state. It reads only memory, so it is quick and does not need the database. It may be
// called at any time.
func (o *Orchestrator) Health() Health {
	s := &o.health
	m := s.member.Now()
	h := Health{
		Live: m.Phase != health.Failed, Phase: string(m.Phase), ReplicaSet: o.replicaSet, WorkerName: o.config.workerName,
		State: m.State, Generation: m.Generation, Loops: []LoopHealth{},
	}
	if id := s.worker.Load(); id != nil {
		h.Worker = *id
	}
	h.NotReady, h.Ready = m.Ready(time.Now(), o.config.coordinationTimeout)
	statuses := s.loops.Load().Status()
	if waits := s.waits.Load(); waits != nil {
		statuses = append(statuses, waits.Status()...)
	}
	for _, l := range statuses {
		h.Live = h.Live && l.OK
		h.Loops = append(h.Loops, LoopHealth{Name: l.Name, LastRound: l.Last, AllowedSeconds: l.Allowed.Seconds(), OK: l.OK})
	}
	slices.SortFunc(h.Loops, func(a, b LoopHealth) int { return strings.Compare(a.Name, b.Name) })
	return h
}

// LiveHandler answers 200 while the worker's internal loops make progress. It answers 503 if one is stuck, or if Run has
// returned an error. In both cases only a new process helps. It also answers 200 before Run, and after Run has returned
// nil.
//
// It never asks the database. A lost database, lag, a pause, a rebuild, parked aggregates and a hanging handler do not
// change the answer. With ?verbose the answer is Health as JSON, otherwise a line of text.
func (o *Orchestrator) LiveHandler() http.Handler {
	return o.healthHandler(func(h Health) (bool, string) {
		if h.Live {
			return true, "live"
		}
		if h.Phase == string(health.Failed) {
			return false, h.NotReady
		}
		var stuck []string
		for _, l := range h.Loops {
			if !l.OK {
				stuck = append(stuck, l.Name)
			}
		}
		return false, "stuck: " + strings.Join(stuck, ", ")
	})
}

// ReadyHandler answers 200 while the worker can do its work, and 503 otherwise. A worker can do its work if it has found
// the database and the tables, is a member of an active generation, and has recently written a heartbeat. It stays ready
// during a generation change, for up to the coordination timeout. Lag, a pause, a rebuild, parked aggregates and a drain
// leave it ready.
//
// The answer comes from what the worker last saw, without a query. With ?verbose the answer is Health as JSON, otherwise
// a line of text.
func (o *Orchestrator) ReadyHandler() http.Handler {
	return o.healthHandler(func(h Health) (bool, string) {
		if h.Ready {
			return true, "ready"
		}
		return false, h.NotReady
	})
}

// healthHandler answers with a line of text, or with Health as JSON.
func (o *Orchestrator) healthHandler(judge func(Health) (ok bool, line string)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET and HEAD are understood", http.StatusMethodNotAllowed)
			return
		}
		h := o.Health()
		ok, line := judge(h)
		header, body := "text/plain; charset=utf-8", []byte(line+"\n")
		if r.URL.Query().Has("verbose") {
			header = "application/json"
			body, _ = json.MarshalIndent(h, "", "  ") // of these fields none can fail
			body = append(body, '\n')
		}
		w.Header().Set("Content-Type", header)
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if !ok {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = w.Write(body)
	})
}
