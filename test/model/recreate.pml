/*
 * recreate.pml: generations, checkpoints and the fence, under crashes, freezes,
 * lost answers, wrong suspicions and any number of would-be leaders.
 *
 * What stands for what
 *
 *   Worker(w)   one orchestrator: its coordinator (actors/, joining, noticing a
 *               generation, stopping, reporting ready, starting), its leader's
 *               hat (pgcoord/, prepare and activate) and its processor
 *               (actors/, the batches). The three are interleaved freely: every
 *               alternative of the loop is one step of one of them.
 *   Server      PostgreSQL: COMMITs that nobody waits for, transactions whose
 *               client is gone or silent.
 *   World       faults, as many as FAULTS allows, and the check of the end.
 *
 *   cur gst genlk members      orchestrator_generations: the number that is not
 *                              superseded, the state of each number, the holder
 *                              of the row lock, the members of the active one
 *   wst rdy                    orchestrator_workers: status; ready for which
 *   pos cgen cown              orchestrator_checkpoints: position, generation,
 *                              worker_id of each slot, as committed
 *   lk ufrom ulast ugen        who holds the row's lock; the uncommitted batch
 *                              behind it: its events are those of the slot in
 *                              (ufrom, ulast], its generation ugen
 *   done                       ghost: the slot's events up to here had their
 *                              effects committed, each once, in order
 *   alive frozen               the process exists; it takes no step
 *   seen                       coordinator: the generation it prepares for
 *   ldo lseen lmem             leader: what it decided, about which generation;
 *                              the ready workers, whose rows activation holds
 *   ph pg own from bm last li  processor: phase, generation it was started for,
 *   txd                        its slots and believed positions, the batch's
 *                              slots and last position, the next row to lift;
 *                              txd: the server ended its transaction, and the
 *                              handler, still running, does not know
 *
 * What is left out, and why that hides no fault
 *
 *   - Time. A timeout is a step that is always possible: towards a worker that
 *     is really dead or frozen for nothing, towards a live one at the price of a
 *     fault. The local trust (heartbeat lease) only removes behaviour: here a
 *     thawed worker may go on with its old beliefs for ever.
 *   - The leader's lock. Every worker may act as leader at every moment, on what
 *     it read earlier; so any election is covered, wrong ones too.
 *   - NOTIFY. Everything is found by polling; a step that reads and a step that
 *     acts on what was read are separate.
 *   - Ranges. Two rows, one slot each, are never joined into one row: a batch
 *     over both locks them one after the other, which has more interleavings
 *     than one row. Which member gets which slot is chosen freely.
 *   - The horizon and the batch size: a batch ends at any position not yet
 *     passed. That nothing appears below is horizon.pml's business.
 *   - Connections. A client that gives up leaves at the server either a COMMIT
 *     under way (modelled) or a transaction that can only be rolled back; the
 *     latter only makes others wait, like a slow handler.
 *   - A batch that is cut short before COMMIT equals one with a lower last
 *     position; UPDATEs that were sent together but follow one that missed only
 *     make others wait.
 *   - Deadlock detection: the model has none, so it must do without.
 *   - Bad events and panics: a batch that is rolled back and tried again is the
 *     same as one whose connection was cut (modelled).
 *
 * Properties
 *
 *   P0  never two generations that are not superseded; a number is inserted
 *       once and activated once
 *   P1  no checkpoint passes an event that was not handled
 *   P2  no event's effect is committed twice
 *   P3a what commits is of the row's generation and worker; a worker declared
 *       dead commits nothing once the next generation is active
 *   P3b whoever enters a handler finds nobody else in a handler of that slot,
 *       except a worker that has been declared dead. (Not checked with
 *       LEAKY_DRAIN, the faulty worker that reports ready before it has stopped:
 *       there the fence alone must keep the rest.)
 *   P4  effects of a slot are committed in order
 *   P5  once the faults have ended, and somebody lives: an active generation
 *       with exactly the living as members, and every event handled. Checked in
 *       every state where nothing can move; that there is no cycle, so that
 *       every run reaches such a state, is checked with -DNP.
 *
 * Bounds: NW workers, 2 slots, E events (odd ones in slot 0, even ones in slot
 * 1), FAULTS faults of any kind; they may end at any moment. A fault is a crash,
 * a freeze (thawing is free), a graceful leave, a lost answer to COMMIT, a
 * transaction cut by the server, a living worker declared dead, a generation
 * without need, an activation that does not wait for a living worker.
 *
 * Guards that can be taken away are the names in #ifdef below; run.sh lists
 * them and what must follow.
 */

