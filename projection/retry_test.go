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

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/horizon"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/pooler"
)

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

func TestTransient(t *testing.T) {
	server := func(code string) error { return fmt.Errorf("reading: %w", &pgconn.PgError{Code: code}) }
	standby := &pgconn.PgError{Code: "42704", Message: `unrecognized configuration parameter "pupsourcing.server_is_a_standby"`}
	tests := map[string]struct {
		err  error
		want bool
	}{
		"administrator's shutdown":          {server("57P01"), true},
		"starting up":                       {server("57P03"), true},
		"connection failure":                {server("08006"), true},
		"too many connections":              {server("53300"), true},
		"idle in transaction":               {server("25P03"), true},
		"a transaction too long":            {server("25P04"), true},
		"idle session":                      {server("57P05"), true},
		"a statement too long":              {server("57014"), true},
		"a lock that was not to be had":     {server("55P03"), true},
		"a deadlock":                        {server("40P01"), true},
		"a serialization failure":           {server("40001"), true},
		"no such table":                     {server("42P01"), false},
		"no permission":                     {server("42501"), false},
		"refused with wrong secrets":        {server("28P01"), false},
		"a code that is not a code":         {server("0"), true},
		"a standby":                         {fmt.Errorf("reading: %w", standby), true},
		"a lost statement while handling":   {&passingError{server("42P01")}, true},
		"cut off":                           {fmt.Errorf("reading: %w", io.ErrUnexpectedEOF), true},
		"a deadline":                        {fmt.Errorf("reading: %w", context.DeadlineExceeded), true},
		"something else":                    {errors.New("a hook of the pool failed"), true},
		"an event failed":                   {&StoppedError{Err: server("57P01")}, false},
		"an event failed by a lost session": {&StoppedError{Err: &passingError{server("57P01")}}, false},
		"positions went back":               {&horizon.RegressionError{Reached: 5, LastValue: 3}, true},
		"a checkpoint is ahead":             {&horizon.RegressionError{Reached: 5, LastValue: 3, Floor: true}, false},
		"sessions come and go":              {fmt.Errorf("probing: %w", horizon.ErrUnstable), true},
		"the checkpoint is gone":            {fmt.Errorf("reading: %w", ErrCheckpointGone), false},
		"checkpoints contradict":            {fmt.Errorf("reading: %w", ErrCheckpointsContradict), false},
		"a handler hangs":                   {fmt.Errorf("handling: %w", ErrHandlerRunning), false},
		"a pooler loses statements":         {fmt.Errorf("checking: %w", pooler.ErrNoPreparedStatements), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tt.want, transient(tt.err)) })
	}
}
