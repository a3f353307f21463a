package pooler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrNoStartupParameters says that a pooler refuses a parameter that connections set as
// they start.
var ErrNoStartupParameters = errors.New("the database is reached through a pooler that refuses a startup parameter (PgBouncer?): leave it out of the pool's connection string and set it with ALTER ROLE or ALTER DATABASE, or name it in the pooler's ignore_startup_parameters")

// explained adds to the error of a connection which of its startup parameters the
// pooler refuses, if it does. PgBouncer answers with the same SQLSTATE to much
// else, which may pass; so each parameter is tried by itself.
func explained(ctx context.Context, pool *pgxpool.Pool, err error) error {
	if !refused(err) {
		return err
	}
	cfg := pool.Config()
	own := cfg.ConnConfig.Copy()
	if cfg.BeforeConnect != nil {
		if failed := cfg.BeforeConnect(ctx, own); failed != nil {
			return err
		}
	}
	all := own.RuntimeParams
	if dialed(ctx, own, nil) != nil {
		return err
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if refused(dialed(ctx, own, map[string]string{name: all[name]})) {
			names = append(names, name)
		}
	}
	if len(names) == 0 || dialed(ctx, own, nil) != nil { // it may turn everybody away by now
		return err
	}
	return fmt.Errorf("connecting: %w: it refuses %s", ErrNoStartupParameters, strings.Join(names, " and "))
}

// refused says whether a connection was turned away as PgBouncer does it.
func refused(err error) bool {
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	answer, answered := errors.AsType[*pgconn.PgError](err)
	return connecting && answered && answer.Code == protocolViolation
}

// dialed is the error of a connection with these startup parameters.
func dialed(ctx context.Context, cfg *pgx.ConnConfig, parameters map[string]string) error {
	cfg = cfg.Copy()
	cfg.RuntimeParams = parameters
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err == nil {
		closeConn(conn)
	}
	return err
}
