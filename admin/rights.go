package admin

import (
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbrights"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// rights are those on the coordination tables that an act needs beside SELECT on all of them, by the table's name without its prefix.
type rights map[string][]string

// The rights of each act. docs/command-line.md has the same table. An act that ends a cut-over needs those of a cut-over too.
var (
	readRights  = rights{}
	pauseRights = rights{"checkpoints": {"UPDATE"}, "operations": {"INSERT"}} // Resume too
	askRights   = rights{"checkpoints": {"UPDATE"}, "operations": {"INSERT"}, "requests": {"INSERT"}}
	resetRights = rights{
		"checkpoints": {"UPDATE"}, "dead_letters": {"DELETE"}, "operations": {"INSERT", "UPDATE"}, "parked_aggregates": {"DELETE", "UPDATE"}, "requests": {"UPDATE"},
	}
	cutOverRights = rights{"checkpoints": {"UPDATE"}, "operations": {"INSERT", "UPDATE"}, "successions": {"DELETE", "INSERT", "UPDATE"}}
	moveRights    = rights{
		"checkpoints": {"UPDATE"}, "dead_letters": {"UPDATE"}, "operations": {"INSERT", "UPDATE"}, "parked_aggregates": {"UPDATE"}, "turns": {"UPDATE"},
	}
	discardRights = rights{
		"checkpoints": {"UPDATE"}, "dead_letters": {"DELETE"}, "operations": {"INSERT", "UPDATE"}, "parked_aggregates": {"DELETE"}, "requests": {"UPDATE"},
	}
	cancelRights  = rights{"operations": {"UPDATE"}, "requests": {"UPDATE"}}
	drainRights   = rights{"drains": {"INSERT", "UPDATE"}, "operations": {"INSERT"}}
	undrainRights = rights{"drains": {"DELETE"}, "operations": {"INSERT"}}
	importRights  = rights{"checkpoints": {"INSERT"}, "operations": {"INSERT"}}
)

// needs is the rights, and those of reading.
func (r rights) needs(schema string, events pgx.Identifier) []dbrights.Need {
	needs := pgcoord.NeedsToRead(schema, events)
	for _, table := range slices.Sorted(maps.Keys(r)) {
		needs = append(needs, dbrights.Need{Kind: dbrights.Table, Schema: schema, Name: "orchestrator_" + table, Rights: r[table]})
	}
	return needs
}
