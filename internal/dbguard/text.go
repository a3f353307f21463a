package dbguard

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Encoding is an expression for the encoding of the database, as Storable takes it.
const Encoding = `pg_catalog.getdatabaseencoding()::pg_catalog.text`

// Storable is text as a column of type text takes it in a database with the encoding: valid UTF-8 without zeros. Characters that the
// encoding may lack are escaped, or the statement would fail at every attempt.
func Storable(text, encoding string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
	most := highest(encoding)
	if !strings.ContainsFunc(text, func(r rune) bool { return r > most }) {
		return text
	}
	var escaped strings.Builder
	for _, r := range text {
		if r <= most {
			escaped.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		escaped.WriteString(quoted[1 : len(quoted)-1])
	}
	return escaped.String()
}

// highest is the highest character up to which an encoding surely has all.
func highest(encoding string) rune {
	switch encoding {
	case "UTF8", "SQL_ASCII":
		return utf8.MaxRune
	case "LATIN1":
		return unicode.MaxLatin1
	}
	return unicode.MaxASCII
}
