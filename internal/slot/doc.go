// Package slot divides the stream. A slot is hashtextextended(aggregate_id, 0) & 65535, computed by PostgreSQL. It does
// not change when the number of partitions changes. A partition k of N is a range of slots. A checkpoint is a range of
// slots with the position that a projection has reached in it.
//
// The package is pure: values and functions of values. It is outside the
// module's compatibility promise.
package slot
