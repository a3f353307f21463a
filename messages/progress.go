package messages

// ProgressAsked asks an actor that may be idle to show that it still processes messages. Supervisor → reader and
// partitions → processors, about once a second. A processor is not asked again before it has answered.
type ProgressAsked struct {
	// Number distinguishes one question from the next.
	Number int64
}

func (ProgressAsked) toReader()    {}
func (ProgressAsked) toPartition() {}
func (ProgressAsked) toProcessor() {}
