package eventstore

import "context"

// scopeIndex is the index on types and positions. It serves where the rows of one type lie in it in the order of their positions, and types
// that are equal are the same text.
var scopeIndex = &indexKind{
	word: "scope", built: "(aggregate_type, global_position)", columns: []string{"aggregate_type", "global_position"},
	methods: "InstallScopeIndex or RemoveScopeIndex",
	table: `pg_catalog.pg_attribute type_column JOIN pg_catalog.pg_attribute position_column USING (attrelid)
	WHERE attrelid = to_regclass($1) AND type_column.attname = 'aggregate_type' AND position_column.attname = 'global_position'`,
	serving: completeSQL + ` AND i.indexprs IS NULL
	AND i.indnkeyatts >= 2 AND i.indkey[0] = type_column.attnum AND i.indkey[1] = position_column.attnum
	AND i.indoption[1] = 0 AND i.indcollation[0] = type_column.attcollation
	AND (SELECT opcdefault FROM pg_catalog.pg_opclass WHERE oid = i.indclass[1])
	AND (SELECT collisdeterministic FROM pg_catalog.pg_collation WHERE oid = type_column.attcollation)`,
	refused: `NOT (SELECT collisdeterministic FROM pg_catalog.pg_collation WHERE oid = type_column.attcollation)`,
	why:     "the collation of aggregate_type must be deterministic",
}

// InstallScopeIndex builds an index of the events by aggregate type and position, with
// which projections that want few of the events read only those: workers find
// out within seconds that it is there, and read by it where that is quicker.
// It pays where projections with AggregateTypes want less than a tenth of
// the events, and catch up over many: the rest of the stream, which costs
// 0.2 µs an event, is not looked at any more. It costs each append an entry in one more index, and
// disk: about 32 bytes an event, more for long names of types.
//
// It may be called again, and by several processes at once. It does nothing if any index serves ([Store.HasScopeIndex]), and builds one
// again that an interrupted build has left behind. If a build fails, what it leaves is dropped, or the error says that it could not be.
//
// Appends go on meanwhile, since the index is built CONCURRENTLY. It waits for transactions that
// are open, and for other builds, until ctx ends. db must be a pool or a connection, and not in a transaction. While the index is
// built, another connection, opened with db's configuration, holds a lock. The role must own the table, and needs CREATE on its schema;
// an error names the right that is missing and its GRANT. The role's
// timeouts do not apply, except behind a pooler, where they can end the build: use a direct connection there. It is an error
// if the events table is partitioned, or if the collation of aggregate_type is not deterministic.
func (s *Store) InstallScopeIndex(ctx context.Context, db Execer) error {
	return s.installIndex(ctx, db, scopeIndex)
}

// RemoveScopeIndex drops the index of InstallScopeIndex, if it is there, and what an interrupted install or removal has left behind; an index of
// another name stays. Workers go back to looking through the whole stream within a second; until then a read
// may be slow. It waits for transactions that are open and for builds, until ctx ends. db and the role's rights are as for
// InstallScopeIndex.
func (s *Store) RemoveScopeIndex(ctx context.Context, db Execer) error {
	return s.removeIndex(ctx, db, scopeIndex)
}

// HasScopeIndex says whether an index, of whatever name, serves as the scope index does:
// a complete B-tree that begins with aggregate_type and global_position, both ascending, in the
// columns' own order, of all rows, the collation being deterministic. It is an error if the table does not exist.
func (s *Store) HasScopeIndex(ctx context.Context, db DB) (bool, error) {
	return s.hasIndex(ctx, db, scopeIndex)
}

// HasUnfinishedScopeIndex says whether there is an index of InstallScopeIndex that no read uses: it is being built or removed, or an
// interrupted install or removal has left it behind. Such an index slows down each append. InstallScopeIndex and RemoveScopeIndex drop what is left
// behind.
func (s *Store) HasUnfinishedScopeIndex(ctx context.Context, db DB) (bool, error) {
	return s.hasUnfinishedIndex(ctx, db, scopeIndex)
}
