/*
 * Requests, and the memory of a worker. Included by the models of safety.
 *
 * There is one key. `committed`: the database refuses it. `receipt`: the revoke call has returned its receipt.
 * `cached`: the worker remembers that the key is good.
 *
 * COARSE joins steps of a request and of forgetting whose every interleaving lease.pml covers.
 *
 * Time is not a number. A lease may expire at any moment; the only thing that a wait of the length of a lease guarantees
 * is that every lease that was asked for before the wait started has expired when it ends. For each kind of lease (L: from
 * Redis; S: from the system database) and each wait, a flag says whether the lease that holds, and the one that was asked
 * for and not yet confirmed, are older than the wait. `wait_starts` sets the flags and `wait_may_end` reads them. So the
 * models cover clocks of every rate for which a revoker's wait outlasts a lease, and threads that are paused at any step.
 */

#ifndef REQUESTS
#define REQUESTS 1		/* at the same time */
#endif

bool committed, receipt;
bool cached;

bool spoiled[REQUESTS];		/* the fill token of this request no longer counts */
bool held[REQUESTS];		/* this request found that the leases hold */
bool good[REQUESTS];		/* ... and read in the database that the key is good */

#define TEXT(text) #text
#define STEP(who, i, what) printf(TEXT(STEP who %d what\n), i)

/*
 * Once the change is committed, and nothing is remembered, and no request holds what it read before, no request can be
 * accepted any more: what follows need not be searched.
 */
#if REQUESTS == 1
#define UNDECIDED (!committed || cached || good[0])
#else
#define UNDECIDED (!committed || cached || good[0] || good[1])
#endif

/* ---- leases ---------------------------------------------------------------------------------------------------- */

#ifndef WAITS
#define WAITS 2			/* the revoker's wait and a sweeper's */
#endif
#define REVOKER 0
#define SWEEPER 1

typedef Lease {
	bool holds;
	bool older[WAITS];	/* it was asked for before this wait started */
	bool asked;		/* a renewal is on its way */
	bool asked_older[WAITS];
	bool asked_expired;	/* the renewal on its way was asked for so long ago that it is worth nothing any more */
	bool clock[REQUESTS];	/* request i read the clock, and at that time the lease held (or was confirmed since) */
	bool clock_expired[REQUESTS]; /* ... and the renewal on its way was worth nothing at that time */
};

Lease lease;		/* from Redis */
Lease reading;		/* from the system database */

inline ask(l) {
	/* the worker reads its clock and then asks */
	l.asked = true;
	l.asked_expired = false;
	for (x : 0 .. WAITS - 1) { l.asked_older[x] = false; }
	for (x : 0 .. REQUESTS - 1) { l.clock_expired[x] = false; }
	x = 0;
}

inline ask_failed(l) {
	l.asked = false;
	l.asked_expired = false;
	for (x : 0 .. WAITS - 1) { l.asked_older[x] = false; }
	for (x : 0 .. REQUESTS - 1) { l.clock_expired[x] = false; }
	x = 0;
}

inline drop(l) {
	l.holds = false;
	for (x : 0 .. WAITS - 1) { l.older[x] = false; }
	for (x : 0 .. REQUESTS - 1) { l.clock[x] = false; }
	x = 0;
}

inline confirm(l) {
	/* it holds from before it was asked for */
	for (x : 0 .. REQUESTS - 1) { l.clock[x] = !l.clock_expired[x]; }
	l.holds = !l.asked_expired;
	for (x : 0 .. WAITS - 1) { l.older[x] = l.asked_older[x] && l.holds; }
	x = 0;
	ask_failed(l);
}

inline confirm_from_reply(l) {
	/* a rule taken out: it holds from when the reply came */
	for (x : 0 .. REQUESTS - 1) { l.clock[x] = true; }
	l.holds = true;
	for (x : 0 .. WAITS - 1) { l.older[x] = false; }
	x = 0;
	ask_failed(l);
}

inline wait_starts(l, wait) {
	l.older[wait] = l.holds;
	l.asked_older[wait] = l.asked;
}

#define wait_may_end(l, wait) (!(l.holds && l.older[wait]))

inline wait_ends(l, wait) {
	l.asked_expired = l.asked_expired || (l.asked && l.asked_older[wait]);
	l.older[wait] = false;
	l.asked_older[wait] = false;
}

inline expire(l) {
	/* nothing happens in the worker; requests that read the clock before are not affected */
	l.holds = false;
	for (x : 0 .. WAITS - 1) { l.older[x] = false; }
	x = 0;
}

