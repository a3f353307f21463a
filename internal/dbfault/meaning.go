package dbfault

import (
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrConfiguration is wrapped by errors that only a change of the configuration ends: see [Configuration].
var ErrConfiguration = errors.New("the configuration cannot work")

// Configuration marks the error of a check, whose text says what is wrong and what to do, as one that only a change of the
// configuration ends. The text stays the same. Errors that are not marked are tried again.
func Configuration(err error) error {
	if err == nil {
		return nil
	}
	return configurationError{err}
}

type configurationError struct{ error }

// Unwrap is what was marked, and the mark.
func (e configurationError) Unwrap() []error { return []error{e.error, ErrConfiguration} }

// IsConfiguration says whether only a change of the configuration ends the error: [Configuration] marked it, or the database
// answers that it does not know the role (class 28), the database (3D), the schema (3F) or a name, or that the role lacks a right
// (42). Everything else, whatever it is, may pass.
func IsConfiguration(err error) bool {
	return errors.Is(err, ErrConfiguration) || HasClass(err, "28", "3D", "3F", "42")
}

// IsOfServer says whether the error speaks of the server, the connection or concurrent transactions, rather than of the
// statement. It is an answer of the database; a SQLSTATE that is missing, or too short, says nothing of the statement either.
func IsOfServer(err error) bool {
	answer, ok := answerOf(err)
	return ok && (len(answer.Code) < 2 || HasClass(err, "08", "40", "53", "57", "58", "XX"))
}

// IsUnavailable says whether the server could not be reached, or the connection was lost: the same can succeed on another
// connection.
func IsUnavailable(err error) bool {
	if answer, ok := answerOf(err); ok {
		switch answer.Code {
		case "57P01", "57P02", "57P03", "57P05", "25P03", "25P04", "53300": // ended, crashed, starting, timeouts of sessions and transactions, too many connections
			return true
		}
		return HasClass(err, "08")
	}
	var network net.Error
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	return connecting || errors.As(err, &network) || pgconn.SafeToRetry(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

// IsRefused says whether the database has answered that it does not do what was asked, and is there for something else: the role lacks a right,
// there is no such table, somebody has locked it.
func IsRefused(err error) bool {
	return Code(err) != "" && !IsUnavailable(err)
}

// isOutdated says whether a statement was prepared before a table that it reads was altered ("cached plan must not change result
// type"). Each connection answers that once for each such statement. The SQLSTATE means other things too, and the text depends on lc_messages.
func isOutdated(answer *pgconn.PgError) bool {
	return answer.Code == "0A000" && answer.Routine == "RevalidateCachedQuery"
}

// IsDatabaseLost says whether the error shows that a database could not be reached, that the connection to it was lost or has outdated
// statements, or that the server has no room on its disks. Unlike [IsUnavailable] it leaves out network errors that no driver reported:
// they may come of any other system.
func IsDatabaseLost(err error) bool {
	if answer, ok := answerOf(err); ok {
		return IsUnavailable(err) || answer.Code == "53100" || answer.Code == "58030" || isOutdated(answer)
	}
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	return connecting || pgconn.SafeToRetry(err)
}
