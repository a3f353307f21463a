package migrate

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// files makes a file system of names and contents in turn.
func files(namesAndContents ...string) fstest.MapFS {
	fsys := make(fstest.MapFS)
	for i := 0; i < len(namesAndContents); i += 2 {
		fsys[namesAndContents[i]] = &fstest.MapFile{Data: []byte(namesAndContents[i+1])}
	}
	return fsys
}

func TestAFaultyFileSetIsRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		fsys fstest.MapFS
		want string
	}{
		{"nothing", files(), "there are no migration files"},
		{"nothing but others", files("readme.md", ""), "there are no migration files"},
		{"a name without number", files("init.up.sql", ""), "migration file init.up.sql: the name must be like 000001_init.up.sql"},
		{"a name without direction", files("000001_init.sql", ""), "migration file 000001_init.sql: the name must be like"},
		{"number zero", files("000000_init.up.sql", "", "000000_init.down.sql", ""), "the number must be at least 1"},
		{"a huge number", files("99999999999999999999_init.up.sql", ""), "the number must be at least 1 and fit an int"},
		{"no down", files("000001_init.up.sql", ""), "migration file 000001_init.up.sql: the matching .down.sql is missing"},
		{"no up", files("000001_init.down.sql", ""), "migration file 000001_init.down.sql: the matching .up.sql is missing"},
		{
			"a gap", files("000001_a.up.sql", "", "000001_a.down.sql", "", "000003_b.up.sql", "", "000003_b.down.sql", ""),
			"migration 2 is missing, there is a migration 3",
		},
		{"no first", files("000002_a.up.sql", "", "000002_a.down.sql", ""), "migration 1 is missing"},
		{"a number twice", files("000001_a.up.sql", "", "000001_b.up.sql", ""), "migration file 000001_b.up.sql: another file has the number 1"},
		{"a number in two spellings", files("000001_a.up.sql", "", "1_a.up.sql", ""), "another file has the number 1"},
		{"names that differ", files("000001_a.up.sql", "", "000001_b.down.sql", ""), "another file has the number 1"},
		{
			"an unknown placeholder", files("000001_a.up.sql", "SELECT {{nothing}}", "000001_a.down.sql", ""),
			"migration file 000001_a.up.sql: the placeholder {{nothing}} has no value",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := New(Config{Files: tt.fsys, VersionTable: "version"})
			require.ErrorContains(t, err, tt.want)
		})
	}
}

func TestFilesAreOrderedByNumberAndTheirPlaceholdersFilledIn(t *testing.T) {
	t.Parallel()
	fsys := make(fstest.MapFS)
	for _, name := range []string{"01_a", "2_b", "3_c", "4_d", "5_e", "6_f", "7_g", "8_h", "9_i", "10_j"} {
		fsys[name+".up.sql"] = &fstest.MapFile{Data: []byte("up " + name + " {{schema}}t {{x}}{{x}}")}
		fsys[name+".down.sql"] = &fstest.MapFile{Data: []byte("down " + name)}
	}
	r, err := New(Config{Files: fsys, Schema: `S`, VersionTable: "version", Placeholders: map[string]string{"x": "$1"}})
	require.NoError(t, err)
	assert.Equal(t, 10, r.Latest())
	assert.Equal(t, `up 01_a "S".t $1$1`, r.migrations[0].up.sql)
	assert.Equal(t, `up 10_j "S".t $1$1`, r.migrations[9].up.sql)
	assert.Equal(t, `down 10_j`, r.migrations[9].down.sql)
	assert.Equal(t, "j", r.migrations[9].name)

	r, err = New(Config{Files: files("1_a.up.sql", "{{schema}}t", "1_a.down.sql", ""), VersionTable: "version"})
	require.NoError(t, err)
	assert.Equal(t, "t", r.migrations[0].up.sql)
}

func TestNamesThatPostgreSQLWouldChangeAreRefused(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"events", "Events-2", "événements", "_", "select"} {
		require.NoError(t, ValidateName("Field", good))
	}
	long := make([]byte, 64)
	for i := range long {
		long[i] = 'x'
	}
	require.NoError(t, ValidateName("Field", string(long[:63])))
	tests := []struct{ name, want string }{
		{"", "Field must not be empty"},
		{string(long), "Field must be at most 63 bytes long, got 64"},
		{"\xff", "Field must be valid UTF-8"},
		{"a.b", `Field must consist of letters, digits, underscores and hyphens, got "a.b"`},
		{`a"b`, "Field must consist of"},
		{"a'b", "Field must consist of"},
		{"a b", "Field must consist of"},
		{"a$b", "Field must consist of"},
		{"a\x00", "Field must consist of"},
	}
	for _, tt := range tests {
		require.ErrorContains(t, ValidateName("Field", tt.name), tt.want)
	}
	require.NoError(t, ValidateSchema("Schema", ""))
	_, err := New(Config{Files: files(), Schema: "a;b", VersionTable: "version"})
	require.ErrorContains(t, err, "Schema must consist of")
	_, err = New(Config{Files: files(), VersionTable: ""})
	require.ErrorContains(t, err, "VersionTable must not be empty")
}
