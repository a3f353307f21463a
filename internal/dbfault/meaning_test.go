package dbfault_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
)

func answer(code string) error {
	return fmt.Errorf("asking: %w", &pgconn.PgError{Code: code, Message: "text"})
}

func TestConfigurationKeepsTheError(t *testing.T) {
	cause := errors.New("grant it")
	marked := fmt.Errorf("starting: %w", dbfault.Configuration(cause))
	require.EqualError(t, marked, "starting: grant it")
	require.ErrorIs(t, marked, cause)
	require.ErrorIs(t, marked, dbfault.ErrConfiguration)
	require.NoError(t, dbfault.Configuration(nil))
}

func TestIsConfiguration(t *testing.T) {
	for code, want := range map[string]bool{
		"28P01": true, "3D000": true, "3F000": true, "42P01": true, "42501": true,
		"53300": false, "57P03": false, "40001": false, "25006": false, "XX000": false, "2": false, "": false,
	} {
		assert.Equal(t, want, dbfault.IsConfiguration(answer(code)), code)
	}
	assert.True(t, dbfault.IsConfiguration(dbfault.Configuration(errors.New("no"))))
	for _, unknown := range []error{nil, errors.New("the vault is sealed"), io.EOF, context.DeadlineExceeded} {
		assert.False(t, dbfault.IsConfiguration(unknown), unknown)
	}
}

func TestIsOfServer(t *testing.T) {
	for code, want := range map[string]bool{
		"08006": true, "40001": true, "53300": true, "57014": true, "58030": true, "XX000": true, "": true, "5": true,
		"23505": false, "42P01": false, "25P03": false,
	} {
		assert.Equal(t, want, dbfault.IsOfServer(answer(code)), code)
	}
	assert.False(t, dbfault.IsOfServer(io.EOF), "no answer")
	assert.False(t, dbfault.IsOfServer(nil))
}

func TestIsUnavailable(t *testing.T) {
	for code, want := range map[string]bool{
		"08006": true, "57P01": true, "57P02": true, "57P03": true, "57P05": true, "25P03": true, "53300": true,
		"57014": false, "23505": false, "": false,
	} {
		assert.Equal(t, want, dbfault.IsUnavailable(answer(code)), code)
	}
	assert.True(t, dbfault.IsUnavailable(fmt.Errorf("reading: %w", io.ErrUnexpectedEOF)))
	assert.False(t, dbfault.IsUnavailable(errors.New("something")))
}

func TestIsDatabaseLost(t *testing.T) {
	for code, want := range map[string]bool{
		"08006": true, "57P01": true, "53300": true, "53100": true, "58030": true,
		"53200": false, "53400": false, "57014": false, "23505": false, "0A000": false, "": false,
	} {
		assert.Equal(t, want, dbfault.IsDatabaseLost(answer(code)), code)
	}
	assert.True(t, dbfault.IsDatabaseLost(fmt.Errorf("handling: %w", &pgconn.ConnectError{})))
	assert.False(t, dbfault.IsDatabaseLost(io.EOF), "it may be another system's")
}

func TestIsRefused(t *testing.T) {
	for code, want := range map[string]bool{
		"42501": true, "42P01": true, "55P03": true, "57014": true, "23503": true, "57P01": false, "08006": false, "25P03": false, "": false,
	} {
		assert.Equal(t, want, dbfault.IsRefused(answer(code)), code)
	}
	assert.False(t, dbfault.IsRefused(io.EOF))
	assert.False(t, dbfault.IsRefused(nil))
}
