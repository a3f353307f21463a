package handling

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// shop is a projection whose handler does what it is told.
type shop struct{ do func() error }

func (*shop) Name() string                                              { return "shop" }
func (s *shop) Handle(context.Context, pgx.Tx, es.PersistedEvent) error { return s.do() }

type stockError struct{ article int }

func (e *stockError) Error() string { return fmt.Sprint("no ", e.article) }

func mustFind(m map[string]*shop, name string) string { return m[name].Name() + m[name].do().Error() }

func TestAlike(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		do          func() error
		kind, frame string
	}{
		"type": {func() error { return fmt.Errorf("event 7: %w", &stockError{7}) }, "*handling.stockError", "(*handling.shop).Handle"},
		"text": {func() error { return fmt.Errorf("article 4711 of order 7c1af3 is %q, not 'red'", "blue") }, "article … of order … is …, not …", "(*handling.shop).Handle"},
		"uuid": {func() error { return errors.New("no user 01a2286c-e1ef-758d-aabf-e8f7eaaca726") }, "no user …", "(*handling.shop).Handle"},
		"constraint": {func() error {
			return fmt.Errorf("saving: %w", &pgconn.PgError{Code: "23505", ConstraintName: "users_email_key", Message: "x"})
		}, "SQLSTATE 23505, constraint users_email_key", "(*handling.shop).Handle"},
		"statement": {func() error { return &pgconn.PgError{Code: "42601"} }, "SQLSTATE 42601", "(*handling.shop).Handle"},
		"joined": {func() error {
			return errors.Join(nil, &fs.PathError{Op: "open", Path: "x", Err: fs.ErrNotExist}, errors.New("more"))
		}, "file does not exist", "(*handling.shop).Handle"},
		"timeout":     {func() error { return &TimeoutError{time.Second} }, "timeout", "(*handling.shop).Handle"},
		"panic":       {func() error { panic("shelf 12 is empty") }, "panic: shelf … is empty", "github.com/getpup/pupsourcing-orchestrator/v2/internal/handling.TestAlike.func"},
		"nil pointer": {func() error { return errors.New(mustFind(nil, "x")) }, "panic: runtime error: invalid memory address or nil pointer dereference", "github.com/getpup/pupsourcing-orchestrator/v2/internal/handling.mustFind"},
		"library":     {func() error { _ = strings.Repeat("x", -1); return nil }, "panic: strings: negative Repeat count", "github.com/getpup/pupsourcing-orchestrator/v2/internal/handling.TestAlike.func"},
		"long":        {func() error { return errors.New(strings.Repeat("é", 5000)) }, strings.Repeat("é", 100) + "…", "(*handling.shop).Handle"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &shop{tt.do}
			_, err := Handle(t.Context(), s, nil, List{{}}, nil)
			kind, frame := Alike(err, s)
			assert.Equal(t, tt.kind, kind)
			assert.True(t, strings.HasPrefix(frame, tt.frame), frame)
		})
	}
}

// The same failures of other events are one group.
func TestAlikeForOtherEvents(t *testing.T) {
	t.Parallel()
	kinds := map[string]bool{}
	for i := range 20 {
		kind, _ := Alike(fmt.Errorf("event %d of %q at 0x%x: %w", i, fmt.Sprint("user ", i), i, errors.New(fmt.Sprint("article ", i, " is missing"))), &shop{})
		kinds[kind] = true
	}
	assert.Equal(t, map[string]bool{"article … is missing": true}, kinds)
}

// shelf is a projection that uses database/sql.
type shelf struct{ shop }

func (*shelf) HandleSQL(context.Context, *sql.Tx, es.PersistedEvent) error { return nil }

// shelves handles batches so.
type shelves struct{ shop }

func (*shelves) HandleSQLBatch(context.Context, *sql.Tx, []es.PersistedEvent) error { return nil }

// around wraps.
type around struct{ Projection }

func (a around) Unwrap() Projection { return a.Projection }

// The frame is the application's method that was called, not what is between.
func TestAlikeNamesTheApplicationsMethod(t *testing.T) {
	t.Parallel()
	for want, p := range map[string]Projection{
		"(*handling.shelf).HandleSQL":        &shelf{},
		"(*handling.shelves).HandleSQLBatch": around{&shelves{}},
		"handling.around.Handle":             around{&shop{}},
	} {
		d, err := Describe[Wrapper[Projection], errorPolicied](p)
		require.NoError(t, err)
		_, frame := Alike(errors.New("x"), d.Projection)
		assert.Equal(t, want, frame)
	}
}

type errorPolicied interface{ ErrorPolicy() string }
