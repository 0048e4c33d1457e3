-- A refresh token is shown: which visit is it of? One that is not the visit's current one ends the visit: it was used
-- before, so two parties hold tokens of this visit, and one of them is a thief.
--
-- KEYS visit    ARGV digest, now in milliseconds ('' is the clock of this Redis)

local state, record = standing(KEYS[1], ARGV[1], ARGV[2])
return { state, record }
