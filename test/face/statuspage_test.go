package face

import (
	"context"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/statuspage"
)

// granting is a page on which everybody may do the same, and that shows what was a moment ago.
func granting(a *admin.Admin, access statuspage.Access) http.Handler {
	return statuspage.New(a, statuspage.WithAccess(func(*http.Request) statuspage.Access { return access }), statuspage.WithInterval(0))
}

// ask is a request that a browser sends from the page itself.
func ask(t *testing.T, handler http.Handler, method, target string, form url.Values) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(form.Encode()))
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, r)
	return answer
}

// get is the page at an address.
func get(t *testing.T, handler http.Handler, target string) (status int, body string) {
	t.Helper()
	answer := ask(t, handler, http.MethodGet, target, nil)
	return answer.Code, answer.Body.String()
}

const hostileName = `</h3><script src=//x></script>"'{{.}}`

// The page shows who runs what, what failed and who has held what back. All text is text, whatever is in it, and all addresses work below any path.
func TestThePageShowsWhatIs(t *testing.T) {
	w := newWorld(t)
	w.appendInTurn(2, "ada", "grace")
	r := start(t, w.orchestrator("<set>", parkAtOnce, orchestrator.WithWorkerName(hostileName)),
		recorder{name: hostileName, before: poisoned(errors.New("the name <b>is</b> bad"), 1)}, recorder{name: "quiet"})
	w.await("2", "SELECT letters FROM orchestrator_parked_aggregates")
	w.awaitHandled("quiet", 4)
	a := w.admin("<set>", admin.WithActor("<anna>"))
	require.NoError(t, a.Pause(t.Context(), admin.Target{Projection: "quiet"}, "<i>why</i>", time.Time{}))
	everything := granting(a, statuspage.Access{Act: true, Payloads: statuspage.FullPayloads})

	group := w.value("SELECT lpad(to_hex(hashtextextended(error_kind || chr(10) || error_frame, 0)), 16, '0') FROM orchestrator_dead_letters WHERE attempts > 0")
	of := "projection=" + url.QueryEscape(hostileName) + "&group=" + group
	for _, target := range []string{
		"/", "/a/b/", "/a/b?fragment", "/?letters&" + of, "/?letters&" + of + "&position=1", "/?ask=retry&" + of, "/?ask=" + url.QueryEscape(hostileName), "/?letters&position=" + url.QueryEscape(hostileName),
	} {
		_, body := get(t, everything, target)
		for _, raw := range []string{"<script src=//x>", "<b>is</b>", "<i>why</i>", "<anna>", "<set>"} {
			assert.NotContains(t, body, raw, target)
		}
		for _, attribute := range regexp.MustCompile(`\b(?:href|src|action)="([^"]*)"`).FindAllStringSubmatch(body, -1) {
			assert.Regexp(t, `^(\?|#)`, attribute[1], target)
		}
		assert.NotRegexp(t, `\son[a-z]+=|style=|<style|<script>`, body, target)
	}

	answer := ask(t, everything, http.MethodGet, "/", nil)
	assert.Equal(t, http.StatusOK, answer.Code)
	for header, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "Content-Type": "text/html; charset=utf-8"} {
		assert.Equal(t, want, answer.Header().Get(header))
	}
	for _, rule := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
		assert.Contains(t, answer.Header().Get("Content-Security-Policy"), rule)
	}
	body := html.UnescapeString(answer.Body.String())
	for _, text := range []string{
		"Worth a look", "has parked 1 aggregate, with 2 events", hostileName + " 0/1", "the name <b>is</b> bad", "quiet</strong> is held back by <span class=\"name\"><anna>", "<i>why</i>",
		fmt.Sprintf("worker %q joined", hostileName), "generation 1 is active", hostileName + " has 0/1", "Resume", "Discard",
	} {
		assert.Contains(t, body, text)
	}
	require.NoError(t, r.stop())
	eventually(t, func() bool {
		_, body = get(t, everything, "/")
		return strings.Contains(body, "No worker is there: nothing is handled.")
	}, func() string { return "the page to show a replica set without workers" })
	_, body = get(t, statuspage.New(w.admin("not yet")), "/")
	assert.Contains(t, body, "No worker of this replica set has run yet.")
}

