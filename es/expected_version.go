package es

import (
	"fmt"
	"strconv"
)

// ExpectedVersion is the version that an aggregate must have for an append to succeed. The zero value is Any.
type ExpectedVersion struct {
	kind    expectation
	version int64
}

type expectation uint8

const (
	expectAny expectation = iota
	expectNoStream
	expectExact
)

// Any accepts every version of the aggregate.
func Any() ExpectedVersion { return ExpectedVersion{} }

// NoStream requires that the aggregate has no events yet.
func NoStream() ExpectedVersion { return ExpectedVersion{kind: expectNoStream} }

// Exact requires that the aggregate is at version. Exact(0) means the same as NoStream. It panics if version is
// negative.
func Exact(version int64) ExpectedVersion {
	if version < 0 {
		panic(fmt.Sprintf("es.Exact: version must not be negative, got %d", version))
	}
	return ExpectedVersion{kind: expectExact, version: version}
}

// IsAny reports whether every version is accepted.
func (v ExpectedVersion) IsAny() bool { return v.kind == expectAny }

// IsNoStream reports whether the aggregate must not exist.
func (v ExpectedVersion) IsNoStream() bool { return v.kind == expectNoStream }

// IsExact reports whether one particular version is required.
func (v ExpectedVersion) IsExact() bool { return v.kind == expectExact }

// Value returns the required version. It is 0 for NoStream, and for Any, which requires none.
func (v ExpectedVersion) Value() int64 { return v.version }

// Allows reports whether an aggregate at version current meets the expectation.
func (v ExpectedVersion) Allows(current int64) bool {
	return v.kind == expectAny || v.version == current
}

// String describes the expected version for messages and logs.
func (v ExpectedVersion) String() string {
	switch v.kind {
	case expectNoStream:
		return "no stream"
	case expectExact:
		return "version " + strconv.FormatInt(v.version, 10)
	default:
		return "any version"
	}
}
