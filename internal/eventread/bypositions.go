package eventread

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/eventrow"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
)

// byPositionsSQL reads the events at positions $1, in order, until those before have payloads of $2 bytes in all.
const byPositionsSQL = `
SELECT ` + eventrow.Columns + `
FROM (
	SELECT *, coalesce(pg_catalog.sum(pg_catalog.octet_length(payload)) OVER (
		ORDER BY global_position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS bytes_before
	FROM %[1]s WHERE global_position = ANY ($1::bigint[])) AS e
WHERE bytes_before < $2::bigint AND ` + dbguard.Primary + `
ORDER BY global_position LIMIT %[2]s`

// ByPositions reads the events at positions, in order, up to the one with which they have payloads of mostBytes or more. Positions without an event
// are left out.
func ByPositions(ctx context.Context, db DB, events pgx.Identifier, positions []int64, mostBytes int64) (packed.Events, error) {
	scan := eventrow.Scanner{List: packed.Builder{Expected: min(len(positions), eventrow.MostExpected)}}
	rows, err := db.Query(ctx, fmt.Sprintf(byPositionsSQL, events.Sanitize(), dbguard.LimitAllRows(events, "NULL::bigint")), positions, mostBytes)
	if err != nil {
		return packed.Events{}, fmt.Errorf("reading %d events by position: %w", len(positions), err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan.Scan(rows); err != nil {
			return packed.Events{}, fmt.Errorf("scanning an event: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return packed.Events{}, fmt.Errorf("reading %d events by position: %w", len(positions), err)
	}
	return scan.List.Cut(), nil
}
