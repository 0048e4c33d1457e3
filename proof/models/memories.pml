/*
 * A memory that is filled by way of another one: the inner one holds what is known of the account, the outer one the key.
 *
 * The leases always hold here. The worker acknowledges when both memories have forgotten.
 *
 * With SERVICE, another process verifies the key. It receives no events. It remembers what it knew of the account, and
 * uses that only if it is what the worker knows; otherwise it reads the database.
 */
#ifndef REQUESTS
#define REQUESTS 2
#endif
#define TEXT(text) #text
#define STEP(who, i, what) printf(TEXT(STEP who %d what\n), i)

bool committed, receipt;
bool asked;			/* an event was published and not acknowledged */
bool inner, outer;		/* it is remembered that the account, the key is good */
bool inner_spoiled[REQUESTS], outer_spoiled[REQUESTS];
bool has_copy, copy;		/* what the service remembers, if anything: whether the account is good */

inline spoil(which) {
	for (x : 0 .. REQUESTS - 1) { inner_spoiled[x] = true; outer_spoiled[x] = true; }
	x = 0;
	STEP(bus, which, spoiled)
}

proctype Request(byte i) {
	bool late, good;
end:	do
	:: atomic { late = receipt; STEP(request, i, started); };
	   if
	   :: atomic { outer -> STEP(request, i, accepted); assert(!late); late = false; goto end; }
	   :: atomic { !outer -> STEP(request, i, looked_up_outer); }
	   fi;
	   atomic { outer_spoiled[i] = false; STEP(request, i, took_outer_token); };
	   if
	   :: atomic { inner -> good = true; STEP(request, i, found_inner); }
	   :: atomic { !inner -> STEP(request, i, looked_up_inner); };
	      atomic { inner_spoiled[i] = false; STEP(request, i, took_inner_token); };
	      atomic { good = !committed; STEP(request, i, read_database); };
	      atomic {
		if
#ifdef NO_GUARD_OF_THE_INNER_MEMORY
		:: good -> inner = true; STEP(request, i, kept_inner)
#else
		:: good && !inner_spoiled[i] -> inner = true; STEP(request, i, kept_inner)
#endif
		:: else
		fi;
		inner_spoiled[i] = true; }
	   fi;
#ifdef SERVICE
	   if
#ifdef NO_COMPARISON_WITH_THE_CALLERS_ACCOUNT
	   :: atomic { has_copy -> good = copy; STEP(request, i, used_copy); }
	   :: atomic { !has_copy -> STEP(request, i, needs_account); };
#else
	   :: atomic { has_copy && copy == good -> STEP(request, i, used_copy); }
	   :: atomic { !(has_copy && copy == good) -> STEP(request, i, needs_account); };
#endif
	      atomic { good = !committed; copy = good; has_copy = true; STEP(request, i, read_for_service); }
	   fi;
#endif
	   atomic {
		if
		:: good && !outer_spoiled[i] -> outer = true; STEP(request, i, kept_outer)
		:: else
		fi;
		outer_spoiled[i] = true; };
	   if
	   :: atomic { good -> STEP(request, i, accepted); assert(!late); good = false; late = false; }
	   :: atomic { !good -> STEP(request, i, refused); late = false; }
	   fi
	od
}

proctype Bus() {
	byte x;
	asked;
#ifdef NO_INNER_MEMORY_FIRST
	atomic { spoil(1); };
	atomic { outer = false; STEP(bus, 1, forgot); };
	atomic { spoil(0); };
	atomic { inner = false; STEP(bus, 0, forgot); };
#else
	atomic { spoil(0); };
	atomic { inner = false; STEP(bus, 0, forgot); };
#ifndef NO_SPOILING_BEFORE_EACH_MEMORY
	atomic { spoil(1); };
#endif
	atomic { outer = false; STEP(bus, 1, forgot); };
#endif
	atomic { asked = false; STEP(bus, 0, acknowledged); }
}

proctype Revoker() {
	atomic { committed = true; STEP(revoker, 0, committed); };
	atomic { asked = true; STEP(revoker, 0, published); };
	atomic { !asked -> receipt = true; STEP(revoker, 0, receipt); }
}

init {
	byte i;
	atomic {
		run Bus(); run Revoker();
		for (i : 0 .. REQUESTS - 1) { inner_spoiled[i] = true; outer_spoiled[i] = true; run Request(i); }
	}
}
