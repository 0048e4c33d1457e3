/*
 * One Redis: lease, acknowledgement, epoch, fill token, order of the looks, sweeping.
 *
 * Not in this model: the second lease (it always holds here, which only adds behavior), and other Redis servers.
 */
#define USES_LEASE
#include "request.pml"

#ifndef OTHERS
#define OTHERS 1		/* events about something else, and so possibly lost */
#endif

#define KEY 1
#define OTHER 0

mtype = { EVENT, RENEWED };
chan link = [3] of { mtype, byte, bit, bit };	/* epoch, scope, whether it is to be acknowledged */
bool connected;

byte epoch;			/* in Redis */
bool listed;			/* in Redis: the worker may hold a lease */
bool pending;			/* in Redis: the worker has yet to acknowledge the event */
bool peer_pending;		/* in Redis: another worker has yet to acknowledge it */
byte known;			/* the epoch that the worker has reached */
bool changed;			/* the worker's record is not the one that the sweeper has seen */

inline publish(scope, acknowledged) {
	/* one script: raise the epoch, publish, read the list */
	epoch++;
	if
	:: connected -> link!EVENT(epoch, scope, acknowledged); STEP(redis, 0, delivers)
	:: connected -> STEP(redis, 0, loses_event)	/* the connection is half-open, or was cut */
	:: !connected
	fi;
	if
	:: acknowledged -> pending = listed; peer_pending = true
	:: !acknowledged
	fi
}

#define HEARD \
	if \
	:: scope == KEY -> FORGET(bus) \
	:: scope != KEY && GAP(e - 1 != known) -> FORGET(bus) \
	:: else \
	fi; \
	atomic { known = e; e = 0; STEP(bus, 0, heard); }
#ifdef NO_EPOCH_IN_EVENTS
#define GAP(c) false
#else
#define GAP(c) (c)
#endif

#define ACKNOWLEDGE \
	atomic { pending = false; owes = 0; STEP(bus, 0, acknowledged); }

proctype Bus() provided (UNDECIDED) {
	byte x, e;
	bit scope, wanted, owes;

connect:
	atomic {
		do
		:: link?_,_,_,_
		:: empty(link) -> break
		od;
		connected = true;
		ask_failed(lease);
		e = 0; scope = 0; wanted = 0; owes = 0;
		STEP(bus, 0, connected);
	};
renew:	atomic { ask(lease); STEP(bus, 0, asks); };
	if
	:: atomic { listed = true; changed = true; link!RENEWED(epoch, 0, 0); STEP(bus, 0, renewed); }
	:: atomic { STEP(bus, 0, disconnected); connected = false; goto connect; }
	fi;
	do
	:: atomic { link?EVENT(e, scope, wanted); owes = owes | wanted; wanted = 0; STEP(bus, 0, receives); };
#ifdef NO_ACKNOWLEDGEMENT_AFTER_FORGETTING
	   if
	   :: owes -> ACKNOWLEDGE
	   :: else
	   fi;
#endif
	   HEARD
	:: atomic { link?RENEWED(e, _, _); STEP(bus, 0, reply); break; }
	:: atomic { STEP(bus, 0, disconnected); connected = false; goto connect; }
	od;
	/* Guard.confirm_lease */
	if
#ifdef NO_EPOCH_IN_RENEWALS
	:: !lease.holds ->
#else
	:: e != known || !lease.holds ->
#endif
		FORGET(bus)
	:: else
	fi;
	atomic {
		known = e; e = 0;
#ifdef NO_LEASE_FROM_BEFORE_THE_REQUEST
		confirm_from_reply(lease);
#else
		confirm(lease);
#endif
		STEP(bus, 0, confirmed);
	};
	if
	:: owes -> ACKNOWLEDGE
	:: else
	fi;
	do
	:: atomic { link?EVENT(e, scope, owes); STEP(bus, 0, receives); };
#ifdef NO_ACKNOWLEDGEMENT_AFTER_FORGETTING
	   if
	   :: owes -> ACKNOWLEDGE; HEARD
	   :: else -> HEARD
	   fi;
#else
	   HEARD;
	   if
	   :: owes -> ACKNOWLEDGE
	   :: else
	   fi;
#endif
	   scope = 0;
	:: goto renew
	:: atomic { STEP(bus, 0, disconnected); connected = false; goto connect; }
	od
}

proctype Expiry() provided (UNDECIDED) {
	byte x;
end:	do
	:: atomic { lease.holds -> expire(lease); STEP(lease, 0, expires); }
	od
}

proctype Peer() provided (UNDECIDED) {
	/* Any other worker, as the revoker sees it: it acknowledges at any time, or never. */
end:	do
	:: atomic { peer_pending -> peer_pending = false; STEP(peer, 0, acknowledged); }
	od
}

proctype Revoker() provided (UNDECIDED) {
#ifdef NO_WAIT_FROM_THE_REPLY
	atomic { wait_starts(lease, REVOKER); STEP(revoker, 0, wait_starts); };
#endif
#ifdef NO_COMMIT_BEFORE_PUBLICATION
	atomic { publish(KEY, 1); STEP(revoker, 0, published); };
	atomic { committed = true; STEP(revoker, 0, committed); };
#else
	atomic { committed = true; STEP(revoker, 0, committed); };
	atomic { publish(KEY, 1); STEP(revoker, 0, published); };
#endif
#ifndef NO_WAIT_FROM_THE_REPLY
	atomic { wait_starts(lease, REVOKER); STEP(revoker, 0, wait_starts); };
#endif
	if
#ifdef NO_WAIT
	:: true
#endif
#ifdef NO_WAIT_FOR_EVERY_WORKER
	:: !peer_pending
#endif
	:: !pending && !peer_pending
	:: atomic { wait_may_end(lease, REVOKER) -> wait_ends(lease, REVOKER); STEP(revoker, 0, wait_ends); }
	fi;
	atomic { receipt = true; STEP(revoker, 0, receipt); }
}

proctype Others() provided (UNDECIDED) {
	/* Events about another key, that no revoker waits for. */
	byte n;
	do
	:: atomic { n < OTHERS -> n++; publish(OTHER, 0); STEP(other, 0, announced); }
	:: n == OTHERS -> break
	od
}

proctype Sweep() provided (UNDECIDED) {
	/* Another worker: it looks twice, and takes off the list the workers whose record has not changed. */
end:	do
	:: atomic { listed -> changed = false; wait_starts(lease, SWEEPER); STEP(sweeper, 0, looks); };
	   if
#ifdef NO_SWEEPERS_WAIT
	   :: true
#endif
	   :: atomic { wait_may_end(lease, SWEEPER) -> wait_ends(lease, SWEEPER); STEP(sweeper, 0, wait_ends); }
	   fi;
	   atomic {
		if
#ifdef NO_UNCHANGED_RECORD
		:: true -> listed = false
#else
		:: !changed -> listed = false
		:: else
#endif
		fi;
		changed = true; STEP(sweeper, 0, sweeps); }
	od
}

init {
	byte i;
	atomic {
		changed = true;
		run Bus(); run Expiry(); run Peer(); run Revoker();
		for (i : 0 .. REQUESTS - 1) { spoiled[i] = true; run Request(i); }
		i = 0;
#if OTHERS > 0
		run Others();
#endif
#ifndef NO_SWEEPS
		run Sweep();
#endif
	}
}
