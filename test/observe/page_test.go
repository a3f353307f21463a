package observe

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/statuspage"
)

// everything is what somebody may do who may do everything.
func everything(*http.Request) statuspage.Access {
	return statuspage.Access{Read: true, Act: true, Payloads: statuspage.MaskedPayloads, Actor: "grace@ops"}
}

// looks are the windows that the page is seen in.
var looks = []struct {
	name          string
	width, height int64
	scheme        string
}{
	{"desktop", 1280, 900, "light"}, {"desktop-dark", 1280, 900, "dark"}, {"phone", 390, 844, "light"}, {"phone-dark", 390, 844, "dark"},
}

// inspect looks at a page in all windows: axe-core finds nothing, nothing is wider than the window, and the console stays empty.
func (b *browser) inspect(name, address string) {
	b.t.Helper()
	for _, l := range looks {
		b.look(l.width, l.height, l.scheme)
		b.run(chromedp.Navigate(address))
		assert.Empty(b.t, b.violations(), "%s, %s", name, l.name)
		assert.LessOrEqual(b.t, evaluate[int64](b, "document.documentElement.scrollWidth"), l.width, "%s, %s", name, l.name)
		b.shoot(name + "-" + l.name)
	}
	assert.Empty(b.t, b.heard(), name)
}

// The page is readable in every scene: calm, while the generation changes, and with a dead worker, a parked aggregate and a stopped projection.
func TestThePageInABrowser(t *testing.T) {
	b := newBrowser(t)
	axeScript(t)
	s := newStage(t)
	address := s.serve(http.StripPrefix("/ops", statuspage.New(s.admin, statuspage.WithAccess(everything), statuspage.WithInterval(200*time.Millisecond)))) + "/ops/status"
	b.inspect("empty", address)

	for _, name := range []string{"worker-1", "worker-2", "worker-3"} {
		s.start(name, "orders", "invoices", "emails")
	}
	s.awaitRunning(3)
	b.run(chromedp.Navigate(address))
	for range 8 { // so that plots have something to show
		s.append(25)
	}
	s.await("0", "SELECT count(*) FROM orchestrator_checkpoints WHERE position < (SELECT max(global_position) FROM events)")
	b.inspect("calm", address)

	// A worker whose handler does not end holds up the next generation.
	s.exec("INSERT INTO faults (projection, aggregate_id, seconds) VALUES ('emails', 'order-3', 60)")
	s.append(25)
	s.await("1", "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid() AND state = 'active'")
	s.start("worker-4", "orders", "invoices", "emails")
	s.await("1", "SELECT count(*) FROM orchestrator_generations WHERE state = 'preparing'")
	b.inspect("change", address)
	s.exec("DELETE FROM faults")
	s.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()")
	s.awaitRunning(4)

	s.exec("INSERT INTO faults (projection, aggregate_id, error) VALUES ('orders', 'order-7', 'the address of \"Ada\" is too long: 300'), ('invoices', 'order-9', 'no tax rate for \"XX\"')")
	s.append(25)
	s.append(25)
	s.await("2", "SELECT sum(letters) FROM orchestrator_parked_aggregates")
	s.await("1", "SELECT count(DISTINCT stopped_at) FROM orchestrator_checkpoints")
	require.NoError(t, s.admin.Pause(t.Context(), admin.Target{Projection: "emails"}, "the mail server is being moved", time.Time{}))
	require.NoError(t, s.admin.Drain(t.Context(), "worker-4", "its host is to be replaced"))
	s.kill("worker-2")
	s.await("1", "SELECT count(*) FROM orchestrator_workers WHERE state = 'dead'")
	s.awaitRunning(3)
	s.append(25)
	b.inspect("trouble", address)
	b.inspect("letters", address+"?letters&projection=orders&position="+s.value("SELECT min(global_position) FROM orchestrator_parked_aggregates"))
	b.inspect("ask", address+"?ask=discard&projection=orders&group=1")
	b.run(chromedp.Navigate(address + "?letters&position=x"))
	assert.Empty(t, b.violations())
}

