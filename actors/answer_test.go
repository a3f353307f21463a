package actors

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/wire"
)

func TestLostAnswerToCommitIsFoundOut(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := &recorder{name: "p"}
	between, pool := newWire(f)
	r := f.start(func(c *Config) { c.Pool, c.Batch.Size = pool, 5 }, p)
	want := f.append("Order", 7)
	f.awaitHandled("p", want)
	for range 3 {
		lost := between.LoseAnswer(nil, wire.Committed) // which is asked for by a prepared statement's name
		want = append(want, f.append("Order", 7)...)
		f.awaitHandled("p", want)
		<-lost
	}
	for _, position := range want {
		assert.Equal(t, 1, p.attempts(position), "position %d", position)
	}
	assert.Equal(t, want, f.handled("p"))
	r.log.Await(t, "the database failed")
}
