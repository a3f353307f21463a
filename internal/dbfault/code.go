package dbfault

import (
	"errors"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
)

// Code returns the SQLSTATE of the database's answer, or "" if err is not an answer of the database.
func Code(err error) string {
	if answer, ok := answerOf(err); ok {
		return answer.Code
	}
	return ""
}

// answerOf is the database's answer in err. A handler may wrap a nil one, which is none.
func answerOf(err error) (answer *pgconn.PgError, ok bool) {
	answer, ok = errors.AsType[*pgconn.PgError](err)
	return answer, ok && answer != nil
}

// HasClass says whether err is an answer of the database with a SQLSTATE that begins with one of the classes. A class has two
// characters.
func HasClass(err error, classes ...string) bool {
	code := Code(err)
	return len(code) >= 2 && slices.Contains(classes, code[:2])
}

// IsConflict says whether the database ended the transaction because of concurrent transactions: a deadlock or a serialization
// failure. The same work can succeed when it is repeated.
func IsConflict(err error) bool {
	code := Code(err)
	return code == "40001" || code == "40P01"
}

// IsCutShort says whether the statement took longer than the server allows: statement_timeout or PostgreSQL 17's transaction_timeout
// ended it, or somebody cancelled it. A statement with less to do may succeed.
func IsCutShort(err error) bool {
	code := Code(err)
	return code == "57014" || code == "25P04"
}
