/*
 * Fallback notices in the system database, the second lease, and the list of readers.
 *
 * A receipt is given by a notice, or because the worker is not in the list of readers. The lease from Redis always holds
 * here, and nothing is heard from Redis, which only adds behavior.
 */
#define USES_READING
#define COARSE
#include "request.pml"

#ifndef OTHERS
#define OTHERS 1		/* notices of other revokers */
#endif
#ifndef LATE_WRITES
#define LATE_WRITES 1		/* a write to the system database that timed out, and is committed later */
#endif

byte notice = 1;		/* the latest, in the system database */
bool row;			/* the worker is in the list of readers */
byte row_read;			/* ... and has read this notice */
bool row_changed;		/* since the sweeper looked */
bool peer_unread;		/* another worker has yet to read the notice */

byte known;			/* the notice that the guard has seen */
byte late_writes;
bool late;			/* a write is late */
byte late_read;

inline write(says) {
	row = true;
	row_changed = true;
	if
#ifdef NO_LATEST_MARK
	:: says != 0 -> row_read = notice
#else
	:: says == notice -> row_read = notice
#endif
	:: else
	fi
}

proctype Reader() provided (UNDECIDED) {
	byte x, read, latest;

look:	/* FallbackPoller.poll: it writes if there is another notice, or if it is time to */
	atomic { STEP(reader, 0, looks); };
#ifdef NO_FORGETTING_BEFORE_IT_SAYS_SO
	atomic { read = notice; STEP(reader, 0, reads); };
#endif
beat:	atomic { ask(reading); STEP(reader, 0, asks); };
	if
	:: atomic { write(read); STEP(reader, 0, wrote); }
	:: atomic { late_writes < LATE_WRITES && !late -> late_writes++; late = true; late_read = read;
		ask_failed(reading); latest = 0; STEP(reader, 0, write_is_late); goto look; }
	:: atomic { ask_failed(reading); latest = 0; STEP(reader, 0, write_fails); goto look; }
	fi;
	atomic { latest = notice; STEP(reader, 0, reads); };
	/* Guard.apply_notice */
	if
#ifdef NO_NOTICE_READ
	:: false
#else
	:: latest != known -> FORGET(reader)
#endif
#ifndef NO_FORGETTING_WHEN_THE_READING_LEASE_EXPIRED
	:: latest == known && !reading.holds -> FORGET(reader)
#endif
	:: else
	fi;
	atomic {
		known = latest;
#ifdef NO_LEASE_FROM_BEFORE_THE_REQUEST
		confirm_from_reply(reading);
#else
		confirm(reading);
#endif
		STEP(reader, 0, noticed);
	};
	if
	:: atomic { latest == read -> latest = 0; goto look; }
	:: atomic { latest != read -> read = latest; latest = 0; goto beat; }
	fi
}

proctype Database() provided (UNDECIDED) {
end:	do
	:: atomic { late -> write(late_read); late = false; late_read = 0; STEP(database, 0, commits_late_write); }
	od
}

proctype Expiry() provided (UNDECIDED) {
	byte x;
end:	do
	:: atomic { reading.holds -> expire(reading); STEP(reading, 0, expires); }
	od
}

proctype Peer() provided (UNDECIDED) {
	/* Any other worker, as the revoker sees it: it reads the notice at any time, or never. */
end:	do
	:: atomic { peer_unread -> peer_unread = false; STEP(peer, 0, read); }
	od
}

proctype Revoker() provided (UNDECIDED) {
	byte mine;
	bool waits;
	atomic { committed = true; STEP(revoker, 0, committed); };
	if
	:: atomic { !row -> STEP(revoker, 0, read_homes); goto out; }	/* the worker is nowhere: receipt by Redis */
	:: atomic { row -> STEP(revoker, 0, read_homes); }
	fi;
	atomic { notice++; mine = notice; peer_unread = true; STEP(revoker, 0, posted); };
	atomic { waits = row; STEP(revoker, 0, read_list); };
#ifdef NO_WAIT_FOR_THE_READING_LEASE
	goto out;	/* as for a lease from Redis: this wait guarantees nothing about the second lease */
#endif
	atomic { wait_starts(reading, REVOKER); STEP(revoker, 0, wait_starts); };
	if
	:: atomic { (!waits || !row || row_read >= mine) && !peer_unread -> STEP(revoker, 0, all_read); }
#ifdef NO_WAIT_FOR_EVERY_WORKER
	:: atomic { !peer_unread -> STEP(revoker, 0, all_read); }
#endif
	:: atomic { wait_may_end(reading, REVOKER) -> wait_ends(reading, REVOKER); STEP(revoker, 0, wait_ends); }
	fi;
out:	atomic { receipt = true; STEP(revoker, 0, receipt); }
}

proctype Others() provided (UNDECIDED) {
	byte n;
	do
	:: atomic { n < OTHERS -> n++; notice++; STEP(other, 0, posted); }
	:: n == OTHERS -> break
	od
}

proctype Sweep() provided (UNDECIDED) {
	/* another worker takes this one off the list of readers */
end:	do
	:: atomic { row -> row_changed = false; wait_starts(reading, SWEEPER); STEP(sweeper, 0, looks); };
	   if
#ifdef NO_SWEEPERS_WAIT
	   :: true
#endif
	   :: atomic { wait_may_end(reading, SWEEPER) -> wait_ends(reading, SWEEPER); STEP(sweeper, 0, wait_ends); }
	   fi;
	   atomic {
		if
#ifdef NO_UNCHANGED_RECORD
		:: true -> row = false; row_read = 0
#else
		:: !row_changed -> row = false; row_read = 0
		:: else
#endif
		fi;
		row_changed = true; STEP(sweeper, 0, sweeps); }
	od
}

init {
	byte i;
	atomic {
		row_changed = true;
		run Reader(); run Expiry(); run Peer(); run Revoker();
		for (i : 0 .. REQUESTS - 1) { spoiled[i] = true; run Request(i); }
		i = 0;
#if OTHERS > 0
		run Others();
#endif
#if LATE_WRITES > 0
		run Database();
#endif
#ifndef NO_SWEEPS
		run Sweep();
#endif
	}
}
