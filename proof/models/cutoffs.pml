/*
 * The cutoff of a user: a worker compares a token with two marks that it has cached, and reads the user's own cutoff only
 * if the token is not newer than both.
 *
 *	account mark	the latest cutoff of any user in the account, cached with the account's record
 *	everywhere mark	the latest cutoff of any user in all accounts, cached on its own
 *	principal	the verified token: an outer cache, filled through both
 *
 * Times are ticks; a second has two. The issuer states seconds: `iat` is the tick of the issue, rounded down. The token
 * was issued in tick ISSUED. One user's cutoffs follow: in the account or in all accounts. Another user's cutoff was
 * committed before. The leases always hold here. The worker acknowledges when all caches have forgotten.
 */
#ifndef REQUESTS
#define REQUESTS 2
#endif
#define TEXT(text) #text
#define STEP(who, i, what) printf(TEXT(STEP who %d what\n), i)

#define ISSUED 3		/* the second half of second 1 */
#define NONE 0
#define UNKNOWN 15		/* not cached */
#define second(tick) ((tick) / 2)
#ifdef NO_WHOLE_SECOND
#define newer(cutoff) (cutoff == NONE || second(ISSUED) >= second(cutoff))
#else
#define newer(cutoff) (cutoff == NONE || second(ISSUED) > second(cutoff))
#endif

bool everywhere;		/* whether the cutoff concerns all accounts; chosen at the start */
byte in_account = 1, in_all = 1; /* the latest cutoffs of any user, in the database; another user's is older than the token */
byte of_user = NONE;		/* this user's cutoff, in the database */
byte account_mark = UNKNOWN, everywhere_mark = UNKNOWN;
bool principal;
bool asked, receipt;
bool spoiled[REQUESTS];		/* for the principal */
bool spoiled_account[REQUESTS], spoiled_all[REQUESTS];

inline spoil() {
	for (x : 0 .. REQUESTS - 1) { spoiled[x] = true; spoiled_account[x] = true; spoiled_all[x] = true; }
	x = 0
}

proctype Request(byte i) {
	bool late, good;
	byte a, e;
end:	do
	:: atomic { late = receipt; STEP(request, i, started); };
	   if
	   :: atomic { principal -> STEP(request, i, accepted); assert(!late); late = false; goto end; }
	   :: atomic { !principal -> STEP(request, i, looked_up); }
	   fi;
	   atomic { spoiled[i] = false; STEP(request, i, took_token); };
	   if
	   :: atomic { account_mark != UNKNOWN -> a = account_mark; STEP(request, i, found_account); }
	   :: atomic { account_mark == UNKNOWN -> spoiled_account[i] = false; STEP(request, i, took_account_token); };
	      atomic { a = in_account; STEP(request, i, read_account); };
	      atomic {
		if
		:: !spoiled_account[i] -> account_mark = a; STEP(request, i, kept_account)
		:: else -> skip
		fi;
		spoiled_account[i] = true; }
	   fi;
	   if
	   :: atomic { everywhere_mark != UNKNOWN -> e = everywhere_mark; STEP(request, i, found_everywhere); }
	   :: atomic { everywhere_mark == UNKNOWN -> spoiled_all[i] = false; STEP(request, i, took_everywhere_token); };
	      atomic { e = in_all; STEP(request, i, read_everywhere); };
	      atomic {
		if
		:: !spoiled_all[i] -> everywhere_mark = e; STEP(request, i, kept_everywhere)
		:: else -> skip
		fi;
		spoiled_all[i] = true; }
	   fi;
	   atomic {
		if
#ifndef NO_LOOK_AT_BOTH_MARKS
		:: newer(a) && newer(e) -> good = true; STEP(request, i, is_newer)
#else
		:: newer(a) -> good = true; STEP(request, i, is_newer)
#endif
		:: else -> good = newer(of_user); STEP(request, i, read_user)
		fi; };
	   atomic {
		if
		:: good && !spoiled[i] -> principal = true; STEP(request, i, kept)
		:: else -> skip
		fi;
		spoiled[i] = true; };
	   if
	   :: atomic { good -> STEP(request, i, accepted); assert(!late); good = false; late = false; a = 0; e = 0; }
	   :: atomic { !good -> STEP(request, i, refused); late = false; a = 0; e = 0; }
	   fi
	od
}

proctype Bus() {
	byte x;
	asked;
	atomic { spoil(); STEP(bus, 0, spoiled); };
	if
	:: everywhere ->
#ifndef NO_EVICTION_OF_THE_EVERYWHERE_MARK
	   atomic { everywhere_mark = UNKNOWN; STEP(bus, 1, forgot); };
#else
	   skip;
#endif
	:: !everywhere ->
#ifndef NO_EVICTION_OF_THE_ACCOUNT_MARK
	   atomic { account_mark = UNKNOWN; STEP(bus, 1, forgot); };
#else
	   skip;
#endif
	fi;
	atomic { spoil(); STEP(bus, 0, spoiled); };
	atomic { principal = false; STEP(bus, 2, forgot); };
	atomic { asked = false; STEP(bus, 0, acknowledged); }
}

inline store(cutoff) {
#ifdef NO_CUTOFF_THAT_NEVER_MOVES_BACK
	of_user = cutoff;
#else
	if :: cutoff > of_user -> of_user = cutoff :: else -> skip fi;
#endif
	if
	:: everywhere && of_user > in_all -> in_all = of_user
	:: !everywhere && of_user > in_account -> in_account = of_user
	:: else -> skip
	fi
}

/* The cutoff is in the second of the token or later. Then a repeated event of the issuer states an earlier time. */
proctype Revoker() {
	byte tick;
	atomic {
		if :: everywhere = true :: everywhere = false fi;
		if :: tick = ISSUED :: tick = ISSUED + 1 fi;
		store(tick);
		STEP(revoker, 0, committed); };
	atomic { store(ISSUED - 2); STEP(revoker, 1, committed); };
	atomic { asked = true; STEP(revoker, 0, published); };
	atomic { !asked -> receipt = true; STEP(revoker, 0, receipt); }
}

init {
	byte i;
	atomic {
		for (i : 0 .. REQUESTS - 1) {
			spoiled[i] = true; spoiled_account[i] = true; spoiled_all[i] = true; run Request(i);
		}
		run Bus(); run Revoker();
	}
}
