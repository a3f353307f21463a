package pgcoord

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// WakeUps says which session makes the trigger notify appends.
type WakeUps int

// Who sees to it.
const (
	// WakeUpsNobody means that no session does, as far as is known.
	WakeUpsNobody WakeUps = iota
	// WakeUpsOwn means that this session does. Appends are notified until it declines or breaks.
	WakeUpsOwn
	// WakeUpsOthers means that another session does. If it declines, it says so on the channel. If it breaks, nobody
	// says so.
	WakeUpsOthers
)

// notifyDeclined is the payload of the notification that says that the lock is free.
const notifyDeclined = "declined"

// sqlAskForWakeUps takes the lock. If it does not get it, it tries to share it,
// which tells another session's lock from an append that looks at it just now.
const sqlAskForWakeUps = `
SELECT CASE WHEN pg_try_advisory_lock($1) THEN 1
            WHEN NOT pg_try_advisory_lock_shared($1) THEN 2
            WHEN pg_advisory_unlock_shared($1) THEN 0
            ELSE 0 END`

// sqlDeclineWakeUps gives the lock back. Saying so is a statement of its own, which may fail.
const sqlDeclineWakeUps = `SELECT pg_advisory_unlock($1)`

// AskForWakeUps makes the wake-up trigger notify appends from now on, if nobody has asked before. The session may not
// hear of an append that the trigger handled earlier. Any look that begins after AskForWakeUps has returned finds such
// an append: it is committed, rolled back, or holds a lock on the events table.
func (s *Session) AskForWakeUps(ctx context.Context) (WakeUps, error) {
	who := WakeUpsOwn
	err := s.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		if s.asked {
			return nil
		}
		if err := conn.QueryRow(ctx, sqlAskForWakeUps, s.cfg.WakeUpKey).Scan(&who); err != nil {
			return err
		}
		s.asked = who == WakeUpsOwn
		return nil
	})
	if err != nil {
		return WakeUpsNobody, fmt.Errorf("asking for the notification of appends: %w", err)
	}
	return who, nil
}

// DeclineWakeUps ends the effect of AskForWakeUps, if it has one, and tells all sessions that listen, so that another
// one can ask.
func (s *Session) DeclineWakeUps(ctx context.Context) error {
	if err := s.Do(ctx, s.decline); err != nil {
		return fmt.Errorf("declining the notification of appends: %w", err)
	}
	return nil
}

func (s *Session) decline(ctx context.Context, conn *pgx.Conn) error {
	if !s.asked {
		return nil
	}
	if _, err := conn.Exec(ctx, sqlDeclineWakeUps, s.cfg.WakeUpKey); err != nil {
		return err
	}
	s.asked = false
	_, err := conn.Exec(ctx, sqlNotify, s.cfg.Appends, notifyDeclined)
	if err != nil && conn.IsClosed() {
		return err
	}
	return nil // the others find the lock free at their next look
}

// goodbyeTimeout bounds the last statement of a session that is closed.
const goodbyeTimeout = time.Second

// sayGoodbye declines on a connection that is about to be closed, if it still
// stands: without it the others would find the lock free at their next look only.
func (s *Session) sayGoodbye(ctx context.Context, conn *pgx.Conn) {
	if conn.IsClosed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeTimeout)
	defer cancel()
	if err := s.decline(ctx, conn); err != nil {
		s.cfg.Logger.DebugContext(ctx, "a session that ends could not say so", "error", err)
	}
}
