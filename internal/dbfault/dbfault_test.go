package dbfault_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
)

func TestCode(t *testing.T) {
	assert.Equal(t, "40P01", dbfault.Code(fmt.Errorf("waiting: %w", &pgconn.PgError{Code: "40P01"})))
	assert.Empty(t, dbfault.Code(errors.New("40P01")))
	assert.Empty(t, dbfault.Code(nil))
	none := fmt.Errorf("saving: %w", (*pgconn.PgError)(nil))
	assert.Empty(t, dbfault.Code(none))
	assert.False(t, dbfault.IsOfServer(none) || dbfault.IsUnavailable(none) || dbfault.IsDatabaseLost(none))
}

func TestHasClass(t *testing.T) {
	assert.True(t, dbfault.HasClass(&pgconn.PgError{Code: "57P01"}, "08", "57"))
	assert.False(t, dbfault.HasClass(&pgconn.PgError{Code: "42501"}, "08", "57"))
	assert.False(t, dbfault.HasClass(&pgconn.PgError{}, "08"), "an answer without a SQLSTATE")
	assert.False(t, dbfault.HasClass(errors.New("57P01"), "57"))
}

func TestIsConflict(t *testing.T) {
	for code, conflict := range map[string]bool{"40001": true, "40P01": true, "40002": false, "23505": false, "": false} {
		assert.Equal(t, conflict, dbfault.IsConflict(&pgconn.PgError{Code: code}), code)
	}
}

func TestIsCutShort(t *testing.T) {
	for code, short := range map[string]bool{"57014": true, "25P04": true, "25P03": false, "57P01": false, "": false} {
		assert.Equal(t, short, dbfault.IsCutShort(&pgconn.PgError{Code: code}), code)
	}
}

func TestBackoff(t *testing.T) {
	b := dbfault.Backoff{First: 10 * time.Millisecond, Max: 50 * time.Millisecond}
	assert.Equal(t, time.Second, dbfault.Backoff{First: time.Minute, Max: time.Second}.Ceiling(1))
	assert.Equal(t, b.Max, b.Ceiling(1_000_000))
	for failures, milliseconds := range map[int]int{1: 10, 2: 20, 3: 40, 4: 50, 100: 50} {
		ceiling := time.Duration(milliseconds) * time.Millisecond
		assert.Equal(t, ceiling, b.Ceiling(failures))
		for range 50 {
			after := b.After(failures)
			assert.GreaterOrEqual(t, after, ceiling/2)
			assert.LessOrEqual(t, after, ceiling)
		}
	}
}
