/*
 * Two Redis servers that serve at the same time, their identities, and the homes in the system database.
 *
 * A receipt is given by Redis alone; a revoker that finds another home stops here, and continues in fallback.pml. There, too,
 * is what happens to a worker that is not in the list of readers: here its row remains, and its second lease always holds.
 */
#define USES_LEASE
#define COARSE
#include "request.pml"

#ifndef LOSSES
#define LOSSES 1		/* restarts, failovers, flushes */
#endif
#ifndef LATE_WRITES
#define LATE_WRITES 1		/* a write to the system database that timed out, and is committed later */
#endif

mtype = { EVENT, RENEWED };
chan link = [3] of { mtype, byte, byte };	/* identity and epoch of the Redis that sent it */
byte at;			/* the Redis that the worker's connection leads to: 0, 1, or 2 for none */

/* each Redis */
byte identity[2];
byte epoch[2];
byte identities;

/* the first, at which the event is published; nothing distinguishes the two before, and the list at the other is not read */
bool listed;
bool changed;			/* the worker's record is not the one that the sweeper has seen */
bool pending;

/* the worker */
byte known_identity, known_epoch;
byte renews_at, written;	/* identities; 0 for none */

/* its row in the system database */
bool row;
byte row_home;			/* an identity; 0 for none */
byte late_writes;
bool late;			/* a write is late */
bool late_superseded;		/* ... and a later one was committed in the meantime */
byte late_home;

#define CONFIRM_FORGETS(e) (DIFFERENT(e) || !lease.holds)
#define DIFFERENT(e) (who != known_identity || e != known_epoch)
#ifdef NO_FORGETTING_WHEN_THE_LEASE_EXPIRED
#undef CONFIRM_FORGETS
#define CONFIRM_FORGETS(e) DIFFERENT(e)
#endif

proctype Bus() provided (UNDECIDED) {
	byte x, e, who;
	bool owes, is_written;

connect:
	atomic {
		do
		:: link?_,_,_
		:: empty(link) -> break
		od;
		ask_failed(lease);
		e = 0; who = 0; owes = 0; is_written = 0;
		if
		:: at = 0; STEP(bus, 0, connected)
		:: at = 1; STEP(bus, 1, connected)
		fi
	};
renew:	atomic { ask(lease); STEP(bus, 0, asks); };
	if
	:: atomic { at < 2;
		if
		:: at == 0 -> listed = true; changed = true
		:: else
		fi;
		link!RENEWED(identity[at], epoch[at]); STEP(bus, at, renewed); }
	:: atomic { STEP(bus, 0, disconnected); at = 2; goto connect; }
	fi;
hear:	do
	:: atomic { link?EVENT(who, e); STEP(bus, 0, receives); };
	   /* Guard.apply_event */
	   if
	   :: atomic { who != renews_at -> drop(lease); STEP(bus, 0, dropped); }
	   :: else
	   fi;
	   FORGET(bus)
	   atomic { known_identity = who; known_epoch = e; STEP(bus, 0, heard); };
	   if
	   :: lease.asked -> owes = true
	   :: atomic { !lease.asked && at < 2 ->
		if
		:: at == 0 && who == identity[0] -> pending = false
		:: else
		fi; STEP(bus, 0, acknowledged); }
	   :: !lease.asked && at == 2 -> goto connect
	   fi;
	   e = 0; who = 0;
	:: atomic { link?RENEWED(who, e); STEP(bus, 0, reply); break; }
	:: atomic { !lease.asked; STEP(bus, 0, idle); goto renew; }
	:: atomic { STEP(bus, 0, disconnected); at = 2; goto connect; }
	od;
	/* Guard.confirm_lease */
	atomic { is_written = (written == who); STEP(bus, 0, looked_at_home); };
	if
	:: CONFIRM_FORGETS(e) -> FORGET(bus)
	:: else
	fi;
	atomic {
		known_identity = who; known_epoch = e; renews_at = who;
#ifdef NO_HOME_BEFORE_FORGETTING
		is_written = (written == who);
#else
		is_written = is_written && (written == who);
#endif
		STEP(bus, 0, set_home);
	};
	atomic {
		if
#ifdef NO_HOME
		:: true
#else
		:: is_written
#endif
			-> confirm(lease); STEP(bus, 0, confirmed)
		:: else -> ask_failed(lease);
#ifndef NO_DROPPING_AT_A_NEW_HOME
			drop(lease);
#endif
			STEP(bus, 0, not_confirmed)
		fi;
		e = 0; who = 0; is_written = 0;
	};
	if
	:: atomic { owes && at == 0 -> pending = false; owes = false; STEP(bus, 0, acknowledged); }
	:: else -> owes = false
	fi;
	goto hear
}

