package migrate

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
)

// migration is one numbered pair of files.
type migration struct {
	version  int
	name     string
	up, down file
}

// file is a file's SQL, placeholders substituted.
type file struct {
	name string
	sql  string
}

var (
	fileName    = regexp.MustCompile(`^([0-9]+)_([a-z0-9_]+)\.(up|down)\.sql$`)
	placeholder = regexp.MustCompile(`\{\{([^{}]*)\}\}`)
)

// load reads the .sql files at the root of fsys, ordered by version. Every
// fault of the set is an error here, before the database is touched: a name of
// another form, two files of one number, a gap, a missing half, a placeholder
// without a value.
func load(fsys fs.FS, values map[string]string) ([]migration, error) {
	names, err := fs.Glob(fsys, "*.sql")
	if err != nil {
		return nil, fmt.Errorf("listing the migration files: %w", err)
	}
	if len(names) == 0 {
		return nil, errors.New("there are no migration files (*.sql)")
	}
	byVersion := make(map[int]*migration)
	for _, name := range names {
		if err := addFile(byVersion, fsys, name, values); err != nil {
			return nil, err
		}
	}
	return ordered(byVersion)
}

// addFile reads the named file into its migration.
func addFile(byVersion map[int]*migration, fsys fs.FS, name string, values map[string]string) error {
	parts := fileName.FindStringSubmatch(name)
	if parts == nil {
		return fmt.Errorf("migration file %s: the name must be like 000001_init.up.sql or 000001_init.down.sql", name)
	}
	version, err := strconv.Atoi(parts[1])
	if err != nil || version < 1 {
		return fmt.Errorf("migration file %s: the number must be at least 1 and fit an int", name)
	}
	text, err := fs.ReadFile(fsys, name)
	if err != nil {
		return fmt.Errorf("reading migration file %s: %w", name, err)
	}
	sql, err := substitute(string(text), values)
	if err != nil {
		return fmt.Errorf("migration file %s: %w", name, err)
	}
	m := byVersion[version]
	if m == nil {
		m = &migration{version: version, name: parts[2]}
		byVersion[version] = m
	}
	half := &m.up
	if parts[3] == "down" {
		half = &m.down
	}
	if m.name != parts[2] || half.name != "" {
		return fmt.Errorf("migration file %s: another file has the number %d", name, version)
	}
	*half = file{name: name, sql: sql}
	return nil
}

// ordered is the migrations by version, checked to be 1, 2, 3 … with both halves.
func ordered(byVersion map[int]*migration) ([]migration, error) {
	all := make([]migration, 0, len(byVersion))
	for _, m := range byVersion {
		all = append(all, *m)
	}
	slices.SortFunc(all, func(a, b migration) int { return a.version - b.version })
	for i, m := range all {
		switch {
		case m.version != i+1:
			return nil, fmt.Errorf("migration %d is missing, there is a migration %d", i+1, m.version)
		case m.up.name == "":
			return nil, fmt.Errorf("migration file %s: the matching .up.sql is missing", m.down.name)
		case m.down.name == "":
			return nil, fmt.Errorf("migration file %s: the matching .down.sql is missing", m.up.name)
		}
	}
	return all, nil
}

// substitute replaces each {{name}} in sql by its value.
func substitute(sql string, values map[string]string) (string, error) {
	var unknown error
	done := placeholder.ReplaceAllStringFunc(sql, func(found string) string {
		value, ok := values[found[2:len(found)-2]]
		if !ok && unknown == nil {
			unknown = fmt.Errorf("the placeholder %s has no value", found)
		}
		return value
	})
	return done, unknown
}
