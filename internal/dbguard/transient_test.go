package dbguard_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
)

func TestMayPass(t *testing.T) {
	t.Parallel()
	final := errors.New("a person must act")
	for want, errs := range map[bool][]error{
		true:  {errors.New("a hook failed"), io.EOF, context.DeadlineExceeded, &pgconn.PgError{Code: "57P03"}, &pgconn.PgError{Code: "25006"}},
		false: {final, fmt.Errorf("checking: %w", final), &pgconn.PgError{Code: "42501"}, dbfault.Configuration(errors.New("two tables"))},
	} {
		for _, err := range errs {
			assert.Equal(t, want, dbguard.MayPass(err, final), err)
		}
	}
}

func TestOnlyWhatWasAnsweredIsAFinding(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	missing := errors.New("there is no such table")
	assert.True(t, dbfault.IsConfiguration(dbguard.Finding(t.Context(), missing)))
	assert.False(t, dbfault.IsConfiguration(dbguard.Finding(ended, missing)))
	for _, err := range []error{io.EOF, &pgconn.PgError{Code: "57P03"}, &pgconn.PgError{Code: "25006"}} {
		assert.Equal(t, err, dbguard.Finding(t.Context(), err))
	}
}
