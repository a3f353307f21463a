package migrate

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// ExportOptions says what to export, and for which tool.
type ExportOptions struct {
	// From is the version that the database is at; 0 where there are no tables. To is the version that it is to have; 0 means the latest.
	From, To int
	// Down exports the way back, from To to From.
	Down bool
	// Format is one of Formats. Empty means plain.
	Format string
}

// Formats are the forms that Export knows.
var Formats = []string{"plain", "goose", "golang-migrate", "tern"}

// Export writes the migrations as one file that another tool runs. The file does what the Runner would have done: it waits for the migration lock, refuses a
// database that is not at the version, and records the versions.
func (r *Runner) Export(w io.Writer, o ExportOptions) error {
	if o.To == 0 {
		o.To = r.Latest()
	}
	switch {
	case o.Format == "":
		o.Format = "plain"
	case !slices.Contains(Formats, o.Format):
		return fmt.Errorf("the Format must be one of %s, got %q", strings.Join(Formats, ", "), o.Format)
	}
	switch {
	case o.From < 0:
		return fmt.Errorf("From must not be negative, got %d", o.From)
	case o.To > r.Latest():
		return fmt.Errorf("To must be at most %d, the latest version, got %d", r.Latest(), o.To)
	case o.From >= o.To:
		return fmt.Errorf("From must be below To, got From %d and To %d: Down says that the way back is meant", o.From, o.To)
	case o.Down && (o.Format == "goose" || o.Format == "tern"):
		return fmt.Errorf("a file in the form of %s has both directions: Down must be false", o.Format)
	}
	var text strings.Builder
	switch o.Format {
	case "goose":
		text.WriteString("-- +goose Up\n-- +goose StatementBegin\n" + r.upScript(o) + "-- +goose StatementEnd\n\n")
		text.WriteString("-- +goose Down\n-- +goose StatementBegin\n" + r.downScript(o) + "-- +goose StatementEnd\n")
	case "tern":
		text.WriteString(r.upScript(o) + "\n---- create above / drop below ----\n\n" + r.downScript(o))
	default:
		script := r.upScript(o)
		if o.Down {
			script = r.downScript(o)
		}
		text.WriteString("BEGIN;\n\n" + script + "\nCOMMIT;\n")
	}
	if _, err := io.WriteString(w, text.String()); err != nil {
		return fmt.Errorf("writing the migrations: %w", err)
	}
	return nil
}

// upScript is the statements from From to To.
func (r *Runner) upScript(o ExportOptions) string {
	var b strings.Builder
	r.lockScript(&b)
	if o.From == 0 {
		if r.schema != "" {
			fmt.Fprintf(&b, "DO $$ BEGIN\n    IF to_regnamespace(%s) IS NULL THEN\n        %s;\n    END IF;\nEND $$;\n\n",
				literal(pgx.Identifier{r.schema}.Sanitize()), fmt.Sprintf(createSchemaSQL, pgx.Identifier{r.schema}.Sanitize()))
		}
		fmt.Fprintf(&b, createTableSQL+";\n\n", r.exportedVersions())
	}
	r.expectScript(&b, o.From)
	for _, m := range r.migrations[o.From:o.To] {
		fmt.Fprintf(&b, "-- %s\n%s\n", m.up.name, terminated(m.up.sql))
		fmt.Fprintf(&b, "INSERT INTO %s (version, name) VALUES (%d, %s);\n\n", r.exportedVersions(), m.version, literal(m.name))
	}
	return b.String()
}

// downScript is the statements from To back to From. The version table goes with the first migration, which has made it.
func (r *Runner) downScript(o ExportOptions) string {
	var b strings.Builder
	r.lockScript(&b)
	r.expectScript(&b, o.To)
	for _, m := range slices.Backward(r.migrations[o.From:o.To]) {
		fmt.Fprintf(&b, "-- %s\n%s\n", m.down.name, terminated(m.down.sql))
		fmt.Fprintf(&b, "DELETE FROM %s WHERE version = %d;\n\n", r.exportedVersions(), m.version)
	}
	if o.From == 0 {
		fmt.Fprintf(&b, "DROP TABLE %s;\n", r.exportedVersions())
	}
	return b.String()
}

// lockScript waits for the migration lock.
func (r *Runner) lockScript(b *strings.Builder) {
	fmt.Fprintf(b, "-- The lock that the library's own migrations take.\nDO $$ BEGIN\n    PERFORM pg_advisory_xact_lock(%d);\nEND $$;\n\n", lockKey)
}

// expectScript fails where the tables are not at a version.
func (r *Runner) expectScript(b *strings.Builder, version int) {
	fmt.Fprintf(b, `DO $$
DECLARE
    found int := (SELECT coalesce(max(version), 0) FROM %[1]s);
BEGIN
    IF found <> %[2]d THEN
        RAISE EXCEPTION 'this file is for version %[2]d of the tables, and %% says that they are at version %%', %[3]s, found;
    END IF;
END $$;

`, r.exportedVersions(), version, literal(r.versionTable))
}

// exportedVersions is the version table as an exported file names it.
func (r *Runner) exportedVersions() string { return Qualify(r.schema, r.versionTable).Sanitize() }

// terminated is SQL whose last statement ends with a semicolon.
func terminated(sql string) string {
	sql = strings.TrimRight(sql, " \n\t")
	if !strings.HasSuffix(sql, ";") {
		sql += ";"
	}
	return sql
}

// literal is a text as a constant.
func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
