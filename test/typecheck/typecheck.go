// Package typecheck reads the types of this module's packages, and checks Go
// source against them, for tests of the public interface and of documents.
package typecheck

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"strings"
)

// Module is the path of this module.
const Module = "github.com/getpup/pupsourcing-orchestrator/v2"

// Packages are packages with everything that they import.
type Packages struct {
	files    *token.FileSet
	exported map[string]string // from import path to the file of its export data
	importer types.Importer
}

// Load builds the packages, given as patterns of the go command, and all that
// they import.
func Load(patterns ...string) (*Packages, error) {
	var stderr bytes.Buffer
	list := exec.Command("go", append([]string{"list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}"}, patterns...)...)
	list.Stderr = &stderr
	output, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("building %s: %w: %s", strings.Join(patterns, " "), err, stderr.String())
	}
	p := &Packages{files: token.NewFileSet(), exported: map[string]string{}}
	for line := range strings.Lines(string(output)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), "\t")
		p.exported[path] = file
	}
	p.importer = importer.ForCompiler(p.files, "gc", p.open)
	return p, nil
}

func (p *Packages) open(path string) (io.ReadCloser, error) {
	file, ok := p.exported[path]
	if !ok {
		return nil, fmt.Errorf("package %s was not loaded", path)
	}
	return os.Open(file)
}

// Import returns the types of a package.
func (p *Packages) Import(path string) (*types.Package, error) {
	return p.importer.Import(path)
}

// Check checks a package of one file. If lenient, variables and imports that
// are not used are no error.
func (p *Packages) Check(name, source string, lenient bool) (*types.Package, error) {
	file, err := parser.ParseFile(p.files, name, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var found error
	config := types.Config{Importer: p, Error: func(err error) {
		var problem types.Error
		if lenient && errors.As(err, &problem) && problem.Soft {
			return
		}
		found = errors.Join(found, err)
	}}
	pkg, _ := config.Check(file.Name.Name, p.files, []*ast.File{file}, nil)
	return pkg, found
}
