package migrate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrShape says that a table is missing or is not as the program needs it. The text around it names the table and what is wrong.
var ErrShape = errors.New("a table is not as this program needs it")

// Table is what a program relies on in a table. More columns, indexes and constraints do no harm.
type Table struct {
	Name    string
	Columns []Column
	// Unique are sets of columns whose values together are unique in all rows. A partitioned table's index may have the columns of the
	// partition key besides.
	Unique [][]string
	// Constraints are further constraints, as Describe writes them.
	Constraints []string
	// AllRows demands that no row-level security hides rows from the role.
	AllRows bool
	// Since is the migration that makes the table, where no later one changes it: the table is made sure of from then on. 0 means that it is only
	// made sure of after the last migration.
	Since int
	// Permanent refuses an unlogged table, which is empty after a crash.
	Permanent bool
}

// Column is a column that a program relies on.
type Column struct {
	Name string
	// Types are the types that it may have, as format_type writes them without a modifier. A domain counts as its base type.
	Types   []string
	NotNull bool
	Default bool // it has a default, or is an identity column
}

// found is a relation as the catalogs describe it.
type found struct {
	Name        string        `json:"name"`
	Kind        string        `json:"kind"`
	Persistence string        `json:"persistence"`
	Hidden      bool          `json:"hidden"`
	Partition   []string      `json:"partition"`
	Columns     []foundColumn `json:"columns"`
	Unique      []foundUnique `json:"unique"`
	Constraints []string      `json:"constraints"`
}

type foundColumn struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	NotNull bool   `json:"not_null"`
	Default bool   `json:"default"`
}

type foundUnique struct {
	Columns   []string `json:"columns"`
	Whole     bool     `json:"whole"` // of all rows and plain columns
	Immediate bool     `json:"immediate"`
}

// shapesSQL describes the relations named $2 in the schema $1, as JSON. Row security is only asked of tables, since it is of
// nothing else.
const shapesSQL = `
SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
	'name', c.relname, 'kind', c.relkind, 'persistence', c.relpersistence,
	'hidden', c.relkind IN ('r', 'p') AND pg_catalog.row_security_active(c.oid),
	'partition', ARRAY(
		SELECT a.attname::text FROM pg_catalog.pg_partitioned_table AS p
		CROSS JOIN pg_catalog.unnest(p.partattrs::pg_catalog.int2[]) AS k (attnum)
		JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.attnum
		WHERE p.partrelid = c.oid),
	'columns', ARRAY(
		SELECT pg_catalog.json_build_object('name', a.attname,
			'type', pg_catalog.format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL),
			'not_null', a.attnotnull OR t.typnotnull, 'default', a.atthasdef OR a.attidentity <> '')
		FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
		WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
	'unique', ARRAY(
		SELECT pg_catalog.json_build_object(
			'columns', ARRAY(
				SELECT coalesce(a.attname::text, '(expression)')
				FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS k (attnum, n)
				LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.attnum
				WHERE k.n <= i.indnkeyatts ORDER BY k.n),
			'whole', i.indpred IS NULL AND i.indexprs IS NULL, 'immediate', i.indimmediate)
		FROM pg_catalog.pg_index AS i
		WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid ORDER BY i.indexrelid),
	'constraints', ARRAY(
		SELECT CASE o.contype WHEN 'c' THEN 'check' WHEN 'f' THEN 'foreign key' ELSE 'exclude' END
			|| ' (' || coalesce((SELECT pg_catalog.string_agg(a.attname, ', ' ORDER BY a.attname) FROM pg_catalog.pg_attribute AS a
				WHERE a.attrelid = c.oid AND a.attnum = ANY (o.conkey)), '') || ')'
			|| coalesce(' to ' || (SELECT r.relname FROM pg_catalog.pg_class AS r WHERE r.oid = o.confrelid), '')
			|| CASE o.confdeltype WHEN 'c' THEN ' on delete cascade' ELSE '' END
		FROM pg_catalog.pg_constraint AS o
		WHERE o.conrelid = c.oid AND o.contype IN ('c', 'f', 'x') AND o.convalidated ORDER BY o.oid))), '[]')::text
FROM pg_catalog.pg_class AS c
WHERE c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = $1::text) AND c.relname = ANY ($2::text[])`

