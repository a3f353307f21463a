package horizon

import (
	"context"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/announcement"
)

// Announce is what to announce of a reading, which must be the latest of Probe, and the run of the server in which it was found. It must be
// sent by a statement that makes sure of that run, as with [SQLSameRun]. If the reading's news are not known, those after a position are read, so that
// not everybody has to read the events. They stay unknown if that fails.
func (p *Prober) Announce(ctx context.Context, r Reading, after int64) (announcement.Horizon, Run) {
	a := announcement.Horizon{
		Position: r.Position, News: r.News, Started: p.server.started.UnixMicro(), Term: p.known.Stored.Term,
		Table: p.target.table, Sequence: p.facts.sequence, Filenode: p.facts.filenode,
	}
	if a.News.Known || p.opts.Slot == "" || after >= r.Position {
		return a, p.server.run()
	}
	var slots []int32
	err := p.db.QueryRow(ctx, sqlNews(p.target.tableName, p.target.table, p.opts.Slot), after, r.Position, int64(announcement.MostNews+1)).Scan(&slots)
	if err == nil && len(slots) <= announcement.MostNews {
		a.News = announcement.News{Known: true, After: after, Slots: slots}
	}
	return a, p.server.run()
}

// Hear takes in what another Prober has announced, and returns what follows for the horizon. It is not ok if nothing does.
//
// The announcement must have come through a session that has been connected since before the latest call of Probe began. No session
// outlives a crash, so the announcement, which was sent in the session's run of the server, is of the run that Probe met. This holds only if the
// session and the pool lead to the same server. They may not, for a while, where a host name has moved to another one. So an announcement says
// when its server started.
func (p *Prober) Hear(a announcement.Horizon) (r Reading, ok bool) {
	if p.tracker == nil || !p.tracker.started || p.count.on || p.known.Regression.stands() {
		return Reading{}, false
	}
	before := p.tracker.Horizon()
	if a.Started != p.server.started.UnixMicro() {
		return Reading{}, false
	}
	if a.Term != p.known.Stored.Term || a.Table != p.target.table || a.Sequence != p.facts.sequence || a.Filenode != p.facts.filenode || a.Position <= before {
		return Reading{}, false
	}
	position := p.tracker.Settle(a.Position)
	r = Reading{Position: position, LastValue: p.tracker.reached, Holders: len(p.tracker.bounds), Table: p.target.table, Epoch: p.epoch}
	if a.News.Known && a.News.After <= before && position == a.Position {
		r.News = a.News
		r.News.After = before
	}
	return r, true
}
