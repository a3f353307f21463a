package actors

// movesAtOnce is how many batches in a row are repeated at once after their rows were not as believed. An operator's change refuses one,
// and a second may follow where several are made.
const movesAtOnce = 3

// afterMove decides what follows a batch whose rows were not as believed. They are read again at once. If that did not help, the
// next batches wait, and a line says so once a minute.
func (p *processor) afterMove(err error) next {
	p.moved++
	if p.moved <= movesAtOnce {
		return next{more: true}
	}
	after := failureBackoff.After(p.moved - movesAtOnce)
	if p.worker.notices.due("refused "+p.fence.Projection+" "+p.fence.Partition.String(), personInterval) {
		p.log.Warn("batches are refused one after the other, because rows differ from what the worker has just read; the worker keeps trying",
			"error", err, "refused_in_a_row", p.moved, "next_try", after)
	}
	return next{after: after}
}
