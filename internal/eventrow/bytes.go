package eventrow

import (
	"bytes"
	"encoding/hex"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// payloadColumn is the payload's place in Columns.
const payloadColumn = 8

// asText says whether the payload comes as a text, which pgx reads in one of its two forms only. Whoever had the connection before may have left
// the other one behind (bytea_output).
func asText(fields []pgconn.FieldDescription) bool {
	if len(fields) <= payloadColumn {
		return false
	}
	f := &fields[payloadColumn]
	return f.DataTypeOID == pgtype.ByteaOID && f.Format == pgtype.TextFormatCode
}

var errBytes = errors.New("the payload is in neither of the forms of bytea_output")

// parseBytes reads a bytea's text: \x and hexadecimal digits, or, in the other form, bytes of which some are written as \\ or as \ and three octal
// digits. That form never begins with \x.
func parseBytes(text []byte) ([]byte, error) {
	if text == nil {
		return nil, nil
	}
	if digits, ok := bytes.CutPrefix(text, []byte(`\x`)); ok {
		parsed := make([]byte, hex.DecodedLen(len(digits)))
		if _, err := hex.Decode(parsed, digits); err != nil {
			return nil, errBytes
		}
		return parsed, nil
	}
	parsed := make([]byte, 0, len(text))
	for len(text) > 0 {
		switch {
		case text[0] != '\\':
			parsed, text = append(parsed, text[0]), text[1:]
		case len(text) >= 2 && text[1] == '\\':
			parsed, text = append(parsed, '\\'), text[2:]
		case len(text) >= 4 && isOctal(text[1:4]):
			parsed, text = append(parsed, (text[1]-'0')<<6|(text[2]-'0')<<3|(text[3]-'0')), text[4:]
		default:
			return nil, errBytes
		}
	}
	return parsed, nil
}

func isOctal(digits []byte) bool {
	return digits[0] >= '0' && digits[0] <= '3' && digits[1] >= '0' && digits[1] <= '7' && digits[2] >= '0' && digits[2] <= '7'
}
