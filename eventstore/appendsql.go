package eventstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/sqltx"
)

// SQLTx is a transaction of database/sql: a *sql.Tx, or the equivalent of a tool built on it. A *sql.Conn is one after
// BEGIN.
type SQLTx interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// ErrNoTransaction means that the connection given to AppendSQL has no open transaction.
var ErrNoTransaction = errors.New("the connection is not in a transaction")

// AppendSQL is [Store.Append] for a transaction of database/sql. Its connection must come from
// github.com/jackc/pgx/v5/stdlib. Nothing else may use the connection during the call. The handler of a
// projection.SQLProjection may pass its own tx.
func (s *Store) AppendSQL(ctx context.Context, tx SQLTx, expected es.ExpectedVersion, events []es.Event) (result es.AppendResult, err error) {
	if err := refuseNil("appending events", "tx", tx); err != nil {
		return es.AppendResult{}, err
	}
	underErr := sqltx.Under(ctx, tx, func(conn *pgx.Conn) error {
		if conn.PgConn().TxStatus() == 'I' {
			err = fmt.Errorf("appending events: %w", ErrNoTransaction)
			return nil
		}
		result, err = s.Append(ctx, sqltx.Begun(conn), expected, events)
		return err
	})
	if err == nil && underErr != nil {
		return es.AppendResult{}, fmt.Errorf("appending events: %w", underErr)
	}
	return result, err
}
