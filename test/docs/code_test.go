package docs

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/typecheck"
)

// imports are the packages that fragments may use, each by its own name.
var imports = []string{
	"database/sql",
	"context", "errors", "fmt", "log/slog", "net/http", "os", "os/signal", "strings", "syscall", "testing", "time",
	"github.com/google/uuid", "github.com/jackc/pgx/v5", "github.com/jackc/pgx/v5/pgxpool",
	"github.com/prometheus/client_golang/prometheus",
	typecheck.Module, typecheck.Module + "/es", typecheck.Module + "/eventstore", typecheck.Module + "/metrics",
	typecheck.Module + "/migrations", typecheck.Module + "/projection", typecheck.Module + "/admin", typecheck.Module + "/cli", typecheck.Module + "/orchestratortest", typecheck.Module + "/statuspage", "go.opentelemetry.io/otel/trace",
}

// preamble is what a fragment finds declared, unless it declares it itself.
var preamble = map[string]string{
	"ctx":        "var ctx context.Context",
	"db":         "var db *pgxpool.Pool",
	"tx":         "var tx pgx.Tx",
	"eventStore": "var eventStore *eventstore.Store",
	"orch":       "var orch *orchestrator.Orchestrator",
	"logger":     "var logger *slog.Logger",
	"err":        "var err error",
	"provider":   "var provider trace.TracerProvider",
	"UserProjection": "type UserProjection struct{}; func (*UserProjection) Name() string { return `users` }; " +
		"func (*UserProjection) Handle(context.Context, pgx.Tx, es.PersistedEvent) error { return nil }",
}

func TestGoCompiles(t *testing.T) {
	packages, err := typecheck.Load(imports...)
	require.NoError(t, err)
	checked := 0
	for _, d := range documents(t) {
		for _, b := range d.blocks {
			if b.language == "go" {
				assert.NoError(t, compile(packages, d, b))
				checked++
			}
		}
	}
	assert.Positive(t, checked)
}

// compile says why a block is not Go that works.
func compile(packages *typecheck.Packages, d document, b block) error {
	position := fmt.Sprintf("//line %s:%d\n", d.path, b.line)
	if strings.HasPrefix(b.text, "package ") {
		_, err := packages.Check(d.path, position+b.text, false)
		return err
	}
	var source strings.Builder
	source.WriteString("package fragment\n")
	for _, path := range imports {
		fmt.Fprintf(&source, "import %q\n", path)
	}
	declared := declarations(b.text)
	for _, name := range slices.Sorted(maps.Keys(preamble)) {
		if !slices.Contains(declared, name) {
			source.WriteString(preamble[name] + "\n")
		}
	}
	if declared != nil {
		source.WriteString(position + b.text)
	} else {
		source.WriteString("func _() error {\n" + position + b.text + "\npanic(0)\n}\n")
	}
	_, err := packages.Check(d.path, source.String(), true)
	return err
}

// declarations are the names that a fragment declares, nil if it consists of
// statements.
func declarations(fragment string) []string {
	file, err := parser.ParseFile(token.NewFileSet(), "", "package fragment\n"+fragment, parser.SkipObjectResolution)
	if err != nil {
		return nil
	}
	names := []string{}
	for _, declaration := range file.Decls {
		switch declaration := declaration.(type) {
		case *ast.FuncDecl:
			names = append(names, declaration.Name.Name)
		case *ast.GenDecl:
			for _, spec := range declaration.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					names = append(names, spec.Name.Name)
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						names = append(names, name.Name)
					}
				}
			}
		}
	}
	return names
}

func TestGoThatDoesNotCompileIsFound(t *testing.T) {
	packages, err := typecheck.Load(imports...)
	require.NoError(t, err)
	const file = "package main\n\nimport \"os\"\n\nfunc main() { %s }\n"
	for text, problem := range map[string]string{
		fmt.Sprintf(file, "os.Exit(0)"):                   "",
		fmt.Sprintf(file, "os.Leave(0)"):                  "a.md:11",
		fmt.Sprintf(file, ""):                             "imported and not used",
		fmt.Sprintf(file, "x := os.Args"):                 "declared and not used",
		fmt.Sprintf(file, "os.Exit("):                     "a.md:11",
		"err := orch.Run(ctx, nil)":                       "",
		"return orch.Run(ctx, nil)":                       "",
		"orch, err := orchestrator.New(db, eventStore)":   "a.md:7",
		"\n\norch.Walk()":                                 "a.md:9",
		"orchestrator.WithNothing()":                      "undefined: orchestrator.WithNothing",
		"if true {":                                       "a.md",
		"type UserProjection struct{ name string }":       "",
		"func handle(p *UserProjection) { p.Name() }":     "",
		"func handle(p *UserProjection) { p.Rename() }":   "a.md:7",
		"var _ = bytes.Repeat(nil, 0)":                    "undefined: bytes",
		"var _ projection.Projection = &UserProjection{}": "",
	} {
		err := compile(packages, document{path: "a.md"}, block{language: "go", text: text, line: 7})
		if problem == "" {
			assert.NoError(t, err, text)
		} else {
			assert.ErrorContains(t, err, problem, text)
		}
	}
}
