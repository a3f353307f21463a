package pgcoord

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/announcement"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/horizon"
)

// sqlAnnounce notifies, if the server has not crashed since the horizon was found.
const sqlAnnounce = `SELECT pg_notify($4, $5) WHERE ` + horizon.SQLSameRun

// Announce announces a horizon to the other workers. It sends nothing if the server may have crashed since the probe.
func (s *Session) Announce(ctx context.Context, a announcement.Horizon, run horizon.Run) error {
	err := s.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sqlAnnounce, run.Started, run.At, run.Statistics, s.cfg.Channel, NotifyHorizon+" "+a.Text())
		return err
	})
	if err != nil {
		return fmt.Errorf("announcing the horizon %d: %w", a.Position, err)
	}
	return nil
}

// announced passes an announcement on. Whatever else somebody notifies is no announcement.
func (s *Session) announced(pid int, text string) {
	if pid == s.pid {
		return
	}
	if a, err := announcement.Parse(text); err == nil {
		s.cfg.Events.Announced(pid, a)
	}
}