#ifndef NW
#define NW 2
#endif
#ifndef E
#define E 3
#endif
#ifndef FAULTS
#define FAULTS 3
#endif
#define NS   2
#define GMAX 12

/* States of a generation. */
#define NONE       0
#define PREPARING  1
#define ACTIVE     2
#define SUPERSEDED 3

/* Status of a worker. READY covers running: the generation tells them apart. */
#define OUT     0
#define PENDING 1
#define READY   2
#define DEAD    3

/* Phases of a processor. */
#define OFF  0 /* not running */
#define RD   1 /* must read its checkpoint rows */
#define NX   2 /* knows its positions; reads the next batch */
#define LK   3 /* transaction open, lifting row li */
#define HD   4 /* every row lifted, inside the handler */

/* What a leader is about to do. */
#define PREP 1 /* decided: a new generation */
#define ACTV 2 /* decided: activate */
#define ROW0 3 /* holds the generation's row; next: lock row 0 */
#define ROW1 4
#define LAST 5 /* holds every row */

/* Holders of row locks. */
#define MAIN(w) (1+(w))      /* the batch of w */
#define ZOMB(w) (1+NW+(w))   /* a COMMIT of w that nobody waits for */
#define LEAD(w) (1+2*NW+(w)) /* the activation by w */

#define LMEM(l, w) ((lmem[l] >> (w)) & 1)
#define LIVE(w)    (alive[w] && !frozen[w])
#define MEM(w)     ((members >> (w)) & 1)
#define JOINED(w)  (wst[w] == PENDING || wst[w] == READY)
#define F(w, s)    from[(w)*NS+(s)]
#define HOLDS(h)   (lk[0] == (h) || lk[1] == (h))
#define SINGLE(m)  (((m) & ((m)-1)) == 0)
#define FAULT      (faults > 1) /* the last unit only lets the frozen thaw */

/* Events of slot s at or below position p. */
#define CNT(s, p)  (((p)+1-(s))/2)

/* The lowest position among the slots of w. */
#define MINF(w) (own[w] == 3 -> (F(w,0) < F(w,1) -> F(w,0) : F(w,1)) : (own[w] == 1 -> F(w,0) : F(w,1)))

/* The members are not the living. */
#define DIFFERS(w) ((LIVE(w) && JOINED(w) && !MEM(w)) || (MEM(w) && !LIVE(w)))
/* Activation waits for w. */
#define WAITS(w)   (LIVE(w) && JOINED(w) && rdy[w] != cur)
#define ISREADY(w) (wst[w] == READY && rdy[w] == cur)

#if NW == 2
#define SOME(p) (p(0) || p(1))
#elif NW == 3
#define SOME(p) (p(0) || p(1) || p(2))
#endif

byte cur = 1;
byte gst[GMAX];
byte genlk;
byte members;

byte wst[NW];
byte rdy[NW];

byte pos[NS];
byte cgen[NS];
byte cown[NS]; /* worker + 1; 0 is nobody */
byte lk[NS];
byte ufrom[NS];
byte ulast[NS];
byte ugen[NS];
byte done[NS];

bool alive[NW];
bool frozen[NW];
byte seen[NW];
byte ldo[NW];
byte lseen[NW];
byte lmem[NW];
byte ph[NW];
byte pg[NW];
byte own[NW];
byte from[NW*NS];
byte bm[NW];
byte last[NW];
byte li[NW];
bool txd[NW];

byte faults = FAULTS + 1;

#ifdef NO_CHECKPOINT_LOCK
byte lpos[NW*NS];
#endif

hidden byte s, v, n;

