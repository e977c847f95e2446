-- name: worst
-- Each subscription is probed for its oldest unsettled delivery and its newest dead one, which are both the first
-- entry of an index. So a subscription costs the same, however many deliveries it has.
with looked_at as (
    select org_id, id, kind, name, key, target_url, status, failing_since from subscriptions
    where org_id = $1 and kind = $2 and status <> 'deleting' and ($6::uuid is null or id = $6) order by id limit $3
)
select s.id, s.kind, s.name, s.key, s.target_url, s.status, s.failing_since
from looked_at s
left join lateral (
    select d.accepted_at from deliveries d
    where d.org_id = s.org_id and d.subscription_id = s.id order by d.event_id limit 1
) waiting on true
left join lateral (
    select d.event_id from settled_deliveries d
    where d.org_id = s.org_id and d.subscription_id = s.id and d.status = 'dead' order by d.event_id desc limit 1
) dead on true
where waiting.accepted_at is not null or dead.event_id is not null
order by
    case
        when s.failing_since is not null and s.status = 'active' then 0
        when dead.event_id is not null then 1
        when s.status <> 'active' then 2
        else 3
    end,
    coalesce(s.failing_since, waiting.accepted_at), s.id
limit $4 offset $5

-- name: counts
-- Reads at most $3 entries of an index for each number. `replayed`: a later generation has the present status. The
-- orders are there because the planner may read the whole table for rows in any order, and `replayed` has no `exists`
-- because the planner may make a hash of the whole table for it.
select s.id, waiting.number as waiting, leased.number as leased, dead.looked_at as dead_looked_at,
    dead.number as dead, dead.reason as dead_reason, oldest.accepted_at as oldest_at,
    last.id as attempt_id, last.outcome, last.reason, last.status_code
from unnest($2::uuid[]) s (id)
cross join lateral (
    select count(*) as number from (
        select from deliveries d where d.org_id = $1 and d.subscription_id = s.id order by d.event_id limit $3
    ) entries
) waiting
cross join lateral (
    select count(*) filter (where alive) as number from (
        select d.due_at > now() as alive from deliveries d
        where d.org_id = $1 and d.subscription_id = s.id and d.lease_id is not null order by d.lease_id limit $3
    ) entries
) leased
cross join lateral (
    select count(*) as looked_at, count(*) filter (where not replayed) as number,
        (array_agg(entries.reason order by entries.event_id desc) filter (where not replayed))[1] as reason
    from (
        select d.event_id, d.reason, (
            select n.generation from deliveries n
            where n.org_id = d.org_id and n.subscription_id = d.subscription_id and n.event_id = d.event_id
            order by n.generation desc limit 1
        ) is not null or (
            select n.generation from settled_deliveries n
            where n.org_id = d.org_id and n.subscription_id = d.subscription_id and n.event_id = d.event_id
            order by n.generation desc limit 1
        ) > d.generation as replayed
        from settled_deliveries d
        where d.org_id = $1 and d.subscription_id = s.id and d.status = 'dead'
        order by d.event_id desc limit $3
    ) entries
) dead
left join lateral (
    select d.accepted_at from deliveries d
    where d.org_id = $1 and d.subscription_id = s.id order by d.event_id limit 1
) oldest on true
left join lateral (
    select a.id, a.outcome, a.reason, a.status_code from attempts a
    where a.org_id = $1 and a.subscription_id = s.id order by a.id desc limit 1
) last on true

-- name: of_event
-- The latest generation of each delivery of an event, those that need attention first. Deliveries are kept by
-- subscription, so each subscription is probed.
with found as materialized (
    select d.subscription_id, d.event_id, d.generation,
        case when d.status = 'leased' and d.due_at <= now() then 'pending' else d.status end as status,
        d.reason, d.attempts, d.lease_count, d.accepted_at, d.first_attempt_at, d.note, d.due_at,
        null::timestamptz as settled_at, d.ordering_key, s.status <> 'deleting' as stays
    from subscriptions s
    join deliveries d on d.org_id = s.org_id and d.subscription_id = s.id and d.event_id = $2
    where s.org_id = $1
    union all
    select d.subscription_id, d.event_id, d.generation, d.status, d.reason, d.attempts, d.lease_count,
        d.accepted_at, d.first_attempt_at, d.note, null, d.settled_at, null, s.status <> 'deleting'
    from subscriptions s
    join settled_deliveries d on d.org_id = s.org_id and d.subscription_id = s.id and d.event_id = $2
    where s.org_id = $1
), latest as (
    select distinct on (subscription_id) *, array_position(
        array['dead', 'expired', 'pending', 'cancelled', 'leased', 'delivered', 'acknowledged'], status
    ) as place
    from found order by subscription_id, generation desc
), first as (
    select *, count(*) over () as total, count(*) filter (where stays) over () as stay
    from latest order by place, subscription_id limit $3
)
select f.*, f.due_at <= now() as due, s.kind, s.key, s.name, s.target_url, s.retry_delays,
    s.status as subscription_status, s.probe_at,
    f.ordering_key is not null and exists (
        select from deliveries e
        where e.org_id = $1 and e.subscription_id = f.subscription_id and e.ordering_key = f.ordering_key
          and (e.accepted_at, e.event_id, e.generation) < (f.accepted_at, f.event_id, f.generation)
    ) as behind
from first f join subscriptions s on s.org_id = $1 and s.id = f.subscription_id
order by f.place, f.subscription_id

-- name: subscriptions
select count(*) as number from (
    select from subscriptions where org_id = $1 and status <> 'deleting' order by id limit $2
) entries

-- name: names
select id, kind, name, key, target_url from subscriptions where org_id = $1 and id = any ($2::uuid[])
