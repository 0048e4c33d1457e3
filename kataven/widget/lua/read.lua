-- Returns the session of a refresh token. A token that is not the session's current one was used before. Two parties
-- then hold tokens of this session, so it ends.
--
-- KEYS session    ARGV digest, now in milliseconds ('': clock of Redis)

local state, record = session_state(KEYS[1], ARGV[1], ARGV[2])
return { state, record }
