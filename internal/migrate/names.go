package migrate

import (
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// MaxName is the length in bytes at which PostgreSQL cuts a name off.
const MaxName = 63

// ValidateName says whether value can be the name of a schema or a table: not
// empty, at most 63 bytes, and made of letters, digits, underscores and
// hyphens. Names are always quoted, so upper and lower case differ. The error
// begins with field.
func ValidateName(field, value string) error {
	switch {
	case value == "":
		return fmt.Errorf("%s must not be empty", field)
	case len(value) > MaxName:
		return fmt.Errorf("%s must be at most %d bytes long, got %d", field, MaxName, len(value))
	case !utf8.ValidString(value):
		return fmt.Errorf("%s must be valid UTF-8, got %q", field, value)
	}
	for _, r := range value {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '_' && r != '-' {
			return fmt.Errorf("%s must consist of letters, digits, underscores and hyphens, got %q", field, value)
		}
	}
	return nil
}

// ValidateSchema is ValidateName for a schema, which may be empty: the
// connection's search_path decides then.
func ValidateSchema(field, value string) error {
	if value == "" {
		return nil
	}
	return ValidateName(field, value)
}

// Qualify is the identifier of a table: two parts if there is a schema, else one.
func Qualify(schema, table string) pgx.Identifier {
	if schema == "" {
		return pgx.Identifier{table}
	}
	return pgx.Identifier{schema, table}
}
