package eventstore

import (
	"context"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// slotIndex is the index on blocks of positions and slots. Its expression is compared without what PostgreSQL writes differently by its version, by
// quote_all_identifiers, and for columns of the type varchar.
var slotIndex = &indexKind{
	word: "slot", built: "(" + slot.KeySQL + ")", columns: []string{"global_position", "aggregate_id"},
	methods: "InstallSlotIndex or RemoveSlotIndex",
	table: `pg_catalog.pg_attribute position_column JOIN pg_catalog.pg_attribute id_column USING (attrelid)
	WHERE attrelid = to_regclass($1) AND position_column.attname = 'global_position' AND id_column.attname = 'aggregate_id'`,
	serving: completeSQL + ` AND i.indkey[0] = 0
	AND pg_catalog.regexp_replace(pg_catalog.replace(pg_catalog.pg_get_indexdef(i.indexrelid, 1, false), '"', ''), '[()'' ]|::bigint|::text|pg_catalog[.]', '', 'g')
		= 'global_position>>10<<16|hashtextextendedaggregate_id,0&65535'`,
	refused: "false",
}

// InstallSlotIndex builds an index of the events by position, in blocks of 1024, and by the slots of their aggregates.
// With it, a worker that catches up reads only its part of each block, and skips the events of the other workers.
// Workers notice the index within seconds, and use it where that is quicker.
//
// The index pays if four or more workers share the projections and catch up over many events. Without it, each worker's
// reads scan all events, at 0.2 µs per event. A worker with more than a quarter of the slots does not use it. Each
// append writes an entry in one more index. The index takes about 22 bytes of disk per event.
//
// InstallSlotIndex may be repeated, and several processes may call it at once. It does nothing if a suitable index
// exists (see [Store.HasSlotIndex]). It rebuilds an index that an interrupted build has left behind. Builds, db, the
// role's rights and its timeouts are as for [Store.InstallScopeIndex]. It is an error if the events table is
// partitioned.
func (s *Store) InstallSlotIndex(ctx context.Context, db Execer) error {
	return s.installIndex(ctx, db, slotIndex)
}

// RemoveSlotIndex drops the index of InstallSlotIndex if it exists, and the remains of an interrupted install or
// removal. An index with another name stays. Workers scan the whole stream again within a second. Until then a read may
// be slow. db and the role's rights are as for [Store.RemoveScopeIndex].
func (s *Store) RemoveSlotIndex(ctx context.Context, db Execer) error {
	return s.removeIndex(ctx, db, slotIndex)
}

// HasSlotIndex reports whether an index, whatever its name, serves as the slot index. It must be a complete B-tree of
// all rows that begins with the slot index's expression, ascending. It is an error if the table does not exist.
func (s *Store) HasSlotIndex(ctx context.Context, db DB) (bool, error) {
	return s.hasIndex(ctx, db, slotIndex)
}

// HasUnfinishedSlotIndex is [Store.HasUnfinishedScopeIndex] for the slot index.
func (s *Store) HasUnfinishedSlotIndex(ctx context.Context, db DB) (bool, error) {
	return s.hasUnfinishedIndex(ctx, db, slotIndex)
}