// Without JavaScript the page is whole, and loads itself.
func TestThePageWithoutScripts(t *testing.T) {
	b := newBrowser(t)
	s := newStage(t)
	s.start("worker-1", "orders")
	s.awaitRunning(1)
	b.run(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return err
	}), chromedp.Navigate(s.serve(statuspage.New(s.admin))), chromedp.WaitReady(chromedp.CSS("noscript > meta"))) // an element without scripts only
	page, err := chromedp.Run(b.ctx, chromedp.OuterHTML(chromedp.CSS("html")))
	require.NoError(t, err)
	for _, text := range []string{"All is well", "worker-1", `<meta http-equiv="refresh" content="10">`} {
		assert.Contains(t, page, text)
	}
}

// A person with a keyboard resumes a projection: the page that is open shows it without being loaded again.
func TestTheKeyboardIsEnough(t *testing.T) {
	b := newBrowser(t)
	const paused = chromedp.Search("//*[contains(@class, 'badge') and text() = 'paused']")
	s := newStage(t)
	s.start("worker-1", "orders")
	s.awaitRunning(1)
	address := s.serve(statuspage.New(s.admin, statuspage.WithAccess(everything), statuspage.WithInterval(100*time.Millisecond)))
	b.look(1280, 900, "light")
	b.run(chromedp.Navigate(address))
	for range 30 {
		if evaluate[string](b, "document.activeElement.textContent") == "Pause orders" {
			break
		}
		b.run(chromedp.KeyEvent(kb.Tab))
	}
	b.run(chromedp.KeyEvent(kb.Enter), chromedp.WaitVisible(chromedp.CSS("#reason")), chromedp.KeyEvent("a test of \"keys\""), chromedp.KeyEvent(kb.Enter), chromedp.WaitVisible(chromedp.CSS(".notice.done")))
	assert.Equal(t, `pause grace@ops a test of "keys"`, s.value("SELECT kind || ' ' || actor || ' ' || reason FROM orchestrator_operations"))
	b.run(chromedp.WaitVisible(paused))

	evaluate[bool](b, "window.loadedOnce = true")
	require.NoError(t, s.admin.Resume(t.Context(), admin.Target{Projection: "orders"}, ""))
	b.run(chromedp.WaitNotPresent(paused))
	assert.True(t, evaluate[bool](b, "window.loadedOnce"), "the script replaces what has changed")
	assert.Empty(t, b.heard())
}

// A person cancels an operation that no worker does.
func TestCancelInABrowser(t *testing.T) {
	b := newBrowser(t)
	s := newStage(t)
	s.start("worker-1", "orders")
	s.awaitRunning(1)
	s.exec("INSERT INTO faults (projection, aggregate_id, error) VALUES ('orders', 'order-1', 'bad')")
	s.append(2)
	s.await("1", "SELECT count(*) FROM orchestrator_parked_aggregates")
	require.NoError(t, s.workers["worker-1"].Terminate())
	s.await("stopped", "SELECT state FROM orchestrator_workers")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	result, err := s.admin.Retry(ctx, admin.Filter{}, "repaired")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	address := s.serve(statuspage.New(s.admin, statuspage.WithAccess(everything), statuspage.WithInterval(100*time.Millisecond)))
	b.inspect("cancel", address+fmt.Sprintf("?ask=cancel&operation=%d", result.Operation))
	const link = chromedp.Search("//a[starts-with(@href, '?ask=cancel')]")
	b.look(1280, 900, "light")
	b.run(chromedp.Navigate(address), chromedp.WaitVisible(link), chromedp.Click(link), chromedp.WaitVisible(chromedp.CSS("#reason")), chromedp.KeyEvent("not today"), chromedp.KeyEvent(kb.Enter),
		chromedp.WaitVisible(chromedp.CSS(".notice.done")), chromedp.WaitNotPresent(link))
	assert.Equal(t, "cancelled grace@ops not today", s.value("SELECT concat_ws(' ', state, result ->> 'cancelled_by', result ->> 'cancelled_because') FROM orchestrator_operations WHERE id = $1", result.Operation))
	assert.Empty(t, b.heard())
}