/* ---- forgetting: first the fill tokens, then what is remembered ------------------------------------------------- */

inline spoil() {
	for (x : 0 .. REQUESTS - 1) { spoiled[x] = true; }
	x = 0;
}

#if defined(NO_TOKEN_SPOILED_FIRST)
#define FORGET(who) \
	atomic { cached = false; STEP(who, 0, forgot); } \
	atomic { spoil(); STEP(who, 0, spoiled); }
#elif defined(COARSE)
#define FORGET(who) \
	atomic { spoil(); STEP(who, 0, spoiled); cached = false; STEP(who, 0, forgot); }
#else
#define FORGET(who) \
	atomic { spoil(); STEP(who, 0, spoiled); } \
	atomic { cached = false; STEP(who, 0, forgot); }
#endif

/* ---- a request ------------------------------------------------------------------------------------------------- */

#ifdef NO_READING_LEASE
#define READING_HELD true
#else
#define READING_HELD reading.clock[i]
#endif
#ifdef NO_LEASE
#define LEASE_HELD true
#else
#define LEASE_HELD lease.clock[i]
#endif

inline read_clock() {
	late = receipt;
	read_clock_only();
}

inline read_clock_only() {
	skip;
#ifdef USES_LEASE
	lease.clock[i] = lease.holds;
	lease.clock_expired[i] = lease.asked && lease.asked_expired;
#endif
#ifdef USES_READING
	reading.clock[i] = reading.holds;
	reading.clock_expired[i] = reading.asked && reading.asked_expired;
#endif
}

inline check_leases() {
#if !defined(USES_LEASE) && !defined(USES_READING)
	atomic { held[i] = true; STEP(request, i, checked_lease); }
#endif
#ifdef USES_LEASE
	atomic {
		held[i] = LEASE_HELD;
		lease.clock[i] = false;
		lease.clock_expired[i] = false;
		STEP(request, i, checked_lease);
	}
#endif
#ifdef USES_READING
	atomic {
#ifdef USES_LEASE
		held[i] = held[i] && READING_HELD;
#else
		held[i] = READING_HELD;
#endif
		reading.clock[i] = false;
		reading.clock_expired[i] = false;
		STEP(request, i, checked_reading);
	}
#endif
}

proctype Request(byte i) provided (UNDECIDED) {
	byte x;
	bool late;

end:	do
#ifdef NO_LEASE_BEFORE_LOOKUP
	:: atomic { good[i] = cached; late = receipt; STEP(request, i, started); STEP(request, i, looked_up); };
	   atomic { read_clock_only(); STEP(request, i, read_clock); };
	   check_leases();
	   if
	   :: atomic { good[i] && held[i]; STEP(request, i, accepted); assert(!late); held[i] = false; good[i] = false; late = false; goto end; }
	   :: else
	   fi;
#else
#ifdef COARSE
	:: atomic { read_clock(); STEP(request, i, started); STEP(request, i, read_clock); check_leases(); };
#else
	:: atomic { read_clock(); STEP(request, i, started); STEP(request, i, read_clock); };
	   check_leases();
#endif
	   if
	   :: atomic { held[i] && cached; STEP(request, i, looked_up); STEP(request, i, accepted); assert(!late);
		held[i] = false; late = false; goto end; }
	   :: atomic { held[i] && !cached; STEP(request, i, looked_up); }
	   :: atomic { !held[i]; STEP(request, i, looked_up); late = false; goto end; }	/* nothing that it reads is remembered */
	   fi;
#endif
#if defined(NO_TOKEN_BEFORE_READ)
	   atomic { good[i] = !committed; STEP(request, i, read_database); };
	   atomic { spoiled[i] = false; STEP(request, i, took_token); };
#elif defined(COARSE)
	   atomic { spoiled[i] = false; STEP(request, i, took_token); good[i] = !committed; STEP(request, i, read_database); };
#else
	   atomic { spoiled[i] = false; STEP(request, i, took_token); };
	   atomic { good[i] = !committed; STEP(request, i, read_database); };
#endif
	   atomic {
		if
#ifdef NO_TOKEN
		:: good[i] && held[i] -> cached = true; STEP(request, i, kept);
#else
		:: good[i] && held[i] && !spoiled[i] -> cached = true; STEP(request, i, kept);
#endif
		:: else -> STEP(request, i, not_kept);
		fi;
		held[i] = false; good[i] = false; late = false; spoiled[i] = true;
	   }
	od
}
