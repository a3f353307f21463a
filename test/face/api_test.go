package face

import (
	"go/types"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/typecheck"
)

// facePackages are those under the compatibility promise.
var facePackages = []string{
	typecheck.Module,
	typecheck.Module + "/es",
	typecheck.Module + "/eventstore",
	typecheck.Module + "/projection",
	typecheck.Module + "/metrics",
	typecheck.Module + "/migrations",
	typecheck.Module + "/admin",
	typecheck.Module + "/cli",
	typecheck.Module + "/statuspage",
	typecheck.Module + "/orchestratortest",
}

// mayShow are the packages outside the standard library and the face that the face may show, with those below them.
var mayShow = []string{
	"github.com/jackc/pgx/v5",
	"github.com/google/uuid",
	"github.com/prometheus/client_golang/prometheus",
	"go.opentelemetry.io/otel/trace",
}

func TestFaceShowsOnlyWhatItMay(t *testing.T) {
	packages, err := typecheck.Load(facePackages...)
	require.NoError(t, err)
	for _, path := range facePackages {
		pkg, err := packages.Import(path)
		require.NoError(t, err)
		assert.Empty(t, notAllowed(shown(pkg)), path)
	}
}

// notAllowed is what is shown of packages that must not be, and where.
func notAllowed(shown map[string]string) map[string]string {
	found := map[string]string{}
	for path, where := range shown {
		first, _, _ := strings.Cut(path, "/")
		standard := !strings.Contains(first, ".")
		if !standard && !slices.Contains(facePackages, path) && !slices.ContainsFunc(mayShow, func(allowed string) bool { return within(path, allowed) }) {
			found[path] = where
		}
	}
	return found
}

// within says whether a path is another or below it.
func within(path, above string) bool { return path == above || strings.HasPrefix(path, above+"/") }

func TestOnlyListedPackagesAreAllowed(t *testing.T) {
	for path, allowed := range map[string]bool{
		"context": true, "log/slog": true, typecheck.Module: true, typecheck.Module + "/es": true,
		"github.com/jackc/pgx/v5": true, "github.com/jackc/pgx/v5/pgconn": true, "github.com/google/uuid": true,
		"github.com/jackc/pgx/v4": false, "github.com/jackc/pgx/v50": false, "github.com/prometheus/client_model/go": false,
		typecheck.Module + "/actors": false, typecheck.Module + "/internal/packed": false, typecheck.Module + "/es/internal": false,
		"github.com/asynkron/protoactor-go/actor": false,
	} {
		assert.Equal(t, allowed, len(notAllowed(map[string]string{path: "X"})) == 0, path)
	}
}

// The finder itself finds: each of these packages shows the actor library.
func TestShownTypesAreFound(t *testing.T) {
	packages, err := typecheck.Load(typecheck.Module, typecheck.Module+"/actors")
	require.NoError(t, err)
	for name, declaration := range map[string]string{
		"result":              "func Start() *actor.PID { return nil }",
		"parameter":           "func Start(options ...func(map[string]actor.PID)) {}",
		"variable":            "var System []*actor.ActorSystem",
		"type":                "type ID actor.PID",
		"alias":               "type ID = actor.PID",
		"field":               "type Worker struct { PID *actor.PID }",
		"embedded field":      "type Worker struct { *actor.PID }",
		"method":              "type Worker struct{}\nfunc (*Worker) Receive(actor.Context) {}",
		"interface's method":  "type Worker interface { Receive(chan actor.Context) }",
		"embedded interface":  "type Worker interface { actor.Actor }",
		"constraint":          "func Start[A actor.Actor](A) {}",
		"type argument":       "type List[T any] struct{}\nfunc Start() List[actor.PID] { panic(1) }",
		"of unexported type":  "type worker struct{ PID *actor.PID }\nfunc New() *worker { return nil }",
		"of unexported alias": "type pid = actor.PID\nfunc New() *pid { return nil }",
		"channel":             "var Started <-chan [1]actor.PID",
	} {
		pkg, err := packages.Check("sample.go", "package sample\nimport \"github.com/asynkron/protoactor-go/actor\"\n"+declaration, false)
		require.NoError(t, err, name)
		assert.Len(t, notAllowed(shown(pkg)), 1, name)
	}
	pkg, err := packages.Check("sample.go", `package sample
		import "github.com/asynkron/protoactor-go/actor"
		type Worker struct { pid *actor.PID }
		func (w *Worker) receive() *actor.PID { return w.pid }
		func start() *actor.PID { var w Worker; return w.receive() }
		var _ = start`, false)
	require.NoError(t, err)
	assert.Empty(t, notAllowed(shown(pkg)), "what is not exported is not shown")
}