// The assets are kept by browsers under the address that the page gives them, and nothing else is served.
func TestAssetsOfThePage(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	page := statuspage.New(w.admin("set"))
	_, body := get(t, page, "/")
	addresses := regexp.MustCompile(`"\?(asset=[^"]*)"`).FindAllStringSubmatch(body, -1)
	assert.Len(t, addresses, 3)
	for _, address := range addresses {
		answer := ask(t, page, http.MethodGet, "/?"+html.UnescapeString(address[1]), nil)
		assert.Equal(t, http.StatusOK, answer.Code)
		assert.Contains(t, answer.Header().Get("Cache-Control"), "immutable")
		assert.NotEmpty(t, answer.Body.String())
	}
	status, _ := get(t, page, "/?asset=../doc.go")
	assert.Equal(t, http.StatusNotFound, status)
	assert.Equal(t, http.StatusMethodNotAllowed, ask(t, page, http.MethodDelete, "/", nil).Code)
	assert.Panics(t, func() { statuspage.New(nil) })
}

// queries counts statements.
type queries struct{ atomic.Int64 }

func (q *queries) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	q.Add(1)
	return ctx
}
func (*queries) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// counted counts the statements of the application from now on.
func (w *world) counted() *queries {
	w.t.Helper()
	config := w.db.Config()
	count := &queries{}
	config.ConnConfig.Tracer = count
	db, err := pgxpool.NewWithConfig(w.t.Context(), config)
	require.NoError(w.t, err)
	w.t.Cleanup(db.Close)
	w.workers = db
	return count
}

// A hundred open pages cost the database what one costs.
func TestAHundredWhoWatchCostOneLook(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	count := w.counted()
	a := w.admin("set")
	page := func() http.Handler { return statuspage.New(a, statuspage.WithInterval(time.Hour)) }
	get(t, page(), "/") // finds the tables
	cost := func(of http.Handler, times int) int64 {
		before := count.Load()
		var all sync.WaitGroup
		for range times {
			all.Go(func() {
				r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/?fragment", nil)
				answer := httptest.NewRecorder()
				of.ServeHTTP(answer, r)
				assert.Equal(t, http.StatusOK, answer.Code)
			})
		}
		all.Wait()
		return count.Load() - before
	}
	one := cost(page(), 1)
	assert.Positive(t, one)
	crowded := page()
	assert.Equal(t, one, cost(crowded, 100))
	assert.Zero(t, cost(crowded, 100))
}

