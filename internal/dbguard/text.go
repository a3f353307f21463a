package dbguard

import "strings"

// Storable is text as a column of type text takes it: valid UTF-8 without zeros.
func Storable(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}