// shown returns the packages whose types a package's exported declarations
// refer to, each with one of the declarations that does.
func shown(pkg *types.Package) map[string]string {
	w := &walk{home: pkg, seen: map[types.Type]bool{}, shown: map[string]string{}}
	for _, name := range pkg.Scope().Names() {
		object := pkg.Scope().Lookup(name)
		if !object.Exported() {
			continue
		}
		w.where = pkg.Path() + "." + name
		if named, ok := object.Type().(*types.Named); ok && named.Obj() == object {
			w.declared(named)
			continue
		}
		w.visit(object.Type())
	}
	return w.shown
}

// walk follows types from declaration to declaration.
type walk struct {
	home  *types.Package
	where string
	seen  map[types.Type]bool
	shown map[string]string
}

// declared visits what users of a type declared in the package see of it.
func (w *walk) declared(named *types.Named) {
	if w.seen[named] {
		return
	}
	w.seen[named] = true
	for method := range named.Methods() {
		if method.Exported() {
			w.visit(method.Type())
		}
	}
	w.parameters(named.TypeParams())
	w.visit(named.Underlying())
	w.nameOfUnderlying(named)
}

// nameOfUnderlying notes the package of the fields of `type T other.T`: the
// underlying type has lost the name.
func (w *walk) nameOfUnderlying(named *types.Named) {
	if s, ok := named.Underlying().(*types.Struct); ok && s.NumFields() > 0 {
		w.note(s.Field(0).Pkg())
	}
}

func (w *walk) note(pkg *types.Package) {
	if pkg != nil && pkg != w.home && w.shown[pkg.Path()] == "" {
		w.shown[pkg.Path()] = w.where
	}
}

func (w *walk) parameters(list *types.TypeParamList) {
	for parameter := range list.TypeParams() {
		w.visit(parameter.Constraint())
	}
}

// visit visits the types that a type is made of.
func (w *walk) visit(t types.Type) {
	switch t := types.Unalias(t).(type) {
	case *types.Named:
		for argument := range t.TypeArgs().Types() {
			w.visit(argument)
		}
		if w.note(t.Obj().Pkg()); t.Obj().Pkg() == w.home && !t.Obj().Exported() {
			w.declared(t)
		}
	case *types.Struct:
		for field := range t.Fields() {
			if field.Exported() || field.Embedded() {
				w.visit(field.Type())
			}
		}
	case *types.Interface:
		for embedded := range t.EmbeddedTypes() {
			w.visit(embedded)
		}
		for method := range t.ExplicitMethods() {
			if method.Exported() {
				w.visit(method.Type())
			}
		}
	case *types.Signature:
		w.parameters(t.TypeParams())
		w.visit(t.Params())
		w.visit(t.Results())
	case *types.Tuple:
		for variable := range t.Variables() {
			w.visit(variable.Type())
		}
	case *types.Union:
		for term := range t.Terms() {
			w.visit(term.Type())
		}
	case *types.Map:
		w.visit(t.Key())
		w.visit(t.Elem())
	case interface{ Elem() types.Type }: // pointers, slices, arrays, channels
		w.visit(t.Elem())
	}
}

// exportedOptions are the names of the root package's options.
func exportedOptions(t *testing.T) []string {
	t.Helper()
	packages, err := typecheck.Load(typecheck.Module)
	require.NoError(t, err)
	pkg, err := packages.Import(typecheck.Module)
	require.NoError(t, err)
	return slices.DeleteFunc(pkg.Scope().Names(), func(name string) bool { return !strings.HasPrefix(name, "With") })
}