/* ---- the server's side of a transaction ---- */

inline unlockRow(r) {
	lk[r] = 0; ufrom[r] = 0; ulast[r] = 0; ugen[r] = 0
}

inline rollback(h) {
	for (s : 0 .. NS-1) {
		if
		:: lk[s] == (h) -> unlockRow(s)
		:: else
		fi
	}
}

/* COMMIT of a batch of worker w, whose transaction holds the rows as h. */
inline commit(h, w) {
	for (s : 0 .. NS-1) {
		if
		:: lk[s] == (h) ->
			assert(ugen[s] == cgen[s]);                   /* P3a */
			assert(cown[s] == (w)+1);                     /* P3a */
			assert(wst[w] != DEAD || gst[cur] != ACTIVE); /* P3a */
			assert(CNT(s, ufrom[s]) >= CNT(s, done[s]));  /* P2 */
			assert(CNT(s, ufrom[s]) <= CNT(s, done[s]));  /* P1, P4 */
			done[s] = ulast[s];
			pos[s] = ulast[s];
			unlockRow(s)
		:: else
		fi
	}
}

/* ---- the coordinator ---- */

#ifdef NO_DRAIN_BEFORE_REJOIN
#define MAYREJOIN(w) true
#else
#define MAYREJOIN(w) (ph[w] == OFF)
#endif
#if defined(NO_DRAIN_BEFORE_READY) || defined(LEAKY_DRAIN)
#define MAYREADY(w) true
#define LEAKYSTOP(w) (pg[w] != cur)
#else
#define LEAKYSTOP(w) false
#define MAYREADY(w) (ph[w] == OFF)
#endif

/* It has been told to stop: it prepares for a generation, it has found itself
   dead, or it has found a generation that it is not a member of. That it may
   carry on for a while is in the order of steps. */
#define MUSTSTOP(w) ((seen[w] != 0 && rdy[w] != seen[w]) || wst[w] == DEAD || (gst[cur] == ACTIVE && !MEM(w)) || LEAKYSTOP(w))

/* A batch in flight may be cancelled, also while it waits for a row. */
#ifdef NO_CANCEL
#define MAYCANCEL(w) (ph[w] != LK && ph[w] != HD)
#else
#define MAYCANCEL(w) true
#endif

/* ---- the processor ---- */

inline endBatch(w) {
	bm[w] = 0; last[w] = 0; li[w] = 0; txd[w] = false
}

inline endProcessor(w) {
	endBatch(w);
	ph[w] = OFF; own[w] = 0; F(w,0) = 0; F(w,1) = 0
}

/* What the fence compares, row by row. */
#ifdef NO_GENERATION_IN_FENCE
#define SAMEGEN(w, r) true
#else
#define SAMEGEN(w, r) (cgen[r] == pg[w])
#endif
#ifdef NO_WORKER_IN_FENCE
#define SAMEWORKER(w, r) true
#else
#define SAMEWORKER(w, r) (cown[r] == (w)+1)
#endif
#ifdef NO_POSITION_COMPARE
#define SAMEPOS(w, r) (pos[r] < last[w])
#else
#define SAMEPOS(w, r) (pos[r] == F(w, r))
#endif
#define FENCE(w, r) (SAMEGEN(w, r) && SAMEWORKER(w, r) && SAMEPOS(w, r))

/* Reads the checkpoint rows; none means fenced. */
inline readRows(w) {
	own[w] = 0;
	for (s : 0 .. NS-1) {
		if
		:: cgen[s] == pg[w] && cown[s] == (w)+1 ->
			own[w] = own[w] | (1 << s);
			F(w, s) = pos[s]
		:: else -> F(w, s) = 0
		fi
	}
	if
	:: own[w] == 0 -> endProcessor(w)
	:: else -> ph[w] = NX
	fi
}

/* The pieces that a batch up to last lifts. */
inline choosePieces(w) {
	bm[w] = 0;
	for (s : 0 .. NS-1) {
		if
		:: ((own[w] >> s) & 1) && F(w, s) < last[w] -> bm[w] = bm[w] | (1 << s)
		:: else
		fi
	}
#ifdef ANY_LOCK_ORDER
	li[w] = ((bm[w] >> 1) & 1)
#else
	li[w] = 1 - (bm[w] & 1)
#endif
	ph[w] = LK
}

