package dbguard

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
)

// CheckConn returns an error if a setting of the connection changes the meaning of what is sent or read: another encoding than UTF-8, or,
// in pgx's modes that use texts, a date style other than ISO or backslashes in string literals. It looks at what the server has
// reported by itself, so it costs no round trip.
func CheckConn(conn *pgx.Conn) error {
	server := conn.PgConn()
	if encoding := server.ParameterStatus("client_encoding"); encoding != "" && encoding != "UTF8" && encoding != "SQL_ASCII" {
		return wrongSetting("client_encoding", encoding, "UTF8", "texts would be changed")
	}
	mode := conn.Config().DefaultQueryExecMode
	if style := server.ParameterStatus("DateStyle"); style != "" && usesTexts(mode) && !strings.HasPrefix(style, "ISO") {
		return wrongSetting("datestyle", style, "ISO", fmt.Sprintf("pgx cannot read times in the mode %s", mode))
	}
	if conforming := server.ParameterStatus("standard_conforming_strings"); conforming == "off" && mode == pgx.QueryExecModeSimpleProtocol {
		return wrongSetting("standard_conforming_strings", conforming, "on", fmt.Sprintf("pgx cannot send parameters in the mode %s", mode))
	}
	return nil
}

// leastMemory is what the largest of the library's statements need of work_mem, unless the server may write temporary files.
const leastMemory = 1 << 20

// sqlMemory reads the settings of memory, and whether the library's statements fit.
const sqlMemory = `
SELECT memory, files, files <> '-1' AND pg_catalog.pg_size_bytes(memory) < $1 AND pg_catalog.pg_size_bytes(files) < $1
FROM (SELECT pg_catalog.current_setting('work_mem') AS memory, pg_catalog.current_setting('temp_file_limit') AS files OFFSET 0) AS s`

// CheckSettings returns an error as [CheckConn] does, also for settings that the server does not report by itself, and for a work_mem that is too
// small where temp_file_limit allows no files in its place.
func CheckSettings(ctx context.Context, pool *pgxpool.Pool) error {
	guarded := New(pool)
	conn, err := guarded.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("checking the connection's settings: %w", err)
	}
	mode := conn.Conn().Config().DefaultQueryExecMode
	Release(conn, nil)
	db := guarded.InTransactions()
	if usesTexts(mode) {
		var format string
		err = db.QueryRow(ctx, "SELECT pg_catalog.current_setting('bytea_output')").Scan(&format)
		if err == nil && format != "hex" {
			err = wrongSetting("bytea_output", format, "hex", fmt.Sprintf("pgx cannot read payloads in the mode %s", mode))
		}
	}
	if err == nil {
		var memory, files string
		var short bool
		err = db.QueryRow(ctx, sqlMemory, int64(leastMemory)).Scan(&memory, &files, &short)
		if err == nil && short {
			err = wrongSetting("work_mem", memory, "1MB", "what does not fit would be written to temporary files, which temp_file_limit="+files+" forbids")
		}
	}
	if err != nil {
		return fmt.Errorf("checking the connection's settings: %w", err)
	}
	return nil
}

// usesTexts says whether results come as texts in the mode.
func usesTexts(mode pgx.QueryExecMode) bool {
	return mode == pgx.QueryExecModeExec || mode == pgx.QueryExecModeSimpleProtocol
}

// wrongSetting names the setting and the remedy.
func wrongSetting(name, value, want, why string) error {
	return dbfault.Configuration(fmt.Errorf("the connections of the pool have %s=%s, so %s: put %[1]s=%[4]s into the pool's connection string, "+
		"or ALTER ROLE … SET %[1]s = '%[4]s'", name, value, why, want))
}
