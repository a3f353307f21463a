package statuspage

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
)

// action is something that a person can do.
type action struct {
	Title string
	What  string // what it does, in a sentence
	Loses bool   // something that does not come back, so it must be confirmed
	Until bool   // it can end by itself
	needs []string
	done  string // what is said afterwards
	do    func(ctx context.Context, a *admin.Admin, of url.Values) error
}

// targets are the fields that say what an action is done to.
var targets = []string{"projection", "worker", "group", "operation"}

var actions = map[string]action{
	"pause": {
		Title: "Pause the projection", What: "It handles nothing more until somebody resumes it. Its workers go on with other projections.", Until: true, needs: []string{"projection"},
		done: "The projection is paused.", do: func(ctx context.Context, a *admin.Admin, of url.Values) error {
			until, err := untilOf(of.Get("for"))
			if err != nil {
				return err
			}
			return a.Pause(ctx, admin.Target{Projection: of.Get("projection")}, of.Get("reason"), until)
		},
	},
	"resume": {
		Title: "Resume the projection", What: "It goes on where it was. If it has stopped at an event, the event is tried again.", needs: []string{"projection"},
		done: "The projection goes on.", do: func(ctx context.Context, a *admin.Admin, of url.Values) error {
			return a.Resume(ctx, admin.Target{Projection: of.Get("projection")}, of.Get("reason"))
		},
	},
	"drain": {
		Title: "Drain the worker", What: "Other workers take its partitions. It keeps running without any until somebody undrains it.", needs: []string{"worker"},
		done: "The worker is drained.", do: func(ctx context.Context, a *admin.Admin, of url.Values) error {
			return a.Drain(ctx, of.Get("worker"), of.Get("reason"))
		},
	},
	"undrain": {
		Title: "Undrain the worker", What: "It gets partitions again.", needs: []string{"worker"},
		done: "The worker gets partitions again.", do: func(ctx context.Context, a *admin.Admin, of url.Values) error {
			return a.Undrain(ctx, of.Get("worker"), of.Get("reason"))
		},
	},
	"retry": {
		Title: "Retry the parked events", What: "The workers handle all parked events of the aggregates in this group again, in order. An aggregate whose events fail again stays parked.", needs: []string{"projection", "group"},
		done: "The retry is asked for. Its result is in the timeline below.", do: func(ctx context.Context, a *admin.Admin, of url.Values) error {
			result, err := a.Retry(ctx, filterOf(of), of.Get("reason"))
			switch {
			case result.Operation != 0 && errors.Is(err, context.DeadlineExceeded):
				return nil // it stays asked for
			case err == nil && result.Aggregates == 0:
				return errNothing
			}
			return err
		},
	},
	"discard": {
		Title: "Discard the parked events", What: "No handler will ever handle the parked events of the aggregates in this group. Later events of these aggregates are handled again.", Loses: true, needs: []string{"projection", "group"},
		done: "The parked events are discarded.", do: func(ctx context.Context, a *admin.Admin, of url.Values) error {
			result, err := a.Discard(ctx, filterOf(of), of.Get("reason"))
			if err == nil && result.Aggregates == 0 {
				return errNothing
			}
			return err
		},
	},
	"cancel": {
		Title: "Cancel the operation", What: "What workers have not done of it yet is not done.", needs: []string{"operation"},
		done: "The operation is cancelled.", do: func(ctx context.Context, a *admin.Admin, of url.Values) error {
			id, err := strconv.ParseInt(of.Get("operation"), 10, 64)
			if err != nil {
				return fmt.Errorf("the operation must be a number, got %q", of.Get("operation"))
			}
			return a.Cancel(ctx, id, of.Get("reason"))
		},
	},
}

// errNothing says that a group has nothing that could be retried or discarded.
var errNothing = errors.New("no event of this group is parked: it may have been retried or discarded meanwhile")

func filterOf(of url.Values) admin.Filter {
	return admin.Filter{Projection: of.Get("projection"), Group: of.Get("group")}
}

// untilOf is when a pause ends that is to last so long; the zero time if it does not end by itself.
func untilOf(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return time.Time{}, fmt.Errorf("the time of a pause must be above 0, such as 1h, got %q", text)
	}
	return time.Now().Add(d), nil
}

func doneText(name string) string { return actions[name].done }

// asking is the page that asks for a reason.
type asking struct {
	Name string
	action
	Fields []fact // the target, for people and for the form
	Title  string
	Set    string
}

// ask answers with the form of an action.
func (p *page) ask(w http.ResponseWriter, r *http.Request, access Access) {
	if !access.Act {
		p.say(w, http.StatusForbidden, "No access", "You may look, and not change anything.")
		return
	}
	query := r.URL.Query()
	name := query.Get("ask")
	a, known := actions[name]
	if !known {
		p.say(w, http.StatusNotFound, "No such action", "There is no action of this name.")
		return
	}
	form := asking{Name: name, action: a, Title: a.Title, Set: p.admin.ReplicaSet()}
	for _, field := range targets {
		if slices.Contains(a.needs, field) {
			form.Fields = append(form.Fields, fact{field, query.Get(field)})
		}
	}
	render(w, http.StatusOK, "ask", form)
}

// formMost bounds a form, in bytes.
const formMost = 64 << 10

// act does what a form says, and has the browser load the page again.
func (p *page) act(w http.ResponseWriter, r *http.Request, access Access) {
	if !access.Act {
		p.say(w, http.StatusForbidden, "No access", "You may look, and not change anything.")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, formMost)
	if err := r.ParseForm(); err != nil {
		p.say(w, http.StatusBadRequest, "Not understood", "The form could not be read: "+err.Error())
		return
	}
	name := r.PostForm.Get("do")
	a, known := actions[name]
	if !known {
		p.say(w, http.StatusBadRequest, "No such action", "The field do must name an action.")
		return
	}
	if missing := a.missing(r.PostForm); missing != "" {
		p.say(w, http.StatusBadRequest, a.Title, missing)
		return
	}
	by := p.admin
	if access.Actor != "" {
		var err error
		if by, err = p.admin.As(access.Actor); err != nil {
			p.say(w, http.StatusInternalServerError, a.Title, err.Error())
			return
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), actPatience)
	defer cancel()
	err := a.do(ctx, by, r.PostForm)
	p.watch.forget()
	switch {
	case err == nil:
		w.Header().Set("Location", "?done="+url.QueryEscape(name))
		w.WriteHeader(http.StatusSeeOther)
	case errors.Is(err, errNothing):
		p.say(w, http.StatusNotFound, "Nothing to do", "There is nothing to do: "+err.Error()+".")
	case errors.Is(err, context.DeadlineExceeded):
		p.say(w, http.StatusGatewayTimeout, "Not done within "+span(actPatience), err.Error())
	case dbfault.IsUnavailable(err):
		p.say(w, http.StatusServiceUnavailable, a.Title+": the database is away", err.Error())
	default:
		p.say(w, http.StatusConflict, a.Title+": it was refused", err.Error())
	}
}

// missing says what a form lacks.
func (a action) missing(form url.Values) string {
	for _, field := range a.needs {
		if form.Get(field) == "" { // an empty filter would select everything
			return "The field " + field + " must not be empty."
		}
	}
	switch {
	case strings.TrimSpace(form.Get("reason")) == "":
		return "A reason must be given: it is recorded with the operation."
	case a.Loses && form.Get("sure") != "yes":
		return "This cannot be undone, so it must be confirmed."
	}
	return ""
}
