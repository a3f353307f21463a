package batchtx

import (
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
)

const (
	// idleMost bounds the time that handlers get.
	idleMost = time.Hour
	// idleGrowth is by how much it grows when it was too short. Each time that it is costs a call of the handler.
	idleGrowth = 4
)

// MoreIdle is the idle timeout after one that was too short; false if there is no longer one.
func MoreIdle(d time.Duration) (time.Duration, bool) {
	if d >= idleMost {
		return d, false
	}
	return min(idleGrowth*d, idleMost), true
}

// idleEnded is the SQLSTATE with which the server ends a transaction that was idle for too long.
const idleEnded = "25P03"

// IsIdleEnd says whether the server ended a transaction because it was idle for too long.
func IsIdleEnd(err error) bool { return dbfault.Code(err) == idleEnded }

// MayBeIdleEnd says whether the loss of a transaction's connection may be the idle timeout's doing, after the transaction took so long. The
// server's message may be lost with the connection.
func MayBeIdleEnd(err error, took, idle time.Duration) bool {
	return took >= idle && (IsIdleEnd(err) || dbfault.Code(err) == "")
}
