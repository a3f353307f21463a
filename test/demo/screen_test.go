package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestATerminalsTableIsRefreshedInPlace(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	s := newScreen(&out, true)
	s.draw(time.Time{}, []string{"one", "two"}, "status")
	assert.Equal(t, wrapOff+"one\ntwo\n"+wrapOn, out.String())

	out.Reset()
	s.draw(time.Time{}, []string{"three"}, "status")
	assert.Equal(t, "\x1b[2A"+clearBelow+wrapOff+"three\n"+wrapOn, out.String())

	out.Reset()
	s.say("happened")
	s.say("again")
	assert.Equal(t, "\x1b[1A"+clearBelow+"happened\nagain\n", out.String(), "changes replace the table and stay")
}

func TestElsewhereAStatusLineIsWrittenNowAndThen(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	s := newScreen(&out, false)
	begin := time.Unix(1000, 0)
	s.draw(begin, []string{"table"}, "first")
	s.say("happened")
	s.draw(begin.Add(plainInterval-time.Millisecond), []string{"table"}, "too early")
	s.draw(begin.Add(plainInterval), []string{"table"}, "second")
	assert.Equal(t, "first\nhappened\nsecond\n", out.String())
}
