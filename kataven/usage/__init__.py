"""The usage of an account: counters, the log of its latest requests, and the questions that they answer.

    observed    what a request leaves in memory: the only part on the request path
    recorder    the background thread of a worker: aggregates, and writes in batches
    pending     the aggregated usage of one account that is not written yet; bounded
    store       the statements that write a batch exactly once, and remove old rows
    series      counts over time
    requests    the log of requests, and which step of the pipeline decided each
    keys        one API key: its calls, its addresses, and what a revocation would stop
    receipts    the receipts of revocations, with the refused calls since

Nothing here has a secret, a query string or a path with ids: only the template of the route.
"""