// The default is reading without payloads. Who may do nothing sees nothing, and nobody acts who may only read.
func TestAccessToThePage(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 1)
	w.exec(`UPDATE events SET payload = '{"name":"Ada"}'`)
	r := start(t, w.orchestrator("set", parkAtOnce), recorder{name: "p", before: poisoned(errBad, 1)})
	w.await("1", "SELECT letters FROM orchestrator_parked_aggregates")
	a := w.admin("set")
	pause := url.Values{"do": {"pause"}, "projection": {"p"}, "reason": {"x"}}
	for name, tt := range map[string]struct {
		page        http.Handler
		reads, acts bool
		payload     string
	}{
		"default": {page: statuspage.New(a), reads: true, payload: "You may not see payloads."},
		"nil":     {page: statuspage.New(a, statuspage.WithAccess(nil))},
		"nothing": {page: granting(a, statuspage.Access{Payloads: statuspage.FullPayloads, Actor: "x"})},
		"masked":  {page: granting(a, statuspage.Access{Read: true, Payloads: statuspage.MaskedPayloads}), reads: true, payload: `"name": "text"`},
		"full":    {page: granting(a, statuspage.Access{Read: true, Payloads: statuspage.FullPayloads}), reads: true, payload: `"name": "Ada"`},
		"acting":  {page: granting(a, statuspage.Access{Act: true}), reads: true, acts: true, payload: "You may not see payloads."},
	} {
		status := map[bool]int{true: http.StatusOK, false: http.StatusForbidden}
		for target, may := range map[string]bool{"/": tt.reads, "/?fragment": tt.reads, "/?letters&projection=p": tt.reads, "/?asset=style": tt.reads, "/?ask=pause&projection=p": tt.acts} {
			got, body := get(t, tt.page, target)
			assert.Equal(t, status[may], got, "%s: %s", name, target)
			assert.Equal(t, tt.acts && (target == "/" || target == "/?fragment"), strings.Contains(body, `href="?ask=pause`), "%s: %s", name, target)
			assert.NotContains(t, body, "Ada")
		}
		_, body := get(t, tt.page, "/?letters&projection=p&position=1")
		body = html.UnescapeString(body)
		assert.Contains(t, body, tt.payload, name)
		assert.Equal(t, name == "full", strings.Contains(body, "Ada"), name)
		before := w.value("SELECT count(*) FROM orchestrator_operations")
		answer := ask(t, tt.page, http.MethodPost, "/", pause)
		assert.Equal(t, map[bool]int{true: http.StatusSeeOther, false: http.StatusForbidden}[tt.acts], answer.Code, name)
		assert.Equal(t, !tt.acts, before == w.value("SELECT count(*) FROM orchestrator_operations"), name)
	}
	full := granting(a, statuspage.Access{Read: true, Payloads: statuspage.FullPayloads})
	status, _ := get(t, full, "/?letters&projection=p&position=2")
	assert.Equal(t, http.StatusNotFound, status, "only events that failed are shown")
	w.exec("DELETE FROM events")
	_, body := get(t, full, "/?letters&projection=p&position=1")
	assert.Contains(t, body, "The event is not there any more.")
	require.NoError(t, r.stop())
}

