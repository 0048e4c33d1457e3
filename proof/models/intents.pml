/*
 * Intents: a revoker that dies between its commit and its receipt.
 *
 * The leases always hold here. What is checked: no request is accepted that starts after the receipt, or after a worker has
 * looked at the system database once, from a moment at which the change was committed and the intent old enough. A process
 * of a model may stop at any step for ever, so the revoker dies at each of its steps; RETRY sends the request again.
 */
#define COARSE
#include "request.pml"

bool begun;			/* the revoker has come to where the intent is written */
bool intent;			/* the row */
bool due;			/* it is older than half a lease */
bool lost;			/* the transaction of the change was rolled back */
bool asked;			/* an event was published and not acknowledged */
bool died;

inline may_die() {
	if
	:: atomic { died = true; STEP(revoker, 0, dies); goto out; }
	:: true
	fi
}

proctype Bus() provided (UNDECIDED) {
	byte x;
end:	do
	:: asked -> FORGET(bus) atomic { asked = false; STEP(bus, 0, acknowledged); }
	od
}

proctype Reader() provided (UNDECIDED) {
	byte x;
	bool seen, bound, before;
end:	do
	:: atomic { seen = intent && due; bound = committed && due; STEP(reader, 0, looks); };
	   if
#ifdef NO_FORGETTING_AT_EACH_LOOK
	   :: seen && !before -> FORGET(reader); before = true
#else
	   :: seen -> FORGET(reader)
#endif
	   :: else
	   fi;
	   atomic { receipt = receipt || bound; seen = false; bound = false; STEP(reader, 0, looked); }
	od
}

proctype Time() provided (UNDECIDED) {
	begun;
	atomic { due = true; STEP(intent, 0, is_due); };
	/* 60 s: by then the change is committed or lost, and workers that can read have looked (those that can't hold no lease) */
	atomic { receipt || lost -> intent = false; STEP(intent, 0, too_old); }
}

proctype Revoker() provided (UNDECIDED) {
#ifndef NO_INTENT_BEFORE_THE_COMMIT
	atomic { begun = true;
#ifndef NO_INTENT
	intent = true;
#endif
	STEP(revoker, 0, intended); };
	may_die();
#endif
	if
	:: atomic { committed = true; STEP(revoker, 0, committed); }
	:: atomic { lost = true; STEP(revoker, 0, lost); goto out; }
	fi;
#ifdef NO_INTENT_BEFORE_THE_COMMIT
	begun = true;
	may_die();
	intent = true;
#endif
	may_die();
#ifdef NO_COMPLETION_AFTER_THE_RECEIPT
	atomic { intent = false; STEP(revoker, 0, completed); };
	may_die();
#endif
	atomic { asked = true; STEP(revoker, 0, published); };
	may_die();
	atomic { !asked -> receipt = true; STEP(revoker, 0, receipt); };
	may_die();
	atomic { intent = false; STEP(revoker, 0, completed); };
out:	skip
}

proctype Retry() provided (UNDECIDED) {
	/* the same request, sent again: there is nothing left to commit */
end:	atomic { died && committed -> asked = true; STEP(retry, 0, published); };
	atomic { !asked -> receipt = true; STEP(retry, 0, receipt); }
}

init {
	byte i;
	atomic {
		run Bus(); run Reader(); run Time(); run Revoker();
#ifdef RETRY
		run Retry();
#endif
		for (i : 0 .. REQUESTS - 1) { spoiled[i] = true; run Request(i); }
	}
}

#ifdef LIVENESS
/* After the commit, and whether or not the revoker died, the key is forgotten for good. */
ltl forgotten { [] (committed -> <> [] !cached) }
#endif