// Verify says whether the tables in the schema are as they must be. The error wraps ErrShape if one is not.
func Verify(ctx context.Context, db Querier, schema string, tables []Table) error {
	relations, err := describe(ctx, db, schema, tables)
	if err != nil {
		return err
	}
	for _, t := range tables {
		if wrong := t.wrong(relations); wrong != "" {
			return fmt.Errorf("%w: %s: %s", ErrShape, Qualify(schema, t.Name).Sanitize(), wrong)
		}
	}
	return nil
}

// describe reads the catalogs.
func describe(ctx context.Context, db Querier, schema string, tables []Table) (map[string]found, error) {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.Name
	}
	var text string
	if err := db.QueryRow(ctx, shapesSQL, oneTrip, schema, names).Scan(&text); err != nil {
		return nil, fmt.Errorf("reading how the tables are made: %w", err)
	}
	var all []found
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil, fmt.Errorf("reading how the tables are made: %w", err)
	}
	relations := make(map[string]found, len(all))
	for _, f := range all {
		for i := range f.Columns {
			name := strings.ReplaceAll(f.Columns[i].Type, `"`, "") // of quote_all_identifiers
			f.Columns[i].Type = strings.TrimPrefix(name, "pg_catalog.")
		}
		relations[f.Name] = f
	}
	return relations, nil
}

// kinds names what is not a table.
var kinds = map[string]string{
	"v": "a view", "m": "a materialized view", "i": "an index", "I": "an index", "S": "a sequence", "f": "a foreign table", "c": "a composite type",
}

// wrong says what is wrong with the table, or nothing.
func (t Table) wrong(relations map[string]found) string {
	f, ok := relations[t.Name]
	switch {
	case !ok:
		return "the table is missing: other names were configured when the tables were made, or it was dropped"
	case f.Kind != "r" && f.Kind != "p":
		return fmt.Sprintf("it must be a table, and is %s", kinds[f.Kind])
	case f.Persistence == "u" && t.Permanent:
		return "it must not be unlogged, since it would be empty after a crash of the server"
	case f.Hidden && t.AllRows:
		return "row-level security hides rows of it from this role: use a role that sees all, such as one with BYPASSRLS"
	}
	for _, c := range t.Columns {
		if wrong := c.wrong(f.Columns); wrong != "" {
			return wrong
		}
	}
	for _, columns := range t.Unique {
		if !f.isUnique(columns) {
			return fmt.Sprintf("(%s) must be unique: a primary key, a unique constraint or a unique index on exactly these columns is missing, or is not valid",
				strings.Join(columns, ", "))
		}
	}
	return f.lacks(t.Constraints)
}

// wrong says what is wrong with the column, or nothing.
func (c Column) wrong(columns []foundColumn) string {
	i := slices.IndexFunc(columns, func(f foundColumn) bool { return f.Name == c.Name })
	switch {
	case i < 0:
		return fmt.Sprintf("the column %s is missing", c.Name)
	case !slices.Contains(c.Types, columns[i].Type):
		return fmt.Sprintf("the column %s must be of type %s, and is of type %s", c.Name, strings.Join(c.Types, " or "), columns[i].Type)
	case c.NotNull && !columns[i].NotNull:
		return fmt.Sprintf("the column %s must be NOT NULL", c.Name)
	case c.Default && !columns[i].Default:
		return fmt.Sprintf("the column %s must have a default", c.Name)
	}
	return ""
}

// isUnique says whether an index keeps the columns' values unique, at once and in all rows.
func (f found) isUnique(columns []string) bool {
	return slices.ContainsFunc(f.Unique, func(u foundUnique) bool {
		if !u.Whole || !u.Immediate {
			return false
		}
		missing := slices.ContainsFunc(columns, func(c string) bool { return !slices.Contains(u.Columns, c) })
		more := slices.ContainsFunc(u.Columns, func(c string) bool { return !slices.Contains(columns, c) && !slices.Contains(f.Partition, c) })
		return !missing && !more
	})
}

// lacks says which of the constraints is missing, or nothing. Equal ones are counted.
func (f found) lacks(constraints []string) string {
	has := f.described()
	for _, c := range constraints {
		i := slices.Index(has, c)
		if i < 0 {
			return fmt.Sprintf("the constraint %s is missing, or is not valid", c)
		}
		has = slices.Delete(has, i, i+1)
	}
	return ""
}

// described is every constraint, and every unique index that is not of all rows.
func (f found) described() []string {
	all := slices.Clone(f.Constraints)
	for _, u := range f.Unique {
		if !u.Whole {
			all = append(all, fmt.Sprintf("unique (%s) in part", strings.Join(u.Columns, ", ")))
		}
	}
	slices.Sort(all)
	return all
}