// Actions are recorded with who did them and why, and are refused without a reason, from another site, and where they cannot be done.
func TestActionsOfThePage(t *testing.T) {
	w := newWorld(t)
	var broken atomic.Bool
	broken.Store(true)
	w.appendInTurn(2, "ada", "grace")
	r := start(t, w.orchestrator("set", parkAtOnce, orchestrator.WithWorkerName("w7")), recorder{name: "p", before: breakable(func(e es.PersistedEvent) error {
		if broken.Load() && e.AggregateVersion == 1 {
			return errBad
		}
		return nil
	})})
	w.await("4", "SELECT sum(letters)::int FROM orchestrator_parked_aggregates")
	page := granting(w.admin("set"), statuspage.Access{Act: true, Actor: "grace@ops"})
	group := w.value("SELECT DISTINCT lpad(to_hex(hashtextextended(error_kind || chr(10) || error_frame, 0)), 16, '0') FROM orchestrator_dead_letters WHERE attempts > 0")
	do := func(want int, fields ...string) string {
		t.Helper()
		form := url.Values{}
		for _, f := range fields {
			name, value, _ := strings.Cut(f, "=")
			form.Set(name, value)
		}
		before := w.value("SELECT count(*) FROM orchestrator_operations")
		answer := ask(t, page, http.MethodPost, "/below/any/path", form)
		require.Equal(t, want, answer.Code, "%v: %s", fields, answer.Body)
		if want == http.StatusSeeOther {
			assert.Equal(t, "?done="+form.Get("do"), answer.Header().Get("Location"))
			status, body := get(t, page, "/below/any/path"+answer.Header().Get("Location"))
			assert.Equal(t, http.StatusOK, status)
			assert.Contains(t, body, `class="notice done"`)
		} else {
			assert.Equal(t, before, w.value("SELECT count(*) FROM orchestrator_operations"))
		}
		return html.UnescapeString(answer.Body.String())
	}
	assert.Contains(t, do(http.StatusBadRequest, "do=pause", "projection=p", "reason= "), "A reason must be given")
	assert.Contains(t, do(http.StatusBadRequest, "do=pause", "reason=why"), "The field projection must not be empty.")
	do(http.StatusBadRequest, "do=nothing", "reason=why")
	assert.Contains(t, do(http.StatusConflict, "do=pause", "projection=p", "reason=why", "for=-1h"), "above 0")
	assert.Contains(t, do(http.StatusConflict, "do=pause", "projection=q", "reason=why"), "no worker has run it")
	assert.Contains(t, do(http.StatusConflict, "do=drain", "worker=w7", "reason=why"), "no other worker")
	do(http.StatusBadRequest, "do=retry", "projection=p", "group=", "reason=why")
	assert.Contains(t, do(http.StatusBadRequest, "do=discard", "projection=p", "group="+group, "reason=why"), "must be confirmed")
	do(http.StatusBadRequest, "do=pause", "projection=p", "reason="+strings.Repeat("x", 65<<10))

	other := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader("do=pause&projection=p&reason=why"))
	other.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	other.Header.Set("Sec-Fetch-Site", "cross-site")
	answer := httptest.NewRecorder()
	page.ServeHTTP(answer, other)
	assert.Equal(t, http.StatusForbidden, answer.Code)
	assert.Equal(t, "0", w.value("SELECT count(*) FROM orchestrator_operations"))

	do(http.StatusSeeOther, "do=pause", "projection=p", "reason=a reason", "for=1h")
	_, body := get(t, page, "/")
	assert.Contains(t, body, "a reason")
	do(http.StatusSeeOther, "do=resume", "projection=p", "reason=done with it")
	broken.Store(false)
	do(http.StatusSeeOther, "do=retry", "projection=p", "group="+group, "reason=repaired")
	w.awaitHandled("p", 4)
	broken.Store(true)
	w.append("alan", 1)
	w.await("1", "SELECT sum(letters)::int FROM orchestrator_parked_aggregates")
	do(http.StatusSeeOther, "do=discard", "projection=p", "group="+group, "reason=not needed", "sure=yes")
	second := start(t, w.orchestrator("set", orchestrator.WithWorkerName("w8")), recorder{name: "p"})
	w.awaitRunning("set", 2)
	do(http.StatusSeeOther, "do=drain", "worker=w7", "reason=its host goes")
	do(http.StatusSeeOther, "do=undrain", "worker=w7", "reason=it stays")
	assert.Equal(t, "pause a reason, resume done with it, retry repaired, discard not needed, drain its host goes, undrain it stays", w.value("SELECT kind, reason FROM orchestrator_operations ORDER BY id"))
	assert.Equal(t, "grace@ops", w.value("SELECT DISTINCT actor FROM orchestrator_operations"))
	require.NoError(t, second.stop())
	require.NoError(t, r.stop())
}

// While the database cannot be read the page says why, with what was seen last.
func TestThePageSaysWhyItCannotRead(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	r := start(t, w.orchestrator("set"), recorder{name: "users"})
	w.awaitRunning("set", 1)
	require.NoError(t, r.stop())
	page := granting(w.admin("set"), statuspage.Access{Read: true})
	status, _ := get(t, page, "/")
	require.Equal(t, http.StatusOK, status)
	w.exec("ALTER TABLE orchestrator_generations RENAME TO elsewhere")
	eventually(t, func() bool {
		status, _ = get(t, page, "/")
		return status == http.StatusServiceUnavailable
	}, func() string { return "the page to notice" })
	for _, target := range []string{"/", "/?fragment"} {
		_, body := get(t, page, target)
		assert.Contains(t, body, "The database could not be read")
		assert.Contains(t, html.UnescapeString(body), `orchestrator_generations" does not exist`)
		assert.Contains(t, body, "What follows is as it was")
		assert.Contains(t, body, `<p class="verdict fault">`)
		assert.NotContains(t, body, "All is well")
		assert.Contains(t, body, "users")
	}
	status, body := get(t, granting(w.admin("set"), statuspage.Access{Read: true}), "/")
	assert.Equal(t, http.StatusServiceUnavailable, status)
	assert.Contains(t, body, "Nothing is known yet.")
	w.exec("ALTER TABLE elsewhere RENAME TO orchestrator_generations")
	eventually(t, func() bool {
		status, _ = get(t, page, "/")
		return status == http.StatusOK
	}, func() string { return "the page to notice" })
}

