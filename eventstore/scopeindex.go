package eventstore

import "context"

// scopeIndex is the index on types and positions. It serves where the rows of one type lie in it in the order of their positions, and types
// that are equal are the same text. A type char(n) is compared as text, which an index of it does not serve.
var scopeIndex = &indexKind{
	word: "scope", built: "(aggregate_type, global_position)", columns: []string{"aggregate_type", "global_position"},
	methods: "InstallScopeIndex or RemoveScopeIndex",
	table: `pg_catalog.pg_attribute type_column JOIN pg_catalog.pg_attribute position_column USING (attrelid)
	WHERE attrelid = to_regclass($1) AND type_column.attname = 'aggregate_type' AND position_column.attname = 'global_position'`,
	serving: completeSQL + ` AND i.indexprs IS NULL
	AND i.indnkeyatts >= 2 AND i.indkey[0] = type_column.attnum AND i.indkey[1] = position_column.attnum
	AND i.indoption[1] = 0 AND i.indcollation[0] = type_column.attcollation
	AND (SELECT opcdefault FROM pg_catalog.pg_opclass WHERE oid = i.indclass[1])
	AND (SELECT collisdeterministic FROM pg_catalog.pg_collation WHERE oid = type_column.attcollation)
	AND (SELECT opcintype FROM pg_catalog.pg_opclass WHERE oid = i.indclass[0]) = 'pg_catalog.text'::pg_catalog.regtype`,
	refused: `(type_column.atttypid = 'pg_catalog.bpchar'::pg_catalog.regtype
	OR NOT (SELECT collisdeterministic FROM pg_catalog.pg_collation WHERE oid = type_column.attcollation))`,
	why: "aggregate_type must be of the type text or varchar, and its collation deterministic",
}

// InstallScopeIndex builds an index of the events by aggregate type and position. Projections that want few of the
// events then read only those. Workers notice the index within seconds, and use it where that is quicker.
//
// The index pays for projections with AggregateTypes that want less than a tenth of the events and catch up over many.
// They no longer scan the rest of the stream, which costs 0.2 µs per event. Each append writes an entry in one more
// index. The index takes about 32 bytes of disk per event, and more for long type names.
//
// InstallScopeIndex may be repeated, and several processes may call it at once. It does nothing if a suitable index
// exists (see [Store.HasScopeIndex]). It rebuilds an index that an interrupted build has left behind. If a build fails,
// it drops the remains, or its error says that it could not.
//
// The index is built CONCURRENTLY, so appends continue. The build waits for open transactions and other builds until ctx
// ends. db must be a pool or a connection, and not in a transaction. During the build, another connection, opened with
// db's configuration, holds a lock. The role must own the table, and needs CREATE on its schema. If a right is missing,
// the error names it and its GRANT. The role's timeouts do not apply, except behind a pooler, where they can end the
// build; use a direct connection there. It is an error if the events table is partitioned, or if aggregate_type is of the
// type char(n) or has a collation that is not deterministic.
func (s *Store) InstallScopeIndex(ctx context.Context, db Execer) error {
	return s.installIndex(ctx, db, scopeIndex)
}

// RemoveScopeIndex drops the index of InstallScopeIndex if it exists, and the remains of an interrupted install or
// removal. An index with another name stays. Workers scan the whole stream again within a second. Until then a read may
// be slow. It waits for open transactions and builds until ctx ends. db and the role's rights are as for
// InstallScopeIndex.
func (s *Store) RemoveScopeIndex(ctx context.Context, db Execer) error {
	return s.removeIndex(ctx, db, scopeIndex)
}

// HasScopeIndex reports whether an index, whatever its name, serves as the scope index. It must be a complete B-tree of
// all rows that begins with aggregate_type and global_position, in the columns' own order, both ascending. aggregate_type
// must be text or varchar, and its collation deterministic. It is an error if the table does not exist.
func (s *Store) HasScopeIndex(ctx context.Context, db DB) (bool, error) {
	return s.hasIndex(ctx, db, scopeIndex)
}

// HasUnfinishedScopeIndex reports whether an index of InstallScopeIndex exists that no read uses. Either it is being
// built or removed, or an interrupted install or removal has left it behind. Such an index slows down each append.
// InstallScopeIndex and RemoveScopeIndex drop it if it was left behind.
func (s *Store) HasUnfinishedScopeIndex(ctx context.Context, db DB) (bool, error) {
	return s.hasUnfinishedIndex(ctx, db, scopeIndex)
}
