// Package wakeup names two things that the trigger on an events table and the workers share: the channel that the
// trigger notifies, and the advisory lock that makes it do so. Both come from the table's name with its schema, as
// eventstore.Store.Resolve finds it, so all stores of one table agree.
package wakeup

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"
)

// Channel is the channel that the trigger of an events table notifies.
func Channel(events []string) string {
	sum := sumOf(events)
	return "pupsourcing_events_" + hex.EncodeToString(sum[:8])
}

// Key is the advisory lock that a session holds, exclusively, while appends
// are to be notified. One session can: all others hear the notifications as well.
// The holder must notify the channel itself when it releases the lock, so that another can take it.
func Key(events []string) int64 {
	sum := sumOf(events)
	return int64(binary.BigEndian.Uint64(sum[16:24]))
}

// sumOf identifies the events table by its name with its schema.
func sumOf(events []string) [sha256.Size]byte {
	return sha256.Sum256([]byte("pupsourcing appends\x00" + strings.Join(events, "\x00")))
}
