-- name: test
-- An event and its one delivery. With a key of its own: it waits behind nobody, and nobody behind it.
with target as (
    select id, lane_group, ordering from subscriptions
    where org_id = $1 and id = $2 and kind = 'push' and status in ('active', 'paused')
), stored as (
    insert into events (org_id, id, type, payload)
    select $1, $3, $4, $5 from target
    returning id, octet_length(payload) as payload_size
)
insert into deliveries (
    org_id, subscription_id, event_id, due_at, accepted_at, payload_size, lane_group, ordering_key
)
select $1, t.id, e.id, now(), now(), e.payload_size, t.lane_group,
    case when t.ordering = 'key' then e.id::text end
from target t cross join stored e
returning event_id

-- name: attempt_of
select * from attempts
where org_id = $1 and subscription_id = $2 and event_id = $3 and id >= $4
order by id limit 1
