package face

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/typecheck"
)

const (
	actorLibrary = "github.com/asynkron/protoactor-go"
	driver       = "github.com/jackc/pgx/v5"
	collectors   = "github.com/prometheus/client_golang"
	commands     = "github.com/urfave/cli"
)

// mayImport says which of the module's packages each package may import, by
// the name of their directory: imports point downwards only. The root is ".".
var mayImport = map[string][]string{
	".":                            {"internal/contained", "internal/budget", "internal/handling", "internal/replicaset", "internal/dbfault", "internal/dbguard", "internal/dbrights", "actors", "eventstore", "internal/horizon", "metrics", "internal/measure", "migrations", "pgcoord", "projection", "internal/slot", "internal/waiting", "internal/health", "es", "internal/lag", "internal/tracing"},
	"cli":                          {".", "admin", "metrics", "statuspage", "eventstore", "migrations", "pgcoord", "projection"},
	"cmd/pupsourcing-orchestrator": {"cli"},
	"statuspage":                   {"admin", "internal/dbfault", "internal/slot"},
	"orchestratortest":             {".", "es", "eventstore", "internal/batchtx", "internal/handling", "projection"},
	"admin":                        {"es", "eventstore", "internal/batchtx", "internal/dbfault", "internal/dbguard", "internal/dbrights", "internal/horizon", "internal/manual", "internal/replicaset", "internal/slot", "internal/waiting", "migrations", "pgcoord"},
	"actors":                       {"internal/announcement", "internal/budget", "internal/dbrights", "internal/eventread", "internal/wakeup", "internal/handling", "internal/replicaset", "internal/batchtx", "internal/dbfault", "internal/dbguard", "eventstore", "internal/horizon", "messages", "internal/measure", "internal/packed", "pgcoord", "projection", "internal/slot", "internal/waiting", "es", "internal/health", "internal/lag", "internal/tracing"},
	"pgcoord":                      {"internal/packed", "internal/announcement", "internal/replicaset", "internal/batchtx", "internal/dbfault", "internal/dbguard", "internal/dbrights", "internal/pooler", "internal/horizon", "internal/slot", "internal/waiting", "es", "internal/lag"},
	"projection":                   {"internal/contained", "internal/budget", "internal/eventread", "internal/handling", "internal/batchtx", "internal/dbfault", "internal/dbguard", "internal/dbrights", "internal/pooler", "eventstore", "internal/horizon", "internal/manual", "internal/packed", "internal/slot", "es", "internal/tracing"},
	"eventstore":                   {"internal/slot", "internal/sqltx", "internal/dbfault", "internal/dbguard", "internal/dbrights", "internal/eventrow", "internal/migrate", "internal/packed", "internal/wakeup", "es", "internal/tracing"},
	"internal/eventread":           {"internal/dbfault", "internal/dbguard", "internal/eventrow", "internal/packed", "internal/slot", "es"},
	"internal/eventrow":            {"internal/packed", "es"},
	"internal/horizon":             {"internal/announcement", "internal/dbfault", "internal/dbguard", "internal/slot", "es"},
	"migrations":                   {"internal/dbfault", "internal/dbguard", "internal/dbrights", "internal/migrate"},
	"internal/migrate":             {"internal/dbfault", "internal/dbguard", "internal/dbrights"},
	"internal/manual":              {"internal/dbfault", "internal/slot"},
	"internal/dbfault":             {},
	"internal/sqltx":               {"internal/batchtx"},
	"internal/handling":            {"internal/contained", "internal/sqltx", "internal/batchtx", "internal/dbfault", "internal/dbguard", "es"},
	"internal/dbguard":             {"internal/dbfault"},
	"internal/dbrights":            {"internal/dbfault"},
	"internal/batchtx":             {"internal/dbfault", "internal/dbguard"},
	"internal/pooler":              {"internal/dbfault", "internal/dbguard"},
	"messages":                     {"internal/announcement", "internal/packed", "internal/replicaset", "internal/slot", "es"},
	"internal/packed":              {"es"},
	"internal/announcement":        {},
	"metrics":                      {"internal/measure"},
	"internal/measure":             {},
	"internal/slot":                {},
	"internal/health":              {},
	"internal/tracing":             {"internal/contained", "internal/handling", "es"},
	"internal/contained":           {},
	"internal/lag":                 {},
	"internal/waiting":             {"internal/dbfault", "internal/health", "internal/replicaset", "internal/slot"},
	"internal/wakeup":              {},
	"internal/replicaset":          {"internal/slot"},
	"es":                           {},
}

// onlyIn says where libraries may be imported.
var onlyIn = map[string][]string{
	actorLibrary: {"actors"},
	commands:     {"cli"},
	driver:       {".", "actors", "internal/budget", "orchestratortest", "admin", "cli", "pgcoord", "projection", "eventstore", "internal/horizon", "migrations", "internal/migrate", "internal/batchtx", "internal/dbfault", "internal/dbguard", "internal/dbrights", "internal/eventread", "internal/eventrow", "internal/handling", "internal/pooler", "internal/sqltx"},
	collectors:   {".", "cli", "metrics", "internal/measure", "statuspage"},
}

func TestImportsPointDownwards(t *testing.T) {
	output, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, typecheck.Module+"/...").Output()
	require.NoError(t, err)
	seen := map[string]bool{}
	for line := range strings.Lines(string(output)) {
		paths := strings.Fields(line)
		directory := directoryOf(paths[0])
		if first, _, _ := strings.Cut(directory, "/"); first == "test" || first == "examples" {
			continue
		}
		seen[directory] = true
		assert.Empty(t, wrongImports(directory, paths[1:]), "imports of %s", directory)
	}
	for directory := range mayImport {
		assert.True(t, seen[directory], "there is a rule for %s, which does not exist", directory)
	}
}

func TestWrongImportsAreFound(t *testing.T) {
	for directory, path := range map[string]string{
		"es":                  typecheck.Module + "/eventstore",
		"eventstore":          typecheck.Module + "/pgcoord",
		"projection":          typecheck.Module + "/pgcoord",
		"pgcoord":             typecheck.Module + "/actors",
		"actors":              typecheck.Module,
		"messages":            driver,
		"metrics":             driver + "/pgxpool",
		".":                   actorLibrary + "/actor",
		"internal/slot":       typecheck.Module + "/test/pgtest",
		"internal/replicaset": driver,
		"new":                 typecheck.Module + "/es",
	} {
		assert.Equal(t, []string{path}, wrongImports(directory, []string{"context", path, "github.com/google/uuid"}), directory)
	}
}

// wrongImports is those of a package's imports that the rules forbid.
func wrongImports(directory string, imports []string) []string {
	return slices.DeleteFunc(slices.Clone(imports), func(path string) bool {
		for library, allowed := range onlyIn {
			if path == library || strings.HasPrefix(path, library+"/") {
				return slices.Contains(allowed, directory)
			}
		}
		own := path == typecheck.Module || strings.HasPrefix(path, typecheck.Module+"/")
		return !own || slices.Contains(mayImport[directory], directoryOf(path))
	})
}

// directoryOf is the directory of a package of the module; "." is the root.
func directoryOf(path string) string {
	directory := strings.TrimPrefix(strings.TrimPrefix(path, typecheck.Module), "/")
	if directory == "" {
		return "."
	}
	return directory
}
