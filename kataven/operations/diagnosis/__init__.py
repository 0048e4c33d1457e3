"""Checks of an installation: `kataven doctor`. Each check reads, changes nothing, and names the fix for what it finds.

findings     the result of a check
databases    the system database, the database servers, clocks, replication, connections
redis        the Redis servers: topology, configuration, replicas, clocks
product      workers, revocation intents, the journal, schema revisions, peppers
"""
