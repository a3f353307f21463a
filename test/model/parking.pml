/*
 * parking.pml: the events of one aggregate, which its slot's owner handles, parks, puts
 * aside and retries, while an operator discards, pauses, resumes and resets, and the slot
 * changes hands.
 *
 * What stands for what
 *
 *   Worker(w)   a processor (actors/): it reads the checkpoint and then what is parked, and
 *               commits batches of one event by what it has read.
 *   Operator    package admin: each act is one transaction that holds the checkpoint, so it
 *               is one step.
 *   World       the slot changes hands: activation writes another generation and owner.
 *
 *   pos gen own rev held     the row of orchestrator_checkpoints; gen names the owner too
 *   parked letters           orchestrator_parked_aggregates; the aggregate's rows of
 *                            orchestrator_dead_letters with the state parked, a bit each
 *   handled discarded        ghosts: what became of each event, a bit each
 *   know bpos bgen brev bheld bparked   what worker w has read
 *   half                     it has read the checkpoint, and not yet what is parked
 *
 * A transaction locks the checkpoint first, so a commit is one step that compares what the
 * worker believes with the row. A lost answer is a commit after which the worker reads again.
 * Requests are left out: a retry is possible at any time. What is not committed hides nothing,
 * so a handler that fails and is retried is not modelled.
 *
 * Properties
 *
 *   P2  no event is handled twice, nor handled and a letter (since the last reset)
 *   P4  an event is handled when none before it is a letter
 *   P6  every letter's aggregate is parked, and nothing is parked without a letter
 *   P7  no batch commits while the slot is held
 *   P1  the checkpoint passes no event that is neither handled, nor a letter, nor discarded
 *   P5  in the end every event is passed, unless the slot is held
 *
 * Bounds: 2 workers, E events, ACTS acts of the operator and changes of hands.
 */

#ifndef E
#define E 3
#endif
#ifndef ACTS
#define ACTS 4
#endif
#define NW 2

#define BIT(e)   (1 << (e))
#define BELOW(e) (BIT(e) - 1)

byte pos; byte gen = 1; byte own = 1; byte rev; bool held; bool parked;
byte letters; byte handled; byte discarded;
byte acts = ACTS;

bool know[NW]; bool half[NW]; byte bpos[NW]; byte bgen[NW]; byte brev[NW]; bool bheld[NW]; bool bparked[NW];

hidden byte e;

#ifdef NO_REVISION_IN_FENCE
#define SAMEREV(w) true
#else
#define SAMEREV(w) (rev == brev[w])
#endif
#define FENCE(w) (gen == bgen[w] && own == (w)+1 && pos == bpos[w] && SAMEREV(w))

inline check() {
	assert((letters == 0) == !parked);                           /* P6 */
	assert((letters & handled) == 0);                            /* P2 */
	assert((BELOW(pos) & ~(handled | letters | discarded)) == 0) /* P1 */
}

/* The batch has committed: its worker knows, or, where the answer was lost, reads again. */
inline answered(w) {
	if
	:: bpos[w] = pos; bparked[w] = parked
	:: know[w] = false
	fi
}

proctype Worker(byte w) {
	do
	/* It reads the checkpoint, and then what is parked: the revision fences the latter. */
#ifdef PARKED_BEFORE_REVISION
	:: atomic { !know[w] && !half[w] -> bparked[w] = parked; half[w] = true }
	:: atomic { half[w] -> half[w] = false;
		if
		:: own == w+1 -> bpos[w] = pos; bgen[w] = gen; brev[w] = rev; bheld[w] = held; know[w] = true
		:: else
		fi }
#else
	:: atomic { !know[w] && !half[w] && own == w+1 -> bpos[w] = pos; bgen[w] = gen; brev[w] = rev; bheld[w] = held; half[w] = true }
	:: atomic { half[w] -> half[w] = false; bparked[w] = parked; know[w] = true }
#endif
	/* A look shows that somebody has raised the revision, or that the slot is somebody else's. */
	:: atomic { know[w] && (brev[w] != rev || bgen[w] != gen) -> know[w] = false }
	/* The next event is handled, or parked, or put aside. */
	:: atomic { know[w] && !bheld[w] && bpos[w] < E ->
		if
		:: !FENCE(w) -> know[w] = false
		:: else ->
			assert(!held); /* P7 */
			e = pos;
			if
			:: bparked[w] -> letters = letters | BIT(e)
			:: !bparked[w] ->
				assert((letters & BELOW(e)) == 0); /* P4 */
				assert((handled & BIT(e)) == 0);   /* P2 */
				handled = handled | BIT(e)
			:: !bparked[w] -> parked = true; letters = letters | BIT(e)
			fi;
			pos = pos + 1;
			check();
			answered(w)
		fi }
	/* A retry of the first letter, and of the last. */
	:: atomic { know[w] && !bheld[w] && bparked[w] ->
		if
		:: !FENCE(w) || letters == 0 -> know[w] = false
		:: else ->
			assert(!held); /* P7 */
			e = 0;
			do
			:: (letters & BIT(e)) == 0 -> e = e + 1
			:: else -> break
			od;
			assert((letters & BELOW(e)) == 0); /* P4 */
			assert((handled & BIT(e)) == 0);   /* P2 */
			letters = letters & ~BIT(e); handled = handled | BIT(e);
			if
			:: letters == 0 -> parked = false
			:: else
			fi;
			check();
			answered(w)
		fi }
	:: timeout -> break
	od
}

#ifdef NO_RAISE
#define RAISE skip
#else
#define RAISE rev = rev + 1
#endif

proctype Operator() {
	do
	:: atomic { acts > 0 && parked -> acts = acts - 1; /* discard */
		discarded = discarded | letters; letters = 0; parked = false; RAISE; check() }
#ifndef NO_PAUSE
	:: atomic { acts > 0 -> acts = acts - 1; held = true; RAISE }  /* pause */
#endif
	:: atomic { acts > 0 && held -> acts = acts - 1; held = false; RAISE } /* resume */
	:: atomic { acts > 0 -> acts = acts - 1; /* reset to the start, with the read model */
		pos = 0; handled = 0; discarded = 0; letters = 0; parked = false; RAISE; check() }
	:: atomic { acts > 0 && held == false && parked == false && pos > 0 -> acts = acts - 1; /* parks by hand, with the event before as its letter */
		parked = true; handled = handled & ~BIT(pos - 1); discarded = discarded & ~BIT(pos - 1); letters = BIT(pos - 1); RAISE; check() }
	:: atomic { acts > 0 -> acts = acts - 1; gen = gen + 1; own = 3 - own } /* the slot changes hands */
	:: timeout -> break
	od;
	/* Whoever is left has handled everything, unless it is held. */
	assert(held || pos == E) /* P5 */
}

init { atomic { run Worker(0); run Worker(1); run Operator() } }
