-- name: events_of
select id, type, source, subject, ordering_key,
    octet_length(payload) + coalesce(octet_length(attributes), 0) as payload_size
from events where org_id = $1 and id = any ($2::uuid[]) and id >= $3 and id <= $4 order by id

-- name: payloads
select id, payload from events where org_id = $1 and id = any ($2::uuid[]) and id >= $3 and id <= $4