inline enterHandler(w) {
	ph[w] = HD; li[w] = 0;
#ifndef LEAKY_DRAIN
	for (v : 0 .. NW-1) {
		assert(v == (w) || ph[v] != HD || !(bm[v] & bm[w]) || wst[v] == DEAD) /* P3b */
	}
#endif
}

/* Each event is applied only if its own piece is below it. */
#ifdef NO_PIECE_FILTER
#define APPLIEDFROM(w, r) MINF(w)
#else
#define APPLIEDFROM(w, r) F(w, r)
#endif

/* UPDATE of row li succeeded: it is locked, the next piece follows. */
inline liftRow(w) {
	s = li[w];
	lk[s] = MAIN(w); ufrom[s] = APPLIEDFROM(w, s); ulast[s] = last[w]; ugen[s] = pg[w];
	if
#ifdef ANY_LOCK_ORDER
	:: s == 1 && (bm[w] & 1) -> li[w] = 0
#else
	:: s == 0 && (bm[w] & 2) -> li[w] = 1
#endif
	:: else -> enterHandler(w)
	fi
}

/* The answer to COMMIT arrived. */
inline acknowledged(w) {
	for (s : 0 .. NS-1) {
		if
		:: (bm[w] >> s) & 1 -> F(w, s) = last[w]
		:: else
		fi
	}
	endBatch(w);
	ph[w] = NX
}

/* ---- the leader ---- */

inline checkGenerations() {
	n = 0;
	for (v : 0 .. GMAX-1) {
		n = n + (gst[v] == PREPARING || gst[v] == ACTIVE)
	}
	assert(n <= 1) /* P0 */
}

inline insertGeneration(l) {
	gst[lseen[l]] = SUPERSEDED;
	assert(lseen[l]+1 < GMAX);
	assert(gst[lseen[l]+1] == NONE); /* P0 */
	gst[lseen[l]+1] = PREPARING;
	cur = lseen[l]+1;
	members = 0;
	checkGenerations()
}

inline endLeader(l) {
	rollback(LEAD(l));
	if
	:: genlk == (l)+1 -> genlk = 0
	:: else
	fi;
#ifdef NO_CHECKPOINT_LOCK
	lpos[(l)*NS] = 0; lpos[(l)*NS+1] = 0;
#endif
	ldo[l] = 0; lseen[l] = 0; lmem[l] = 0
}

/* What activation writes as the position of row r. */
#ifdef NO_CHECKPOINT_LOCK
#define MOVED(l, r) lpos[(l)*NS+(r)]
#elif defined(JOIN_TAKES_HIGHEST)
#define MOVED(l, r) (SINGLE(lmem[l]) -> (pos[0] < pos[1] -> pos[1] : pos[0]) : pos[r])
#elif defined(JOIN_TAKES_LOWEST)
#define MOVED(l, r) (SINGLE(lmem[l]) -> (pos[0] < pos[1] -> pos[0] : pos[1]) : pos[r])
#else
#define MOVED(l, r) pos[r]
#endif

/* The members-to-be: those ready for this generation. */
inline gather(l) {
	lmem[l] = 0;
	for (v : 0 .. NW-1) {
		if
#ifdef MEMBERS_NOT_READY
		:: JOINED(v) && LIVE(v) ->
			rdy[v] = lseen[l]; wst[v] = READY;
			lmem[l] = lmem[l] | (1 << v)
#else
		:: wst[v] == READY && rdy[v] == lseen[l] -> lmem[l] = lmem[l] | (1 << v)
#endif
		:: else
		fi
	}
	if
	:: lmem[l] == 0 -> endLeader(l)
	:: else -> ldo[l] = ROW0
	fi
}

/* Declared dead with the new generation. */
inline buryLost() {
	for (v : 0 .. NW-1) {
		if
		:: JOINED(v) && !LIVE(v) -> wst[v] = DEAD
		:: else
		fi
	}
}

