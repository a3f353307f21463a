package batchtx

import (
	"crypto/tls"

	"github.com/jackc/pgx/v5"
)

// CloseSocket closes the connection to the server while somebody else may be using it: its fields that are read here were set when the
// connection was made. The server rolls back. No cancel request is sent: those make PgBouncer 1.18 crash. [Close] must follow once nobody
// uses the connection.
func CloseSocket(conn *pgx.Conn) {
	socket := conn.PgConn().Conn()
	if encrypted, ok := socket.(*tls.Conn); ok {
		socket = encrypted.NetConn() // closing the outer one would wait for a write in progress
	}
	_ = socket.Close()
}
