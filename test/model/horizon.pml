/*
 * horizon.pml: no event appears at or below a horizon.
 *
 * What stands for what
 *
 *   Writer(w)   one transaction of the application that appends: it locks the
 *               events table (INSERT takes RowExclusiveLock), draws positions
 *               from the sequence, may be prepared for two-phase commit, and
 *               becomes visible, or not, before its lock is gone.
 *   Prober(p)   package horizon: one prober of one process. A probe reads the
 *               sequence, then the holders of the lock, one after the other as
 *               pg_locks does, and takes the least bound. Or it only glances at
 *               the events above its horizon, unless the previous glance found
 *               the same hole. With ANNOUNCE, prober 0 announces its horizon at any time,
 *               and prober 1 hears of it later, between two probes. Prober 0 has been
 *               there from the start; prober 1 comes whenever it likes and
 *               starts from the stored horizon. Prober 0's first probe is a
 *               fresh one too, with a floor of 0.
 *   Reader      a processor: takes a horizon, reads what is visible up to it in
 *               a later snapshot, handles it, moves the checkpoint to it.
 *
 *   seq               the sequence's last_value
 *   mine[w] n[w]      the set of positions that w has drawn
 *   locked ended      sets of writers
 *   prep[w]           the writer's lock is shown as that of a prepared
 *                     transaction, under another name than before
 *   events            ghost: positions whose event is visible
 *   handled           ghost: positions whose event the reader has handled
 *   v prev            the sequence as this and the previous probe read it
 *   bound known       what the prober keeps for each holder, by its name: the
 *                     transaction's (w) or, once prepared, another (w + NWR)
 *   hor cp            a prober's horizon; the checkpoint
 *   told              the horizon that prober 0 has announced last
 *
 * What is left out, and why that hides no fault
 *
 *   - Events. Only numbers matter; each position is one event, or a hole.
 *   - A writer runs one transaction. A second one of the same session has
 *     another name in pg_locks and is another Writer here.
 *   - Many readers and checkpoints: one that can take any prober's horizon at any time stands for all.
 *   - The stored horizon, which is the floor: it too is some prober's horizon as of
 *     some time, so cp stands for it.
 *   - Connection loss of a prober: it goes on (keeping what it knew) or starts
 *     afresh, which prober 1 does.
 *
 * Properties
 *
 *   H1  no event becomes visible at or below a horizon that a prober announced,
 *       nor at or below the checkpoint (promise 1)
 *   H2  the checkpoint never leaves a visible event behind (promise 1)
 *   H3  when the writers have ended, the horizons reach the sequence, and every
 *       event is handled (LTL, under weak fairness)
 *
 * Bounds: NWR writers with up to DRAWS positions each, two probers, one reader.
 *
 * Guards that can be taken away are the names in #ifdef below; run.sh lists
 * them and what must follow.
 */

#ifndef NWR
#define NWR 3
#endif
#ifndef DRAWS
#define DRAWS 2
#endif
#ifndef NP
#define NP 2
#endif
#define NAMES  (2*NWR)
#define B(p,h) bound[(p)*NAMES+(h)]
#define NOBODY 255

byte seq;
byte mine[NWR]; /* bit i: position i+1 */
byte locked;
byte ended;
byte prep;
byte events;
byte handled;

byte vnow[NP];
byte prev[NP];
byte hor[NP];
bool fresh[NP];
byte known[NP]; /* names seen by the previous probe */
byte held[NP];  /* names seen so far by this probe */
byte at[NP];    /* 0: before a probe; w+1: looks at writer w next; NWR+1: concludes */
byte bound[NP*NAMES];
#ifndef NO_LOOK_AT_HOLES
byte hole[NP];  /* the horizon above which a glance found a hole; NOBODY if none did */
#endif
byte cp;
#ifdef ANNOUNCE
byte told;
#endif

hidden byte i, low;

#define BIT(s, b)  (((s) >> (b)) & 1)
#define BELOW(h)   ((1 << (h)) - 1) /* positions up to h, as a set */