/* A worker that was held for lost when the activation was decided, and is back. */
#ifdef LOST_NOT_EXCLUDED
#define SPARED(v) LIVE(v)
#else
#define SPARED(v) false
#endif

/* Not ready in time: dead. Whoever became ready since the members were read is
   spared; so is, if late, a worker that has only just joined. */
inline exclude(l, late) {
	for (v : 0 .. NW-1) {
		if
		:: JOINED(v) && !((lmem[l] >> v) & 1) &&
				!(wst[v] == READY && rdy[v] == lseen[l]) &&
				!(late && wst[v] == PENDING && LIVE(v)) && !SPARED(v) -> wst[v] = DEAD
		:: else
		fi
	}
}

/* Activation's last statements and COMMIT; a and b own slot 0 and 1. */
inline activate(l, a, b, late) {
	assert(gst[lseen[l]] == PREPARING); /* P0: activated once */
	ufrom[0] = MOVED(l, 0); ufrom[1] = MOVED(l, 1);
	pos[0] = ufrom[0]; pos[1] = ufrom[1];
	assert(CNT(0, pos[0]) <= CNT(0, done[0]) && CNT(1, pos[1]) <= CNT(1, done[1])); /* P1 */
	cgen[0] = lseen[l]; cgen[1] = lseen[l];
	cown[0] = (a)+1; cown[1] = (b)+1;
	exclude(l, late);
	members = lmem[l];
	gst[lseen[l]] = ACTIVE;
	checkGenerations();
	endLeader(l);
	ufrom[0] = 0; ufrom[1] = 0
}

/* ---- processes ---- */

