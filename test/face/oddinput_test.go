package face

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// Whatever an error's text is, its event is parked, and the text is kept as far as a person reads it.
func TestErrorsOfAnyText(t *testing.T) {
	directOnly(t)
	for name, tt := range map[string]struct{ text, kept string }{
		"no UTF-8":  {"caf\xe9 \xff\x00 closed", "closed"},
		"10 MiB":    {"begins " + strings.Repeat("é", 5<<20), "begins é"},
		"nothing":   {"", ""},
		"one quote": {`it's {"a": $1} \ %s`, `it's {"a": $1} \ %s`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.appendInTurn(2, "ada", "grace")
			r := start(t, w.orchestrator("set", parkAtOnce), recorder{name: "p", before: poisoned(errors.New(tt.text), 1)})
			w.awaitHandled("p", 2)
			w.await("2", "SELECT letters FROM orchestrator_parked_aggregates WHERE aggregate_id = 'ada'")
			for letter, err := range w.admin("set").DeadLetters(t.Context(), admin.Filter{}) {
				require.NoError(t, err)
				if letter.Position == 1 {
					assert.Contains(t, letter.Error, tt.kept)
					assert.True(t, utf8.ValidString(letter.Error))
					assert.Less(t, len(letter.Error), 20_000)
				}
			}
			groups, err := w.admin("set").FailureGroups(t.Context(), admin.Filter{})
			require.NoError(t, err)
			assert.Len(t, groups, 1)
			require.NoError(t, r.stop())
		})
	}
}

// An event of 100 MiB, which another writer has stored, is parked and retried like any other, and holds up nobody.
func TestAParkedEventOf100MiB(t *testing.T) {
	directOnly(t)
	for kind, of := range map[string]func(recorder) projection.Projection{
		"one by one": func(r recorder) projection.Projection { return r },
		"batches":    func(r recorder) projection.Projection { return inBatches{r} },
	} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			w.troubled = true // on a busy machine the event takes longer than the first answer may, and is read again with more time
			w.appendInTurn(2, "ada", "grace")
			w.exec("UPDATE events SET payload = convert_to(repeat('x', 100 << 20), 'UTF8'), metadata = NULL WHERE global_position = 1")
			var broken atomic.Bool
			broken.Store(true)
			fail := breakable(func(e es.PersistedEvent) error {
				if len(e.Payload) == 100<<20 && broken.Load() {
					return errBad
				}
				return nil
			})
			r := start(t, w.orchestrator("set", parkAtOnce), of(recorder{name: "p", before: fail}))
			w.awaitHandled("p", 2)
			w.await("2", "SELECT letters FROM orchestrator_parked_aggregates WHERE aggregate_id = 'ada'")
			broken.Store(false)
			result, err := w.admin("set").Retry(w.patiently(), admin.Filter{}, "")
			require.NoError(t, err)
			assert.EqualValues(t, 2, result.Events)
			w.awaitHandled("p", 4)
			require.NoError(t, r.stop())
			w.requireOrder("p")
		})
	}
}
