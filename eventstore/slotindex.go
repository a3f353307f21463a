package eventstore

import (
	"context"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// slotIndex is the index on blocks of positions and slots. Its expression is compared without what versions of PostgreSQL write differently.
var slotIndex = &indexKind{
	word: "slot", built: "(" + slot.KeySQL + ")", columns: []string{"global_position", "aggregate_id"},
	methods: "InstallSlotIndex or RemoveSlotIndex",
	table: `pg_catalog.pg_attribute position_column JOIN pg_catalog.pg_attribute id_column USING (attrelid)
	WHERE attrelid = to_regclass($1) AND position_column.attname = 'global_position' AND id_column.attname = 'aggregate_id'`,
	serving: completeSQL + ` AND i.indkey[0] = 0
	AND pg_catalog.regexp_replace(pg_catalog.pg_get_indexdef(i.indexrelid, 1, false), '[()'' ]|::bigint|pg_catalog[.]', '', 'g')
		= 'global_position>>10<<16|hashtextextendedaggregate_id,0&65535'`,
	refused: "false",
}

// InstallSlotIndex builds an index of the events by their positions, in blocks of 1024, and the slots of their aggregates. A worker that catches
// up reads its part of each block by it, and does not look at the events of the other workers: workers find
// out within seconds that it is there, and read by it where that is quicker.
// It pays where four workers or more share the projections, and catch up over many events: without it, each worker's reads pass over all
// events, at 0.2 µs an event. A worker with more than a quarter of the slots does not use it. It costs each append an entry in one more index, and
// disk: about 22 bytes an event.
//
// It may be called again, and by several processes at once. It does nothing if any index serves ([Store.HasSlotIndex]), and builds one
// again that an interrupted build has left behind. Builds, db, the role's rights and its timeouts are as for [Store.InstallScopeIndex]. It is an error
// if the events table is partitioned.
func (s *Store) InstallSlotIndex(ctx context.Context, db Execer) error {
	return s.installIndex(ctx, db, slotIndex)
}

// RemoveSlotIndex drops the index of InstallSlotIndex, if it is there, and what an interrupted install or removal has left behind; an index of
// another name stays. Workers go back to looking through the whole stream within a second; until then a read
// may be slow. db and the role's rights are as for [Store.RemoveScopeIndex].
func (s *Store) RemoveSlotIndex(ctx context.Context, db Execer) error {
	return s.removeIndex(ctx, db, slotIndex)
}

// HasSlotIndex says whether an index, of whatever name, serves as the slot index does: a complete B-tree of all rows that begins with its
// expression, ascending. It is an error if the table does not exist.
func (s *Store) HasSlotIndex(ctx context.Context, db DB) (bool, error) {
	return s.hasIndex(ctx, db, slotIndex)
}

// HasUnfinishedSlotIndex says of the slot index what [Store.HasUnfinishedScopeIndex] says of the scope index.
func (s *Store) HasUnfinishedSlotIndex(ctx context.Context, db DB) (bool, error) {
	return s.hasUnfinishedIndex(ctx, db, slotIndex)
}
