-- Each statement has one row at least, with the time of the look. The newest rows are read first, so that a look
-- that reaches its limit misses the oldest.

-- name: accepted
select now() as now, e.id, e.type
from (select) one
left join lateral (
    select id, type from events where org_id = $1 and id > $2 order by id desc limit $3
) e on true

-- name: attempts
-- For each subscription by itself, because the table has no index by organisation and id alone: one more index
-- would make every attempt more expensive.
select now() as now, a.*
from (select) one
left join lateral (
    select a.* from (
        select id from subscriptions
        where org_id = $1 and kind = 'push' and deleted_at is null order by id limit $4
    ) s cross join lateral (
        select a.id, a.subscription_id, a.event_id, a.generation, a.attempt, a.outcome from attempts a
        where a.org_id = $1 and a.subscription_id = s.id and a.id > $2
        order by a.id desc limit $3
    ) a
    order by a.id desc limit $3
) a on true

-- name: dead
select now() as now, d.*
from (select) one
left join lateral (
    select subscription_id, event_id, generation, settled_at from settled_deliveries
    where org_id = $1 and status = 'dead' and settled_at > $2
    order by settled_at desc limit $3
) d on true

-- name: available
-- A message becomes available when it is accepted, released or re-driven, and when its lease ends. In each case
-- that is its `due_at`. A paused inbox gives nothing that is new.
select case when s.expires_at <= now() then 'deleting' else s.status end as status, now() as now, d.event_id, d.due_at
from subscriptions s
left join lateral (
    select event_id, due_at from deliveries d
    where d.org_id = $1 and d.subscription_id = $2 and s.status = 'active' and d.due_at > $3 and d.due_at <= now()
    order by d.due_at desc limit $4
) d on true
where s.org_id = $1 and s.id = $2 and s.deleted_at is null