proctype Worker(byte w) {
	byte a, b;
	bool late;
end:
	do
	/* coordinator: joining and rejoining */
	:: d_step { LIVE(w) && wst[w] == OUT -> wst[w] = PENDING }
#ifndef NO_REJOIN
	:: d_step { LIVE(w) && wst[w] == DEAD && MAYREJOIN(w) -> wst[w] = PENDING; rdy[w] = 0; seen[w] = 0 }
#endif

	/* coordinator: a generation is being prepared; stop, then ready */
	:: d_step { LIVE(w) && JOINED(w) && gst[cur] == PREPARING && seen[w] != cur ->
			seen[w] = cur }
	:: d_step { LIVE(w) && JOINED(w) && seen[w] != 0 && rdy[w] != seen[w] && MAYREADY(w) ->
			rdy[w] = seen[w]; wst[w] = READY }

	/* coordinator: a generation is active; start, or stop if it is not ours */
	:: d_step { LIVE(w) && gst[cur] == ACTIVE && MEM(w) && wst[w] == READY && pg[w] != cur && ph[w] == OFF ->
			pg[w] = cur; ph[w] = RD }

	/* processor: stopping between batches, or cancelling the one in flight */
	:: d_step { LIVE(w) && ph[w] != OFF && MUSTSTOP(w) && MAYCANCEL(w) -> rollback(MAIN(w)); endProcessor(w) }

	/* processor: between batches */
	:: d_step { LIVE(w) && ph[w] == RD -> readRows(w) }
	:: atomic { LIVE(w) && ph[w] == NX && MINF(w) < E ->
			if
			:: MINF(w) < 1 -> last[w] = 1
#if E > 1
			:: MINF(w) < 2 -> last[w] = 2
#endif
#if E > 2
			:: MINF(w) < 3 -> last[w] = 3
#endif
#if E > 3
			:: MINF(w) < 4 -> last[w] = 4
#endif
			fi;
			d_step { choosePieces(w) } }

	/* processor: the fence, row by row */
	:: d_step { LIVE(w) && ph[w] == LK && FENCE(w, li[w]) && lk[li[w]] == 0 -> liftRow(w) }
	:: d_step { LIVE(w) && ph[w] == LK && !FENCE(w, li[w]) ->
			rollback(MAIN(w)); endBatch(w); ph[w] = RD }

	/* processor: COMMIT */
	:: d_step { LIVE(w) && ph[w] == HD && !txd[w] -> commit(MAIN(w), w); acknowledged(w) }
	:: d_step { LIVE(w) && ph[w] == HD && !txd[w] && FAULT && !HOLDS(ZOMB(w)) -> /* answer lost */
			faults--;
			for (s : 0 .. NS-1) {
				if
				:: lk[s] == MAIN(w) -> lk[s] = ZOMB(w)
				:: else
				fi
			}
#ifdef NO_REREAD
			acknowledged(w)
#else
			endBatch(w); ph[w] = RD
#endif
			}
	:: d_step { LIVE(w) && ph[w] == HD && txd[w] -> endBatch(w); ph[w] = RD }

	/* leader: a new generation */
	:: d_step { LIVE(w) && JOINED(w) && ldo[w] == 0 && gst[cur] == ACTIVE && SOME(DIFFERS) ->
			ldo[w] = PREP; lseen[w] = cur }
	:: d_step { LIVE(w) && JOINED(w) && ldo[w] == 0 && gst[cur] == ACTIVE && !SOME(DIFFERS) && FAULT ->
			faults--; ldo[w] = PREP; lseen[w] = cur }
#ifdef NO_GENERATION_ROW_LOCK
	:: d_step { LIVE(w) && ldo[w] == PREP -> insertGeneration(w); endLeader(w) }
#else
	:: d_step { LIVE(w) && ldo[w] == PREP && genlk == 0 ->
			if
			:: cur == lseen[w] && gst[cur] == ACTIVE -> insertGeneration(w); buryLost()
			:: else
			fi;
			endLeader(w) }
	/* a worker that is only cut off is held for lost */
	:: d_step { LIVE(w) && ldo[w] == PREP && genlk == 0 && cur == lseen[w] && gst[cur] == ACTIVE && FAULT && JOINED((w+1)%NW) ->
			faults--;
			insertGeneration(w); buryLost();
			wst[(w+1)%NW] = DEAD;
			endLeader(w) }
#endif

	/* leader: activation */
	:: d_step { LIVE(w) && JOINED(w) && ldo[w] == 0 && gst[cur] == PREPARING && SOME(ISREADY) && !SOME(WAITS) ->
			ldo[w] = ACTV; lseen[w] = cur }
	:: d_step { LIVE(w) && JOINED(w) && ldo[w] == 0 && gst[cur] == PREPARING && SOME(ISREADY) && SOME(WAITS) && FAULT ->
			faults--; ldo[w] = ACTV; lseen[w] = cur }
#ifdef NO_GENERATION_ROW_LOCK
	:: d_step { LIVE(w) && ldo[w] == ACTV -> gather(w) }
#else
	:: d_step { LIVE(w) && ldo[w] == ACTV && genlk == 0 ->
			if
			:: cur == lseen[w] && gst[cur] == PREPARING -> genlk = w+1; gather(w)
			:: else -> endLeader(w)
			fi }
#endif
#ifdef NO_CHECKPOINT_LOCK
	:: d_step { LIVE(w) && ldo[w] == ROW0 ->
			lpos[w*NS] = pos[0]; lpos[w*NS+1] = pos[1]; ldo[w] = ROW1 }
	:: d_step { LIVE(w) && ldo[w] == ROW1 && lk[0] == 0 && lk[1] == 0 ->
			lk[0] = LEAD(w); lk[1] = LEAD(w); ldo[w] = LAST }
#else
	:: d_step { LIVE(w) && ldo[w] == ROW0 && lk[0] == 0 -> lk[0] = LEAD(w); ldo[w] = ROW1 }
	:: d_step { LIVE(w) && ldo[w] == ROW1 && lk[1] == 0 -> lk[1] = LEAD(w); ldo[w] = LAST }
#endif
	:: atomic { LIVE(w) && ldo[w] == LAST ->
			if
			:: LMEM(w, 0) -> a = 0
			:: LMEM(w, 1) -> a = 1
#if NW > 2
			:: LMEM(w, 2) -> a = 2
#endif
			fi;
			if
			:: LMEM(w, 0) && (SINGLE(lmem[w]) || a != 0) -> b = 0
			:: LMEM(w, 1) && (SINGLE(lmem[w]) || a != 1) -> b = 1
#if NW > 2
			:: LMEM(w, 2) && (SINGLE(lmem[w]) || a != 2) -> b = 2
#endif
			fi;
			if
			:: late = true
			:: late = false
			fi;
			d_step { activate(w, a, b, late); a = 0; b = 0; late = false } }
	od
}

