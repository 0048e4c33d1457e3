"""Rate limits of accounts, API keys and client addresses, shared by all workers. One decision takes one round trip.

    policy      limits, quotas and their names
    windows     decisions in Redis: one script, sliding windows in bounded memory, concurrency slots with leases
    memory      the same decisions in this process
    fallback    Redis while it is available, memory while it is not; the background thread that renews concurrency slots
    budget      limits per client address, for requests without a valid credential
    limiter     `Limiter.admit`, and Flask-Limiter's exception for a request over a limit

The package does not depend on credentials, tenants or databases.
"""
