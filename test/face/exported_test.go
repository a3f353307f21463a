package face

import (
	"flag"
	"fmt"
	"go/constant"
	"go/types"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/typecheck"
)

var update = flag.Bool("update", false, "rewrite testdata/exported.txt")

const exportedFile = "testdata/exported.txt"

// What users can call changes only on purpose. With -update the file is rewritten.
func TestExportedIdentifiers(t *testing.T) {
	packages, err := typecheck.Load(facePackages...)
	require.NoError(t, err)
	var b strings.Builder
	for _, path := range facePackages {
		pkg, err := packages.Import(path)
		require.NoError(t, err)
		lines := exported(pkg)
		fmt.Fprintf(&b, "%s: %d\n", path, len(lines))
		for _, line := range lines {
			b.WriteString("\t" + line + "\n")
		}
	}
	if *update {
		require.NoError(t, os.WriteFile(exportedFile, []byte(b.String()), 0o600))
		return
	}
	want, err := os.ReadFile(exportedFile)
	require.NoError(t, err)
	assert.Equal(t, string(want), b.String(), "if this is meant: go test ./test/face -run TestExportedIdentifiers -update")
}

func TestEachKindOfIdentifierIsListed(t *testing.T) {
	packages, err := typecheck.Load("io")
	require.NoError(t, err)
	pkg, err := packages.Check("sample.go", `package sample
		import "io"
		const Most, most = 3, 4
		var Err, err error
		type Names = map[string]io.Reader
		type List[T any] []T
		type Store struct { Name string; *Base; closed bool }
		type Base struct{}
		func (s Store) Close() error { return nil }
		func (s *Store) Open(names ...string) {}
		func (s *Store) reopen() {}
		func (*Base) Deep() {}
		type Source interface { io.Reader; Next(n int) (io.Reader, error); hidden() }
		type Quiet struct{ open bool }
		func New(call func(io.Reader)) *Store { return nil }
		func secret() {}`, true)
	require.NoError(t, err)
	assert.Equal(t, []string{
		"const Most untyped int = 3",
		"func New(call func(io.Reader)) *Store",
		"type Base struct",
		"type Base method (*Base) Deep()",
		"type List[T any] []T",
		"type Names = map[string]io.Reader",
		"type Quiet struct",
		"type Source interface",
		"type Source embeds io.Reader",
		"type Source method Next(n int) (io.Reader, error)",
		"type Source method hidden",
		"type Store struct",
		"type Store field Name string",
		"type Store field *Base (embedded)",
		"type Store method (*Store) Open(names ...string)",
		"type Store method (Store) Close() error",
		"var Err error",
	}, exported(pkg))
}

// exported lists what a package exports, one line for each identifier, field and method.
func exported(pkg *types.Package) []string {
	// Names of packages are shown without their paths, and the package's own not at all.
	short := func(other *types.Package) string {
		if other == pkg {
			return ""
		}
		return other.Name()
	}
	var lines []string
	for _, name := range pkg.Scope().Names() {
		object := pkg.Scope().Lookup(name)
		if !object.Exported() {
			continue
		}
		switch object := object.(type) {
		case *types.TypeName:
			lines = append(lines, ofType(object, short)...)
		case *types.Const:
			lines = append(lines, types.ObjectString(object, short)+valueOf(object))
		default:
			lines = append(lines, types.ObjectString(object, short))
		}
	}
	slices.SortStableFunc(lines, func(a, b string) int { return strings.Compare(subjectOf(a), subjectOf(b)) })
	return lines
}

// subjectOf is a line up to the name that is declared.
func subjectOf(line string) string {
	kind, rest, _ := strings.Cut(line, " ")
	end := strings.IndexFunc(rest, func(r rune) bool { return strings.ContainsRune(" ([", r) })
	return kind + " " + rest[:end]
}

// valueOf is a constant's value, if its declaration does not show it already.
func valueOf(c *types.Const) string {
	if c.Val().Kind() == constant.Unknown {
		return ""
	}
	return " = " + c.Val().ExactString()
}

// ofType lists a type with its fields and methods.
func ofType(name *types.TypeName, short types.Qualifier) []string {
	declared := types.ObjectString(name, short)
	named, ok := name.Type().(*types.Named)
	if !ok {
		return []string{declared}
	}
	underlying := named.Underlying()
	prefix := "type " + name.Name()
	var lines []string
	switch u := underlying.(type) {
	case *types.Struct:
		lines = append(lines, head(named, short)+" struct")
		for field := range u.Fields() {
			switch {
			case !field.Exported():
			case field.Embedded():
				lines = append(lines, prefix+" field "+types.TypeString(field.Type(), short)+" (embedded)")
			default:
				lines = append(lines, prefix+" field "+field.Name()+" "+types.TypeString(field.Type(), short))
			}
		}
	case *types.Interface:
		lines = append(lines, head(named, short)+" interface")
		for embedded := range u.EmbeddedTypes() {
			lines = append(lines, prefix+" embeds "+types.TypeString(embedded, short))
		}
		for method := range u.ExplicitMethods() {
			lines = append(lines, prefix+" method "+ofMethod(method, short))
		}
	default:
		lines = append(lines, declared)
	}
	return append(lines, methodsOf(named, short)...)
}

// head is a type's declaration up to what it is.
func head(named *types.Named, short types.Qualifier) string {
	return "type " + types.TypeString(named, short)
}

// ofMethod is an interface's method. Of one that is not exported only the name counts: nobody else can have it.
func ofMethod(method *types.Func, short types.Qualifier) string {
	if !method.Exported() {
		return method.Name()
	}
	return method.Name() + strings.TrimPrefix(types.TypeString(method.Type(), short), "func")
}

// methodsOf lists a type's own exported methods.
func methodsOf(named *types.Named, short types.Qualifier) []string {
	var lines []string
	for method := range named.Methods() {
		if method.Exported() {
			receiver := types.TypeString(method.Signature().Recv().Type(), short)
			lines = append(lines, "type "+named.Obj().Name()+" method ("+receiver+") "+ofMethod(method, short))
		}
	}
	slices.Sort(lines) // wherever they are declared
	return lines
}
