package main

// handlingGuards keep a processor from handling an event twice, out of order or not at all.
var handlingGuards = []guard{
	{
		Name: "reload-after-doubt", File: "actors/processor.go",
		Old: "	if !p.known {\n\t\tif err := p.reload(ctx); err != nil {", New: "	if !p.known && p.halted {\n\t\tif err := p.reload(ctx); err != nil {",
		Test: "TestLostAnswerToCommitIsFoundOut", Promise: "what became of a COMMIT without an answer is read from the rows",
	},
	{
		Name: "fenced-stays-still", File: "actors/processor.go",
		Old: "	if len(pieces) == 0 {\n\t\treturn errFenced", New: "	if len(pieces) == 0 && p.halted {\n\t\treturn errFenced",
		Test: "TestCheckpointMovedBySomebodyElse", Promise: "a processor whose rows are another's stops and says so",
	},
	{
		Name: "errors-are-sound", File: "internal/handling/handle.go",
		Old: "r.verdict(ctx, sound(r.projection.Handle(ctx, r.tx, r.events.At(i))))", New: "r.verdict(ctx, r.projection.Handle(ctx, r.tx, r.events.At(i)))",
		Test: "TestErrorsWhoseMethodsPanic", Promise: "an error whose methods panic is the failure of its event, and stops no worker",
	},
	{
		Name: "errors-are-rehearsed", File: "internal/handling/sound.go",
		Old: "	rehearse(err)\n	return err", New: "	return err",
		Test: "TestErrorsWhoseMethodsPanic", Promise: "an error that wraps a nil pointer is the failure of its event, and stops no worker",
	},
	{
		Name: "errors-are-not-everything", File: "internal/handling/sound.go",
		Old: "claims || errors.Is(err, errProbe)", New: "claims && text == \"\"",
		Test: "TestErrorsWhoseMethodsPanic", Promise: "an error whose methods say yes to everything is an attempt like others",
	},
	{
		Name: "no-answer-is-no-answer", File: "internal/dbfault/code.go",
		Old: "return answer, ok && answer != nil", New: "return answer, ok",
		Test: "TestErrorsWhoseMethodsPanic", Package: "internal/handling", Promise: "an error that wraps a nil answer of the database panics nowhere",
	},
	{
		Name: "pieces-filter-the-read", File: "internal/eventread/filter.go",
		Old: "	if !alike {", New: "	if !alike && f == bySlot {",
		Test: "TestReadFindsExactlyTheWantedEvents", Promise: "of each slot only events above its own checkpoint are read",
	},
	{
		Name: "other-slots-are-not-read", File: "internal/eventread/filter.go",
		Old: "	case wanted != slot.All():", New: "	case wanted == slot.All():",
		Test: "TestPartitionsShareTheEvents", Promise: "of other partitions' slots no event is read",
	},
	{
		Name: "pieces-keep-from-the-window", File: "actors/reader.go",
		Old: "level := !q.Partial && !slices.ContainsFunc(q.Pieces,", New: "level := len(q.Pieces) > 0 || !slices.ContainsFunc(q.Pieces,",
		Test: "TestPiecesThatHaveNotMetAreReadAlone", Promise: "what all processors share is given only to those whose slots stand at one position",
	},
	{
		Name: "statements-end-in-turn", File: "actors/statement.go",
		Old: "	if s.before != nil {", New: "	if s.before != nil && s.err == nil {",
		Test: "TestAStatementEndsInTurn", Promise: "a read that fails before its turn does not keep the worker from reading on",
	},
	{
		Name: "reads-by-type-are-cut", File: "internal/eventread/parts.go",
		Old: "	case events+n < complete:", New: "	case events+n < complete || n > 0:",
		Test: "TestPropertyTheScopeIndexFindsTheSame", Promise: "a read by the scope index does not pass over what it has not looked at",
	},
	{
		Name: "reads-by-slot-are-cut", File: "internal/eventread/slotted.go",
		Old: "		b.hand(b.complete, slot.BlockStart(b.block))\n	}\n	return nil", New: "		b.hand(b.complete, slot.BlockStart(b.block+1))\n	}\n	return nil",
		Test: "TestPropertyTheSlotIndexFindsTheSame", Promise: "a read by the slot index does not pass over the rest of a block that was cut",
	},
	{
		Name: "one-part-of-blocks", File: "internal/eventread/slotted.go",
		Old: "if b.size < b.q.Limit && b.complete > 0", New: "if b.complete > 0",
		Test: "TestAPageByTheSlotIndexHasAllBlocks", Promise: "and a processor that reads alone gets all blocks of its read",
	},
	{
		Name: "blocks-are-sorted", File: "internal/eventread/slotted.go",
		Old: "	b.scan.List.SortFrom(b.complete)\n", New: "",
		Test: "TestPropertyTheSlotIndexFindsTheSame", Promise: "nor does it change the order of events",
	},
	{
		Name: "blocks-in-disorder", File: "internal/eventread/slotted.go",
		Old: "case block < b.block:", New: "case block < 0:",
		Test: "TestBlocksInDisorderAreRefused", Promise: "whatever plan the server makes of it",
	},
	{
		Name: "disorder-is-no-progress", File: "internal/eventread/reader.go",
		Old: "case errors.Is(err, errDisorder) && done.upTo > after:", New: "case errors.Is(err, errDisorder) && done.upTo < 0:",
		Test: "TestDisorderIsAnErrorOnceSomethingWasHandedOver", Promise: "and it is not silent where it has been relied upon",
	},
	{
		Name: "pieces-by-slot-keep-their-positions", File: "internal/eventread/filter.go",
		Old: "		alike = level(q.Pieces)", New: "		alike = true",
		Test: "TestPropertyTheSlotIndexFindsTheSame", Promise: "of slots at different positions none is given an event again",
	},
	{
		Name: "keys-do-not-overflow", File: "internal/eventread/slotted.go",
		Old: "q.UpTo <= slot.MostKeyed", New: "q.UpTo > 0",
		Test: "TestTheSlotIndexAtTheEndOfThePositions", Promise: "positions that the slot index cannot order are read by the primary key",
	},
	{
		Name: "missing-index-is-noticed", File: "internal/eventread/reader.go",
		Old: "if !wanted || age < indexKeeps || (!has && age < indexMissed) {", New: "if !wanted || has || age < indexMissed {",
		Test: "TestAReaderUsesTheSlotIndexWhereItIsThereAndPays", Promise: "reads go back to the primary key when an index is gone",
	},
	{
		Name: "window-slots", File: "actors/pagebuffer.go",
		Old: "(!m.FilterSlots || hasSlot(pieces, m.Events.Slot(i)))", New: "(!m.FilterSlots || len(pieces) > 0)",
		Test: "TestSharedEventsAreSharedOut", Promise: "of what all partitions share each takes its own slots",
	},
	{
		Name: "old-answers-are-dropped", File: "actors/pagebuffer.go",
		Old: "if !b.asked || m.Sequence != b.sequence {", New: "if !b.asked {",
		Test: "TestAnswersToEarlierQuestionsAreDropped", Promise: "an answer to a question from before is not handled",
	},
	{
		Name: "panic-while-ending", File: "actors/guard.go",
		Old: "if !ending {", New: "if !ending || kind != \"\" {",
		Test: "TestGuard", Promise: "a panic of an actor that ends does not keep its parent from stopping",
	},
	{
		Name: "fixed-costs-shrink-no-batch", File: "actors/batchsize.go",
		Old: "fixed := min(took, slices.Min(s.fixed[:]))", New: "fixed := min(0, slices.Min(s.fixed[:]))",
		Test: "TestAFixedCostDoesNotShrinkBatches", Promise: "batches are not made smaller for time that smaller ones take as well",
	},
	{
		Name: "noise-is-no-fixed-cost", File: "actors/batchsize.go",
		Old: "estimates = 3", New: "estimates = 1",
		Test: "TestVaryingEventsDoNotMakeBatchesLarger", Promise: "a stop does not wait long for a handler whose events take now more, now less",
	},
	{
		Name: "batches-grow-by-what-was-handled", File: "actors/batchsize.go",
		Old: "case handled < s.next:", New: "case handled < 0:",
		Test: "TestFewEventsDoNotMakeBatchesLarger", Promise: "a slow handler of whole batches is not given thousands of events after a few, so that a stop does not wait long",
	},
	{
		Name: "checkpoint-not-beyond-what-is-left", File: "actors/processor.go",
		Old: "p.buffer.pages[0].events.Position(0)-1)", New: "p.buffer.pages[0].upTo)",
		Test: "TestTheCheckpointIsWrittenBeforeAFailingEvent", Promise: "while an event fails the checkpoint does not pass what is not handled",
	},
	{
		Name: "checkpoint-before-a-failing-event", File: "actors/processor.go",
		Old: "if err := p.advanceTo(ctx, p.buffer.pages[0].events.Position(0)-1); err != nil {", New: "if err := ctx.Err(); err != nil {",
		Test: "TestTheCheckpointIsWrittenBeforeAFailingEvent", Promise: "while an event fails a restart does not pass over what is before it again",
	},
}
