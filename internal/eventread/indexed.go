package eventread

import "github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"

// Reads by the scope index. A type's bounds are written as comparisons of rows, which
// nothing but an index on both columns can use, with a type that the planner does not know: so it takes
// them for a range of a ninth of the table, whatever the statistics say, walks the index from bound to bound and
// expects to meet the limit soon. (In a table that is not many times as large as the limit, it may expect to read all, and sort; that
// does not hurt.) With aggregate_type = $4 AND global_position > $1 it may prefer
// the primary key, or another index and a sort.

const (
	lowerBoundSQL = `(aggregate_type, global_position) > (`
	upperBoundSQL = `(aggregate_type, global_position) <= (`
	// unknownTypeSQL keeps the planner from estimating by the type itself: of the commonest one it would expect next to
	// nothing, since few are greater, and sort all of it for each page.
	unknownTypeSQL = `(SELECT $4::text)`
	inTypeSQL      = "\nORDER BY aggregate_type, global_position "
)

// indexedTypeSQL is the statement that reads one type's events, which lie in
// the index in the order of their positions: $1 the lowest position, $2 the highest, $3
// the limit, $4 the type, and then what the shape asks for.
func indexedTypeSQL(f shape) string {
	return `
SELECT ` + f.columns() + ` FROM {{events}}
WHERE ` + dbguard.Primary + `
	AND ` + lowerBoundSQL + unknownTypeSQL + `, $1::bigint) AND ` + upperBoundSQL + unknownTypeSQL + `, $2::bigint)` + f.filters(5) + inTypeSQL + `LIMIT {{guarded limit}}`
}

// indexedTypesSQL is the statement that reads several types' events: $4 the types, $5 how many of
// each, and otherwise as indexedTypeSQL. Types must be sorted, so events are: each type's that are looked at are
// up to the cut, the lowest position at which one type has reached its number. So no more rows than types × $5 are read
// twice, and what is returned ends at the cut, or, if there is none, with the last event.
// Fewer than $5 rows mean that there was no cut, and no more than those.
func indexedTypesSQL(f shape) string {
	return `
WITH cut AS MATERIALIZED (
	SELECT least($2::bigint, min(last.global_position)) AS position
	FROM unnest($4::text[]) AS type (name), LATERAL (
		SELECT global_position FROM {{events}}
		WHERE ` + lowerBoundSQL + `type.name, $1::bigint) AND ` + upperBoundSQL + `type.name, $2)` + f.filters(6) + inTypeSQL + `OFFSET $5::bigint - 1 LIMIT 1
	) AS last
)
SELECT event.* FROM unnest($4::text[]) AS type (name), LATERAL (
	SELECT ` + f.columns() + ` FROM {{events}}
	WHERE ` + lowerBoundSQL + `type.name, $1) AND ` + upperBoundSQL + `type.name, (SELECT position FROM cut))` + f.filters(6) + inTypeSQL + `LIMIT $5
) AS event
WHERE ` + dbguard.Primary + `
ORDER BY event.global_position LIMIT {{guarded limit}}`
}

const (
	// mostIndexedTypes is how many types are read by the index.
	mostIndexedTypes = 32
	// mostWalked is how many events of one type a statement reads. The planner takes each for up to a random page, and for
	// more than jit_above_cost, which are 25,000 pages by default, it would spend 0.1 s on compiling the statement.
	mostWalked = 16_000
	// mostSorted is how many events of several types a statement reads: it looks at them twice, and sorts them, for which they are to fit
	// into work_mem.
	mostSorted = 4096
	// leastOfType is how many events of each type are worth a statement.
	leastOfType = 16
)

// limitsOfTypes is how many events a statement returns at most that is to
// return up to limit, and how many of each type it looks at: such that types × each is not much more than limit.
func limitsOfTypes(limit, types int) (most, each int) {
	most = min(limit, mostSorted)
	each = (most + types - 1) / types
	return most, min(most, max(each, leastOfType))
}