// A snapshot says who holds projections and workers back, and why. A program acts for several people.
func TestASnapshotSaysWhoHoldsBack(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"w7", "w8"} {
		r := start(t, w.orchestrator("set", orchestrator.WithWorkerName(name)), recorder{name: "p"}, recorder{name: "q"})
		t.Cleanup(func() { _ = r.stop() })
	}
	w.awaitRunning("set", 2)
	a := w.admin("set")
	grace, err := a.As("grace")
	require.NoError(t, err)
	_, err = a.As("")
	require.ErrorContains(t, err, "the actor must not be empty")
	require.NoError(t, a.Pause(t.Context(), admin.Target{}, "everything", time.Time{}))
	until := time.Now().Add(time.Hour).Truncate(time.Microsecond)
	require.NoError(t, grace.Pause(t.Context(), admin.Target{Projection: "q"}, "only this", until))
	require.NoError(t, grace.Drain(w.patiently(), "w7", "its host goes"))
	s := w.snapshot(a)
	require.Len(t, s.Holds, 2)
	assert.Equal(t, admin.Hold{Projection: "p", Actor: "anna", Reason: "everything", Since: s.Holds[0].Since}, s.Holds[0])
	assert.Equal(t, []any{"q", "grace", "only this", until.UTC()}, []any{s.Holds[1].Projection, s.Holds[1].Actor, s.Holds[1].Reason, s.Holds[1].Until.UTC()})
	require.Len(t, s.Drains, 1)
	assert.Equal(t, []string{"w7", "grace", "its host goes"}, []string{s.Drains[0].Worker, s.Drains[0].Actor, s.Drains[0].Reason})
	require.NoError(t, a.Resume(t.Context(), admin.Target{}, ""))
	assert.Empty(t, w.snapshot(a).Holds)

	w.append("ada", 1)
	event, err := a.Event(t.Context(), 1)
	require.NoError(t, err)
	assert.Equal(t, []any{int64(1), "ada", "{}"}, []any{event.GlobalPosition, event.AggregateID, string(event.Payload)})
	for _, position := range []int64{-1, 0, 2} {
		_, err = a.Event(t.Context(), position)
		require.ErrorIs(t, err, admin.ErrNoEvent)
	}
}

// What cannot be is refused with a status of its own: an address that is no text, a group that is not there any more, a database that is away.
func TestWhatThePageAnswersToWhatCannotBe(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	require.NoError(t, start(t, w.orchestrator("set"), recorder{name: "p"}).stop())
	page := granting(w.admin("set"), statuspage.Access{Act: true, Actor: "grace"})
	for _, address := range []string{"/?letters&projection=p&group=%ff", "/?ask=pause&projection=%00", "/?done=%ff"} {
		status, _ := get(t, page, address)
		assert.Equal(t, http.StatusBadRequest, status, address)
	}
	for _, name := range []string{"retry", "discard"} {
		answer := ask(t, page, http.MethodPost, "/", url.Values{"do": {name}, "projection": {"p"}, "group": {"0123456789abcdef"}, "reason": {"why"}, "sure": {"yes"}})
		assert.Equal(t, http.StatusNotFound, answer.Code, name)
		assert.Contains(t, answer.Body.String(), "no event of this group is parked")
	}
	nowhere, err := pgxpool.New(t.Context(), "postgres://nobody@127.0.0.1:1/nowhere")
	require.NoError(t, err)
	t.Cleanup(nowhere.Close)
	away, err := admin.New(nowhere, w.store, "set")
	require.NoError(t, err)
	answer := ask(t, granting(away, statuspage.Access{Act: true, Actor: "grace"}), http.MethodPost, "/", url.Values{"do": {"pause"}, "projection": {"p"}, "reason": {"why"}})
	assert.Equal(t, http.StatusServiceUnavailable, answer.Code)
	assert.Contains(t, answer.Body.String(), "the database is away")
}