/* Nothing that w drew is at or below what has been announced. */
inline checkLate(w) {
	for (i : 0 .. 7) {
		assert(!BIT(mine[w], i) || (i+1 > hor[0] && i+1 > hor[NP-1] && i+1 > cp)) /* H1 */
	}
}

proctype Writer(byte w) {
	byte draws;
#ifndef DRAW_BEFORE_LOCK
	d_step { locked = locked | (1 << w) };
#endif
	do
	:: d_step { draws < DRAWS -> mine[w] = mine[w] | (1 << seq); seq++; draws++ }
	:: break
	od;
#ifdef DRAW_BEFORE_LOCK
	skip;
	d_step { locked = locked | (1 << w) };
#endif
	draws = 0;
#ifdef PREPARED
	if
	:: d_step { prep = prep | (1 << w) } /* PREPARE TRANSACTION, on an old server */
	:: skip
	fi;
#endif
	if
#ifdef UNLOCK_BEFORE_VISIBLE
	:: d_step { locked = locked & ~(1 << w) };
	   d_step { checkLate(w); events = events | mine[w] }
#else
	:: d_step { checkLate(w); events = events | mine[w]; mine[w] = 0 } /* COMMIT */
#endif
	:: d_step { mine[w] = 0 } /* ROLLBACK */
	fi;
	d_step { locked = locked & ~(1 << w); prep = prep & ~(1 << w); ended = ended | (1 << w) }
}

/* The bound of a holder that this prober has not seen before. */
#ifdef NO_PREVIOUS_BOUND
#define NEWBOUND(p) vnow[p]
#else
#define NEWBOUND(p) prev[p]
#endif
#ifdef NO_FLOOR
#define FLOOR(p) vnow[p]
#else
#define FLOOR(p) cp
#endif
#ifdef NO_PREPARED_BOUND
#define PREPBOUND(p) NEWBOUND(p)
#else
#define PREPBOUND(p) hor[p]
#endif

/* Looks at writer w for holder name h; keeps a known bound, sets a new one. */
inline see(p, h, isPrep) {
	held[p] = held[p] | (1 << (h));
	if
#ifndef NO_KNOWN_BOUND
	:: BIT(known[p], h)
#endif
	:: !BIT(known[p], h) && fresh[p] -> B(p, h) = FLOOR(p)
#ifdef NO_KNOWN_BOUND
	:: !fresh[p] && !isPrep -> B(p, h) = NEWBOUND(p)
	:: !fresh[p] && isPrep -> B(p, h) = PREPBOUND(p)
#else
	:: !BIT(known[p], h) && !fresh[p] && !isPrep -> B(p, h) = NEWBOUND(p)
	:: !BIT(known[p], h) && !fresh[p] && isPrep -> B(p, h) = PREPBOUND(p)
#endif
	fi
}

inline look(p) {
	if
	:: BIT(locked, at[p]-1) && BIT(prep, at[p]-1) -> see(p, at[p]-1+NWR, true)
	:: BIT(locked, at[p]-1) && !BIT(prep, at[p]-1) -> see(p, at[p]-1, false)
	:: else
	fi;
	at[p] = at[p] + 1
}

/* Holders that have gone are forgotten. */
#ifdef NO_FORGETTING
#define FORGET  false
#define KEPT(p) known[p]
#else
#define FORGET  true
#define KEPT(p) 0
#endif

inline conclude(p) {
	low = NOBODY;
	for (i : 0 .. NAMES-1) {
		if
		:: BIT(held[p] | KEPT(p), i) && B(p, i) < low -> low = B(p, i)
		:: else
		fi;
		if
		:: !BIT(held[p], i) && FORGET -> B(p, i) = 0
		:: else
		fi
	}
	if
	:: low == NOBODY -> low = vnow[p]
	:: (events & BELOW(vnow[p])) == BELOW(vnow[p]) -> low = vnow[p] /* no hole: nothing can come */
	:: else
	fi;
	if
	:: low > hor[p] -> hor[p] = low
	:: else
	fi;
	known[p] = held[p] | KEPT(p); held[p] = 0; at[p] = 0;
	prev[p] = vnow[p]; vnow[p] = 0;
	fresh[p] = false
}

