package statuspage_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/statuspage"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// The page is mounted beside the application's own handlers. Signed-in users may act, under their own names. Everybody else may only look.
func ExampleNew() {
	db, end := pgtest.ForExample() // a *pgxpool.Pool
	defer end()
	store := eventstore.New(eventstore.WithLogger(nil))
	must(eventstore.RunMigrations(db, eventstore.WithLogger(nil)))
	must(orchestrator.RunMigrations(db))
	a, err := admin.New(db, store, "main-projections")
	must(err)

	page := statuspage.New(a, statuspage.WithAccess(func(r *http.Request) statuspage.Access {
		user, _, signedIn := r.BasicAuth() // or your own session; the password is checked elsewhere
		return statuspage.Access{Read: true, Act: signedIn, Actor: user}
	}))
	mux := http.NewServeMux()
	mux.Handle("/status/", page)

	answer := httptest.NewRecorder()
	mux.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/status/", http.NoBody))
	fmt.Println(answer.Code, strings.Contains(answer.Body.String(), "main-projections"))
	// Output: 200 true
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
