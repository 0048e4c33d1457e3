/*
 * The revoke call returns: a receipt or a 503, whatever Redis, the system database and the workers do.
 *
 * Each attempt to reach something may succeed or fail, independently of earlier ones. Only the revoker's own clock moves for certain.
 */

bool answered;
bool waiting, lease_over;	/* the wait for acknowledgements, and whether its end has come by the revoker's clock */
bool posting, gives_up;		/* the attempts to post a notice */
bool posted, reading_over;	/* the wait for readers */

proctype LeaseTimer() { waiting; lease_over = true }
proctype PostTimer() { posting; gives_up = true }
proctype ReadingTimer() { posted; reading_over = true }

proctype Revoker() {
	byte attempts;
	bool failed;

publish:
	attempts = (attempts < 2 -> attempts + 1 : 2);
	if
	:: goto homes					/* published */
#ifdef NO_LIMIT_OF_ATTEMPTS
	:: goto publish
#else
	:: attempts < 2 -> goto publish
	:: attempts == 2 -> goto post
#endif
	fi;
homes:	if
	:: goto post					/* another home, or the homes can't be read */
	:: goto wait
	fi;
wait:	waiting = true;
	do
#ifndef NO_END_OF_THE_WAIT
	:: lease_over -> goto out
	:: !lease_over ->
#else
	:: true ->
#endif
		if
		:: goto out				/* every worker has acknowledged */
		:: skip					/* not yet, or Redis can't be reached */
		fi
	od;
post:	posting = true;
	do
	:: if
	   :: break					/* posted */
	   :: failed = true
	   fi;
	   if
#ifndef NO_GIVING_UP
	   :: failed && gives_up -> goto out		/* 503 */
	   :: !gives_up -> failed = false
#else
	   :: failed = false
#endif
	   fi
	od;
	posted = true;
	do
	:: if
	   :: goto out					/* every worker has read it */
	   :: failed = false				/* not yet, or the system database can't be reached */
	   fi;
#ifndef NO_END_OF_THE_WAIT_FOR_READERS
	   if
	   :: reading_over -> goto out
	   :: !reading_over
	   fi
#endif
	od;
out:	answered = true
}

init { atomic { run Revoker(); run LeaseTimer(); run PostTimer(); run ReadingTimer() } }

ltl answers { <> answered }