/* Every position up to low is settled: whatever a holder still shows is above it. */
inline settle(p) {
	if
	:: low > prev[p] -> prev[p] = low
	:: else
	fi;
	hor[p] = prev[p];
	for (i : 0 .. NAMES-1) {
		if
		:: BIT(known[p], i) && B(p, i) < low -> B(p, i) = low
		:: else
		fi;
		if
		:: BIT(known[p], i) && B(p, i) < hor[p] -> hor[p] = B(p, i)
		:: else
		fi
	}
}

/* Whether a glance may take the place of a probe. */
#ifdef NO_LOOK_AT_HOLES
#define GLANCES(p) (!fresh[p])
#else
#define GLANCES(p) (!fresh[p] && hole[p] != hor[p])
#endif

/* Reads the events above the horizon, in one statement. All that follow each
 * other without a hole are settled: every other number is above them. */
inline glance(p) {
	low = hor[p];
#ifdef GLANCE_TO_SEQUENCE
	low = seq;
#endif
	do
	:: low < seq && BIT(events, low) -> low++
	:: else -> break
	od;
#ifndef NO_LOOK_AT_HOLES
	hole[p] = (low < seq -> low : NOBODY);
#endif
	settle(p)
}

/* What prober 0 announces. */
#ifdef ANNOUNCE_SEQUENCE
#define ANNOUNCED prev[0]
#else
#define ANNOUNCED hor[0]
#endif

proctype Prober(byte p) {
end:
	do
#ifdef ANNOUNCE
	:: d_step { p == 0 && told != ANNOUNCED -> told = ANNOUNCED }
	:: d_step { p == 1 && at[p] == 0 && !fresh[p] && told > hor[p] -> low = told; settle(p); skip }
#endif
	:: d_step { at[p] == 0 && GLANCES(p) -> glance(p); skip }
#ifdef SCAN_BEFORE_SEQUENCE
	:: d_step { at[p] == 0 -> at[p] = 1 }
	:: d_step { at[p] == NWR+1 -> vnow[p] = seq; conclude(p); skip }
#else
	:: d_step { at[p] == 0 -> vnow[p] = seq; at[p] = 1 }
	:: d_step { at[p] == NWR+1 -> conclude(p); skip }
#endif
	:: d_step { at[p] > 0 && at[p] <= NWR -> look(p); skip }
	od
}

/* What the reader's snapshot shows. */
#ifdef SNAPSHOT_BEFORE_HORIZON
#define SNAPSHOT snap
byte snap;
#else
#define SNAPSHOT events
#endif

/* Reads and handles what is visible up to the horizon of p. */
inline handle(p) {
	handled = handled | (SNAPSHOT & BELOW(hor[p]) & ~BELOW(cp));
	cp = hor[p];
	assert((events & BELOW(cp)) == (handled & BELOW(cp))) /* H2 */
}

proctype Reader() {
end:
	do
#ifdef SNAPSHOT_BEFORE_HORIZON
	:: d_step { snap != events -> snap = events }
#endif
	:: d_step { hor[0] > cp -> handle(0) }
#if NP > 1
	:: d_step { hor[1] > cp -> handle(1) }
#endif
	od
}

#define OVER    (ended == (1 << NWR) - 1)
#define REACHED (hor[0] == seq && hor[NP-1] == seq && cp == seq && handled == events)

ltl progress { [] (OVER -> <> [] REACHED) }

init {
	atomic {
		fresh[0] = true; fresh[NP-1] = true;
#ifndef NO_LOOK_AT_HOLES
		hole[0] = NOBODY; hole[NP-1] = NOBODY;
#endif
		run Writer(0); run Writer(1);
#if NWR > 2
		run Writer(2);
#endif
		run Prober(0); run Reader();
#if NP > 1
		run Prober(1)
#endif
	}
}