proctype Reader() provided (UNDECIDED) {
	byte home;

	/* it writes if there is news, or if it is time to */
look:	atomic {
		home = renews_at;
#ifndef NO_HOME_UNKNOWN_WHILE_WRITING
		if
		:: home != 0 && home != written -> written = 0
		:: else
		fi;
#endif
		STEP(reader, 0, asks);
	};
	if
	:: atomic { row = true; row_home = home; late_superseded = late; STEP(reader, 0, wrote); }
	:: atomic { late_writes < LATE_WRITES && !late -> late_writes++; late = true; late_superseded = false; late_home = home;
		home = 0; STEP(reader, 0, write_is_late); goto look; }
	:: atomic { home = 0; STEP(reader, 0, write_fails); goto look; }
	fi;
	if
	:: atomic { written = home; STEP(reader, 0, moved); }
	:: atomic { home = 0; STEP(reader, 0, write_reply_lost); goto look; }
	fi;
	goto look
}

proctype Database() provided (UNDECIDED) {
	/* writes that come late */
end:	do
	:: atomic { late ->
		if
#ifndef NO_HEARTBEATS_IN_ORDER
		:: late_superseded && row -> STEP(database, 0, ignores_late_write)
#endif
		:: else -> row = true; row_home = late_home; STEP(database, 0, commits_late_write)
		fi;
		late = false; late_superseded = false; late_home = 0; }
	od
}

proctype Expiry() provided (UNDECIDED) {
	byte x;
end:	do
	:: atomic { lease.holds -> expire(lease); STEP(lease, 0, expires); }
	od
}

proctype Losses() provided (UNDECIDED) {
	/* a Redis restarts, fails over or is flushed: it is another one, and may hold earlier data */
	byte n, r;
	do
	:: atomic { n < LOSSES -> n++;
		if
		:: r = 0
		:: r = 1
		fi;
#ifndef NO_IDENTITY
		identities++;
		identity[r] = identities;
#endif
		if
		:: r == 0 -> epoch[0] = 0; listed = false; changed = true; pending = false; STEP(redis, r, loses_everything)
		:: r == 0 && epoch[0] > 0 -> epoch[0]--; pending = false; STEP(redis, r, fails_over)
		:: r == 1 -> STEP(redis, r, loses_everything)
		fi;
		if
		:: at == r -> at = 2
		:: true
		fi;
		r = 0; }
	:: n == LOSSES -> break
	od
}

proctype Revoker() provided (UNDECIDED) {
	byte who, home;
	bool waits;
#ifdef NO_HOMES_READ_AFTER_THE_COMMIT
	atomic { home = (row -> row_home : 0); STEP(revoker, 0, read_homes); };
#endif
	atomic { committed = true; STEP(revoker, 0, committed); };
	atomic {
		epoch[0]++;
		who = identity[0];
		pending = listed;
		waits = listed;
		if
		:: at == 0 -> link!EVENT(who, epoch[0]); STEP(redis, 0, delivers)
		:: at == 0 -> STEP(redis, 0, loses_event)
		:: at != 0
		fi;
		STEP(revoker, 0, published);
	};
#ifndef NO_HOMES_READ_AFTER_THE_COMMIT
	atomic { home = (row -> row_home : 0); STEP(revoker, 0, read_homes); };
#endif
	if
#ifndef NO_HOMES_READ
	:: home != 0 && home != who -> goto end
#endif
	:: else
	fi;
	if
	:: waits ->
		atomic { wait_starts(lease, REVOKER); STEP(revoker, 0, wait_starts); };
		if
		:: identity[0] == who && !pending
		:: atomic { wait_may_end(lease, REVOKER) -> wait_ends(lease, REVOKER); STEP(revoker, 0, wait_ends); }
		fi
	:: else
	fi;
	atomic { receipt = true; STEP(revoker, 0, receipt); };
end:	skip
}

proctype Sweep() provided (UNDECIDED) {
	/* another worker takes this one off the list */
end:	do
	:: atomic { listed -> changed = false; wait_starts(lease, SWEEPER); STEP(sweeper, 0, looks); };
	   atomic { wait_may_end(lease, SWEEPER) -> wait_ends(lease, SWEEPER); STEP(sweeper, 0, wait_ends); };
	   atomic {
		if
		:: !changed -> listed = false
		:: else
		fi; changed = true; STEP(sweeper, 0, sweeps); }
	od
}

init {
	byte i;
	atomic {
		identity[0] = 1; identity[1] = 2; identities = 2; at = 2;
		changed = true;
		run Bus(); run Reader(); run Expiry(); run Revoker();
		for (i : 0 .. REQUESTS - 1) { spoiled[i] = true; run Request(i); }
		i = 0;
#if LOSSES > 0
		run Losses();
#endif
#if LATE_WRITES > 0
		run Database();
#endif
#ifndef NO_SWEEPS
		run Sweep();
#endif
	}
}
