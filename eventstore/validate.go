package eventstore

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// Limits of an append. PostgreSQL's own limits are close: about 2,700 bytes for an index row, and 1 GB for a value or a
// message.
const (
	// MaxNameLength is the limit, in bytes, of BoundedContext, AggregateType and
	// EventType.
	MaxNameLength = 255
	// MaxIDLength is the limit, in bytes, of AggregateID, TraceID, CorrelationID
	// and CausationID.
	MaxIDLength = 1024
	// MaxPayloadLength is the limit, in bytes, of one event's Payload. It also applies to its Metadata.
	MaxPayloadLength = 64 << 20
	// MaxAppendLength is the limit, in bytes, of all payloads and metadata of one
	// append.
	MaxAppendLength = 256 << 20
)

// maxYear is the last year of a CreatedAt; later ones have no standard notation.
const maxYear = 9999

// validate checks the events of one append, before the database is asked.
func validate(events []es.Event) error {
	if len(events) == 0 {
		return ErrNoEvents
	}
	total := 0
	for i := range events {
		e := &events[i]
		err := checkFields(e)
		if err == nil {
			err = checkSameAggregate(&events[0], e)
		}
		if err != nil {
			return fmt.Errorf("%w: event %d: %w", ErrInvalidEvent, i, err)
		}
		total += len(e.Payload) + len(e.Metadata)
		if total > MaxAppendLength {
			return fmt.Errorf("%w: event %d: Payload and Metadata of one append must be at most %d bytes in all", ErrInvalidEvent, i, MaxAppendLength)
		}
	}
	return nil
}

func checkFields(e *es.Event) error {
	names := [...]struct {
		field, value string
		limit        int
	}{
		{"BoundedContext", e.BoundedContext, MaxNameLength},
		{"AggregateType", e.AggregateType, MaxNameLength},
		{"AggregateID", e.AggregateID, MaxIDLength},
		{"EventType", e.EventType, MaxNameLength},
	}
	for _, n := range names {
		if n.value == "" {
			return fmt.Errorf("%s must not be empty", n.field)
		}
		if err := checkText(n.field, n.value, n.limit); err != nil {
			return err
		}
	}
	ids := [...]struct {
		field string
		value es.NullString
	}{
		{"TraceID", e.TraceID},
		{"CorrelationID", e.CorrelationID},
		{"CausationID", e.CausationID},
	}
	for _, id := range ids {
		if !id.value.Valid {
			continue
		}
		if err := checkText(id.field, id.value.String, MaxIDLength); err != nil {
			return err
		}
	}
	return checkContent(e)
}

// checkText says whether a text column takes value.
func checkText(field, value string, limit int) error {
	switch {
	case len(value) > limit:
		return fmt.Errorf("%s must be at most %d bytes long, got %d", field, limit, len(value))
	case strings.IndexByte(value, 0) >= 0:
		return fmt.Errorf("%s must not contain a NUL byte, got %q", field, value)
	case !utf8.ValidString(value):
		return fmt.Errorf("%s must be valid UTF-8, got %q", field, value)
	}
	return nil
}

func checkContent(e *es.Event) error {
	switch {
	case e.EventVersion < 0 || e.EventVersion > math.MaxInt32:
		return fmt.Errorf("EventVersion must be between 0 and %d, got %d", math.MaxInt32, e.EventVersion)
	case len(e.Payload) > MaxPayloadLength:
		return fmt.Errorf("Payload must be at most %d bytes long, got %d", MaxPayloadLength, len(e.Payload))
	case len(e.Metadata) > MaxPayloadLength:
		return fmt.Errorf("Metadata must be at most %d bytes long, got %d", MaxPayloadLength, len(e.Metadata))
	}
	if year := e.CreatedAt.UTC().Year(); year < 1 || year > maxYear {
		return fmt.Errorf("CreatedAt must be in the years 1 to %d, got year %d", maxYear, year)
	}
	return checkMetadata(e.Metadata)
}

// checkMetadata says whether a jsonb column takes the document. Rarer faults are
// left to the database: half surrogate pairs, numbers beyond numeric's range.
func checkMetadata(document []byte) error {
	switch {
	case len(document) == 0:
		return nil
	case !json.Valid(document):
		return fmt.Errorf("Metadata must be valid JSON, got %.100q", document)
	case !utf8.Valid(document):
		return fmt.Errorf("Metadata must be valid UTF-8, got %.100q", document)
	case hasNulEscape(document):
		return fmt.Errorf(`Metadata must not contain the escape \u0000, got %.100q`, document)
	}
	return nil
}

// hasNulEscape says whether valid JSON contains the escape \u0000, which jsonb
// cannot hold. In JSON a backslash always begins an escape of its own.
func hasNulEscape(document []byte) bool {
	for {
		i := bytes.IndexByte(document, '\\')
		if i < 0 {
			return false
		}
		if bytes.HasPrefix(document[i:], []byte(`\u0000`)) {
			return true
		}
		document = document[i+2:]
	}
}

// checkSameAggregate says whether an event belongs to the same aggregate as the
// append's first one.
func checkSameAggregate(first, e *es.Event) error {
	switch {
	case e.BoundedContext != first.BoundedContext:
		return mixed("BoundedContext", first.BoundedContext, e.BoundedContext)
	case e.AggregateType != first.AggregateType:
		return mixed("AggregateType", first.AggregateType, e.AggregateType)
	case e.AggregateID != first.AggregateID:
		return mixed("AggregateID", first.AggregateID, e.AggregateID)
	}
	return nil
}

func mixed(field, first, got string) error {
	return fmt.Errorf("%s must be the same in all events of one append (%q), got %q", field, first, got)
}
