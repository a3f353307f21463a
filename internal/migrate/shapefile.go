package migrate

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Describe writes down what the tables in the schema are made of, one line for each thing that ParseTables reads.
func Describe(ctx context.Context, db Querier, schema string, names []string) (string, error) {
	tables := make([]Table, len(names))
	for i, name := range names {
		tables[i].Name = name
	}
	relations, err := describe(ctx, db, schema, tables)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, name := range names {
		f := relations[name]
		fmt.Fprintf(&b, "table %s\n", name)
		for _, c := range f.Columns {
			fmt.Fprintf(&b, "column %s %s", c.Name, c.Type)
			if c.NotNull {
				b.WriteString(" not null")
			}
			if c.Default {
				b.WriteString(" default")
			}
			b.WriteString("\n")
		}
		for _, u := range f.Unique {
			if u.Whole {
				fmt.Fprintf(&b, "unique %s\n", strings.Join(u.Columns, " "))
			}
		}
		for _, c := range f.described() {
			fmt.Fprintf(&b, "constraint %s\n", c)
		}
	}
	return b.String(), nil
}

// ParseTables reads what Describe wrote. The tables must be permanent, and the role must see all rows.
func ParseTables(text string) ([]Table, error) {
	var tables []Table
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		kind, rest, _ := strings.Cut(line, " ")
		if kind == "table" {
			tables = append(tables, Table{Name: rest, AllRows: true, Permanent: true})
			continue
		}
		if len(tables) == 0 {
			return nil, fmt.Errorf("the line %q is before the first table", line)
		}
		t := &tables[len(tables)-1]
		switch kind {
		case "column":
			t.Columns = append(t.Columns, parseColumn(rest))
		case "unique":
			t.Unique = append(t.Unique, strings.Fields(rest))
		case "constraint":
			t.Constraints = append(t.Constraints, rest)
		default:
			return nil, fmt.Errorf("the line %q begins with none of table, column, unique, constraint", line)
		}
	}
	return tables, nil
}

func parseColumn(text string) Column {
	text, hasDefault := strings.CutSuffix(text, " default")
	text, notNull := strings.CutSuffix(text, " not null")
	name, kind, _ := strings.Cut(text, " ")
	return Column{Name: name, Types: []string{kind}, NotNull: notNull, Default: hasDefault}
}

// Names are those of the tables, in order.
func Names(tables []Table) []string {
	names := make([]string, 0, len(tables))
	for _, t := range tables {
		names = append(names, t.Name)
	}
	return slices.Clip(names)
}
