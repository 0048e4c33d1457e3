"""How much: limits of accounts, keys and addresses, shared by all workers, decided in one round trip.

    policy      what may be limited, and by what names
    windows     the decision in Redis: one script, true sliding windows in bounded memory, slots that are leases
    memory      its twin in this process
    fallback    Redis while it answers, the twin while it doesn't
    in_flight   the pulse that keeps slots alive
    budget      limits per client address, for what needs no credential
    limiter     the face: `Limiter.admit`, and Flask-Limiter's decorators

It knows nothing of credentials, tenants or databases.
"""