/* PostgreSQL, as far as it concerns w. */
proctype Server(byte w) {
end:
	do
	/* a COMMIT whose client does not wait any more */
	:: d_step { HOLDS(ZOMB(w)) -> commit(ZOMB(w), w); skip }
	:: d_step { HOLDS(ZOMB(w)) -> rollback(ZOMB(w)); skip }

	/* the client is gone, or silent for longer than the timeout */
	:: d_step { HOLDS(MAIN(w)) && !alive[w] -> rollback(MAIN(w)); skip }
#ifndef NO_IDLE_TIMEOUT
	:: d_step { HOLDS(MAIN(w)) && frozen[w] ->
			rollback(MAIN(w));
			if
			:: ph[w] == HD -> txd[w] = true
			:: else -> endBatch(w); ph[w] = RD
			fi }
#endif
	:: d_step { ldo[w] >= ROW0 && !LIVE(w) -> endLeader(w) }

	/* the server, or a leader, cuts the transaction of a live worker */
	:: d_step { LIVE(w) && ph[w] == HD && !txd[w] && FAULT ->
			faults--; rollback(MAIN(w)); txd[w] = true }
	od
}

/* An activation holds the row of w in orchestrator_workers; w is the process's. */
#define HELD(l) LMEM(l, w)

/* What may befall w. */
proctype Fate(byte w) {
end:
	do
	:: d_step { FAULT && alive[w] -> /* crash */
			faults--;
			alive[w] = false; frozen[w] = false;
			endProcessor(w); pg[w] = 0; seen[w] = 0;
			if
			:: ldo[w] < ROW0 -> ldo[w] = 0; lseen[w] = 0; lmem[w] = 0
			:: else
			fi }
	:: d_step { FAULT && LIVE(w) -> faults--; frozen[w] = true }
	:: d_step { faults > 0 && frozen[w] -> frozen[w] = false }
	:: d_step { FAULT && LIVE(w) && ph[w] < LK && ldo[w] == 0 && JOINED(w) && !SOME(HELD) -> /* leave */
			faults--;
			alive[w] = false;
			endProcessor(w); pg[w] = 0; seen[w] = 0;
			wst[w] = OUT }
	od
}

#define MISCOUNTED(w) (MEM(w) != LIVE(w))
#define FINISHED (CNT(0, done[0]) == CNT(0, E) && CNT(1, done[1]) == CNT(1, E))

proctype World() {
end:
	do
	:: d_step { faults > 0 -> faults = 0 } /* from now on the world is quiet */
	:: timeout -> break
	od;
	assert(!SOME(LIVE) || (gst[cur] == ACTIVE && !SOME(MISCOUNTED))); /* P5 */
	assert(!SOME(LIVE) || FINISHED)                                   /* P5 */
}

/* Starts from an active generation 1 whose members are nobody, worker 0, or
   everybody; who is no member is about to join. */
init {
	atomic {
		if
		:: members = 0
		:: members = 1
		:: members = (1 << NW) - 1
		fi;
		d_step {
			gst[1] = ACTIVE;
			for (v : 0 .. NW-1) {
				alive[v] = true;
				if
				:: MEM(v) -> wst[v] = READY; rdy[v] = 1; seen[v] = 1
				:: else
				fi
			}
			cgen[0] = 1; cgen[1] = 1;
			if
			:: members == 0
			:: members == 1 -> cown[0] = 1; cown[1] = 1
			:: else -> cown[0] = 1; cown[1] = 2
			fi
		}
		run Worker(0); run Server(0); run Fate(0);
		run Worker(1); run Server(1); run Fate(1);
#if NW > 2
		run Worker(2); run Server(2); run Fate(2);
#endif
		run World()
	}
}
