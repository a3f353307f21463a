package statuspage

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
)

// Option configures the page.
type Option func(*page)

// WithAccess sets the function that decides what a request may do. It is called for every request. Without this option
// everybody may read, and nobody may act or see payloads. If access is nil, nobody may do anything.
func WithAccess(access func(*http.Request) Access) Option {
	return func(p *page) {
		if access == nil {
			access = func(*http.Request) Access { return Access{} }
		}
		p.access = access
	}
}

// WithInterval sets how often the page asks the database while somebody watches, and how often it refreshes itself.
// Defaults to 2s. Less than 100ms becomes 100ms. If reading takes longer than a tenth of the interval, the page asks
// less often.
func WithInterval(d time.Duration) Option {
	return func(p *page) { p.watch.interval = max(d, 100*time.Millisecond) }
}

const (
	defaultInterval = 2 * time.Second
	actPatience     = 5 * time.Second  // for workers to do what somebody asks for
	readPatience    = 10 * time.Second // for the database
)

// page is the handler.
type page struct {
	admin  *admin.Admin
	access func(*http.Request) Access
	watch  *watch
}

// New makes the handler of a replica set's page. The replica set need not run, or even exist. New panics if a is nil.
//
// Actions are POST requests that [http.CrossOriginProtection] lets pass, so a browser can send them only from the page
// itself. They need Access.Act and a reason.
func New(a *admin.Admin, options ...Option) http.Handler {
	if a == nil {
		panic("statuspage.New: the admin must not be nil")
	}
	p := &page{admin: a, access: everybodyReads, watch: newWatch(func(ctx context.Context, since time.Time) (seen, error) { return look(ctx, a, since) })}
	for _, option := range options {
		if option != nil {
			option(p)
		}
	}
	return http.NewCrossOriginProtection().Handler(http.HandlerFunc(p.serve))
}

// policy allows what the handler itself serves, and nothing inline.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// serve finds what a request is for in its query string.
func (p *page) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	access := p.access(r)
	if !access.reads() {
		p.say(w, http.StatusForbidden, "No access", "You may not see this page.")
		return
	}
	query := r.URL.Query()
	if !readable(query) {
		p.say(w, http.StatusBadRequest, "Not understood", "The address must be valid UTF-8 without NUL.")
		return
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		switch {
		case query.Has("asset"):
			serveAsset(w, r, query.Get("asset"))
		case query.Has("letters"):
			p.letters(w, r, access)
		case query.Has("ask"):
			p.ask(w, r, access)
		default:
			p.overview(w, r, access)
		}
	case http.MethodPost:
		p.act(w, r, access)
	default:
		h.Set("Allow", "GET, HEAD, POST")
		p.say(w, http.StatusMethodNotAllowed, "Not possible", "The method "+r.Method+" is not allowed here.")
	}
}

// readable says whether no database refuses a value as text.
func readable(values url.Values) bool {
	for _, list := range values {
		for _, value := range list {
			if !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
				return false
			}
		}
	}
	return true
}

// overview answers with the replica set as it is. With the query "fragment" it is what a page that is open replaces.
func (p *page) overview(w http.ResponseWriter, r *http.Request, access Access) {
	state, err := p.watch.latest(r.Context())
	if err != nil {
		return // the client has gone
	}
	v := view{Access: access, Title: p.admin.ReplicaSet(), Done: doneText(r.URL.Query().Get("done")), Interval: p.watch.interval}
	v.fill(state)
	status, name := http.StatusOK, "page"
	if state.err != nil {
		status = http.StatusServiceUnavailable
	}
	if r.URL.Query().Has("fragment") {
		name = "main"
	}
	render(w, status, name, v)
}

// say answers with a page of one sentence.
func (p *page) say(w http.ResponseWriter, status int, title, text string) {
	render(w, status, "message", message{Title: title, Text: text, Status: status, Home: status != http.StatusForbidden})
}
