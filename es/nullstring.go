package es

import "database/sql"

// NullString is a text that may be absent, stored as NULL. It is [database/sql.NullString], so it scans and encodes with
// every driver.
type NullString = sql.NullString

// String returns a NullString that holds s. The empty string also counts as present.
func String(s string) NullString { return NullString{String: s, Valid: true} }
