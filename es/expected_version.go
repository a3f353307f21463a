package es

import (
	"fmt"
	"strconv"
)

// ExpectedVersion says in which version an aggregate must be for an append to
// succeed. The zero value is Any.
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

// Any makes no demand on the aggregate's version.
func Any() ExpectedVersion { return ExpectedVersion{} }

// NoStream demands that the aggregate has no events yet.
func NoStream() ExpectedVersion { return ExpectedVersion{kind: expectNoStream} }

// Exact demands that the aggregate is at version. Exact(0) means the same as
// NoStream. It panics if version is negative, which no aggregate can be.
func Exact(version int64) ExpectedVersion {
	if version < 0 {
		panic(fmt.Sprintf("es.Exact: version must not be negative, got %d", version))
	}
	return ExpectedVersion{kind: expectExact, version: version}
}

// IsAny says whether every version is accepted.
func (v ExpectedVersion) IsAny() bool { return v.kind == expectAny }

// IsNoStream says whether the aggregate must not exist.
func (v ExpectedVersion) IsNoStream() bool { return v.kind == expectNoStream }

// IsExact says whether one particular version is demanded.
func (v ExpectedVersion) IsExact() bool { return v.kind == expectExact }

// Value is the demanded version: 0 for NoStream, and for Any, which demands none.
func (v ExpectedVersion) Value() int64 { return v.version }

// Allows says whether an aggregate at version current meets the expectation.
func (v ExpectedVersion) Allows(current int64) bool {
	return v.kind == expectAny || v.version == current
}

// String describes the expectation for messages and logs.
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
