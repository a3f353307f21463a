package eventrow

// What the tests look at.
var (
	Decode    = decode
	Decodable = decodable

	ParseBytes = parseBytes
)

// NewScanner makes a scanner that decodes all rows, or none.
func NewScanner(decodes bool) Scanner { return Scanner{known: true, decodable: decodes} }
