-- name: newest_first
-- Looks at $4 events at most. Even if none of them matches, there is one row, which has `looked_at` and `last`.
with looked_at as materialized (
    select id, type, dedup_id, source, subject, ordering_key, occurred_at, octet_length(payload) as payload_size
    from events where org_id = $1 and id >= $2 and id < $3 order by id desc limit $4
), fitting as (
    select * from looked_at
    where ($6::text is null or type = $6) and ($7::text is null or starts_with(type, $7))
      and ($8::text is null or subject = $8) and ($9::text is null or dedup_id = $9)
    order by id desc limit $5
)
select s.looked_at, s.last, f.*
from (
    select (select count(*) from looked_at) as looked_at, (select id from looked_at order by id limit 1) as last
) s
left join fitting f on true order by f.id desc

-- name: oldest_first
with looked_at as materialized (
    select id, type, dedup_id, source, subject, ordering_key, occurred_at, octet_length(payload) as payload_size
    from events where org_id = $1 and id >= $2 and id < $3 order by id limit $4
), fitting as (
    select * from looked_at
    where ($6::text is null or type = $6) and ($7::text is null or starts_with(type, $7))
      and ($8::text is null or subject = $8) and ($9::text is null or dedup_id = $9)
    order by id limit $5
)
select s.looked_at, s.last, f.*
from (
    select (select count(*) from looked_at) as looked_at, (select id from looked_at order by id desc limit 1) as last
) s
left join fitting f on true order by f.id

-- name: named
-- The newest event with a dedup_id, as long as the service remembers the dedup_id.
select event_id from dedup where org_id = $1 and dedup_id = $2

-- name: window
-- The oldest of the $4 newest events of a range, and the number of these.
select count(*) as looked_at, (array_agg(id order by id))[1] as last
from (select id from events where org_id = $1 and id >= $2 and id < $3 order by id desc limit $4) newest

-- name: owners
select id from subscriptions where org_id = $1 and status <> 'deleting' order by id limit $2

-- name: undelivered
-- For each subscription four parts: the newest $5 deliveries of a range that are unsettled, dead, cancelled and
-- expired, each in the order of an index. `part` names the part. `replayed` is true if a later generation exists,
-- because only the latest one counts.
select s.id as owner, 'unsettled' as part, d.event_id, false as replayed
from unnest($2::uuid[]) s (id) cross join lateral (
    select event_id from deliveries d
    where d.org_id = $1 and d.subscription_id = s.id and d.event_id >= $3 and d.event_id < $4
    order by d.event_id desc limit $5
) d
union all
select s.id, p.part, p.event_id,
    exists (
        select from deliveries n where n.org_id = $1 and n.subscription_id = s.id and n.event_id = p.event_id
    ) or exists (
        select from settled_deliveries n
        where n.org_id = $1 and n.subscription_id = s.id and n.event_id = p.event_id and n.generation > p.generation
    )
from unnest($2::uuid[]) s (id) cross join lateral (
    (select 'dead' as part, d.event_id, d.generation from settled_deliveries d
    where d.org_id = $1 and d.subscription_id = s.id and d.status = 'dead' and d.event_id >= $3 and d.event_id < $4
    order by d.event_id desc limit $5)
    union all
    (select 'cancelled', d.event_id, d.generation from settled_deliveries d
    where d.org_id = $1 and d.subscription_id = s.id and d.status = 'cancelled' and d.event_id >= $3 and d.event_id < $4
    order by d.event_id desc limit $5)
    union all
    (select 'expired', d.event_id, d.generation from settled_deliveries d
    where d.org_id = $1 and d.subscription_id = s.id and d.status = 'expired' and d.event_id >= $3 and d.event_id < $4
    order by d.event_id desc limit $5)
) p

-- name: of_ids
select id, type, dedup_id, source, subject, ordering_key, occurred_at, octet_length(payload) as payload_size
from events
where org_id = $1 and id = any ($2::uuid[]) and id >= $3 and id <= $4
  and ($5::text is null or type = $5) and ($6::text is null or starts_with(type, $6))
  and ($7::text is null or subject = $7) and ($8::text is null or dedup_id = $8)
order by id desc
