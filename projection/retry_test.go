package projection

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"

	"github.com/getpup/pupsourcing-orchestrator/v2/horizon"
)

func TestBackoff(t *testing.T) {
	var b backoff
	var delays []time.Duration
	for range 8 {
		delays = append(delays, b.next())
	}
	ms := time.Millisecond
	assert.Equal(t, []time.Duration{100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 5000 * ms, 5000 * ms}, delays)
	b.reset()
	assert.Equal(t, 100*ms, b.next())
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		wait(t.Context(), time.Minute)
		assert.Equal(t, time.Minute, time.Since(start))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wait(ctx, time.Minute)
		assert.Equal(t, time.Minute+time.Second, time.Since(start))
	})
}

func TestMendable(t *testing.T) {
	server := func(code string) error { return fmt.Errorf("reading: %w", &pgconn.PgError{Code: code}) }
	tests := map[string]struct {
		err  error
		want bool
	}{
		"administrator's shutdown":   {server("57P01"), true},
		"starting up":                {server("57P03"), true},
		"connection failure":         {server("08006"), true},
		"too many connections":       {server("53300"), true},
		"no such table":              {server("42P01"), false},
		"no permission":              {server("42501"), false},
		"a constraint":               {server("23505"), false},
		"cut off":                    {fmt.Errorf("reading: %w", io.ErrUnexpectedEOF), true},
		"lost while handling":        {&lostError{errors.New("conn closed")}, true},
		"an event failed":            {&StoppedError{Err: server("57P01")}, false},
		"positions went back":        {&horizon.RewoundError{Reached: 5, LastValue: 3}, true},
		"a checkpoint is ahead":      {&horizon.RewoundError{Reached: 5, LastValue: 3, Floor: true}, false},
		"sessions come and go":       {fmt.Errorf("probing: %w", horizon.ErrUnstable), true},
		"something else":             {errors.New("cannot scan"), false},
		"a code that is not a code":  {server("08"), false},
		"refused with wrong secrets": {server("28P01"), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tt.want, mendable(tt.err)) })
	}
}
