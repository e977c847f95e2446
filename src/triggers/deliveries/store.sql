-- name: recipient
select org_id, id, kind, key, status, lane_group, event_types, filter, ordering, ordering_pointer,
    notifies_inbox, target_url, greatest(created_at, status_at, changed_at) as changed_at
from subscriptions where org_id = $1 and id = $2

-- name: lock_recipient
-- A transaction that makes a generation holds this lock, so that two never make the same one: the next statement
-- sees the generation of an earlier holder, settled or not. A transaction that ends the subscription waits.
select status from subscriptions where org_id = $1 and id = $2 for no key update

-- name: attempts_of_subscription
select * from attempts where org_id = $1 and subscription_id = $2 and id < $3 order by id desc limit $4

-- name: attempts_of_event
-- An attempt is younger than its event: partitions from before it are not looked at. Its id may be the
-- lower one all the same, minted a moment later by a process that knows the time by a moment less.
select * from attempts
where org_id = $1 and event_id = $2 and id >= $6 and id < $3 and ($5::uuid is null or subscription_id = $5)
order by id desc limit $4

-- name: with_unsettled
select s.id from subscriptions s
cross join lateral (
    select from deliveries d where d.org_id = s.org_id and d.subscription_id = s.id
    order by d.event_id limit 1
) d
where s.org_id = $1 and s.id <= $2 and ($4::text is null or s.kind = $4) order by s.id desc limit $3

-- name: with_settled
-- The statuses are literals, because a parameter cannot choose a partial index.
select s.id from subscriptions s
cross join lateral (
    select from settled_deliveries d
    where d.org_id = s.org_id and d.subscription_id = s.id
    -- if dead
      and d.status = 'dead'
    -- end
    -- if cancelled
      and d.status = 'cancelled'
    -- end
    -- if expired
      and d.status = 'expired'
    -- end
    -- if delivered
      and s.kind = 'push'
    -- end
    -- if acknowledged
      and s.kind = 'inbox'
    -- end
    order by d.event_id limit 1
) d
where s.org_id = $1 and s.id <= $2 and ($4::text is null or s.kind = $4) order by s.id desc limit $3

-- name: unsettled
-- With what holds each back: its subscription, its endpoint, or an earlier one of its key.
select d.subscription_id, d.event_id, d.generation, s.kind,
    case when d.status = 'leased' and d.due_at <= now() then 'pending' else d.status end as status,
    d.reason, d.attempts, d.lease_count, d.accepted_at, d.first_attempt_at, d.due_at, d.note,
    null::timestamptz as settled_at, d.due_at <= now() as due, s.status as subscription_status, s.probe_at,
    d.ordering_key is not null and exists (
        select from deliveries e
        where e.org_id = d.org_id and e.subscription_id = d.subscription_id and e.ordering_key = d.ordering_key
          and (e.accepted_at, e.event_id, e.generation) < (d.accepted_at, d.event_id, d.generation)
    ) as behind, false as replayed
from deliveries d join subscriptions s on s.org_id = d.org_id and s.id = d.subscription_id
where d.org_id = $1 and d.subscription_id = $2 and (d.event_id, d.generation) < ($3, $4) and d.event_id >= $6
  and ($7::text is null or s.kind = $7)
order by d.event_id desc, d.generation desc limit $5

-- name: settled
-- The bounds of event_id let the partitions, and an index without the generation, begin at the right place.
-- A delivery that was replayed has a later generation. Only its latest generation shows its present status.
select d.subscription_id, d.event_id, d.generation, s.kind, d.status,
    d.reason, d.attempts, d.lease_count, d.accepted_at, d.first_attempt_at,
    null::timestamptz as due_at, d.settled_at, d.note,
    exists (
        select from deliveries n
        where n.org_id = d.org_id and n.subscription_id = d.subscription_id and n.event_id = d.event_id
    ) or exists (
        select from settled_deliveries n
        where n.org_id = d.org_id and n.subscription_id = d.subscription_id and n.event_id = d.event_id
          and n.generation > d.generation
    ) as replayed
from settled_deliveries d join subscriptions s on s.org_id = d.org_id and s.id = d.subscription_id
where d.org_id = $1 and d.subscription_id = $2 and d.event_id <= $3
  and (d.event_id, d.generation) < ($3, $4) and d.event_id >= $6 and ($7::text is null or s.kind = $7)
-- if dead
  and d.status = 'dead'
-- end
-- if cancelled
  and d.status = 'cancelled'
-- end
-- if expired
  and d.status = 'expired'
-- end
order by d.event_id desc, d.generation desc limit $5

-- name: make_due
-- One that is due already keeps its place.
update deliveries set due_at = least(due_at, now())
where org_id = $1 and subscription_id = $2 and event_id = $3 and status = 'pending'
returning generation

-- name: cancel
-- The subscription counts as changed: whoever has read this delivery ahead drops it.
with gone as (
    delete from deliveries where org_id = $1 and subscription_id = $2 and event_id = $3
    returning event_id, generation, lease_count, attempts, accepted_at, first_attempt_at, note
), settled as (
    insert into settled_deliveries (org_id, subscription_id, event_id, generation, status, reason, lease_count,
        attempts, accepted_at, first_attempt_at, settled_at, note)
    select $1, $2, event_id, generation, 'cancelled', $4, lease_count, attempts, accepted_at, first_attempt_at,
        now(), note
    from gone
), told as (
    update subscriptions set changed_at = now()
    where org_id = $1 and id = $2 and kind = 'push' and exists (select from gone)
)
select generation from gone

-- name: owe_first
-- Generation 0, unless it was made. As old as its event, so that the past goes before what is live.
insert into deliveries (
    org_id, subscription_id, event_id, generation, due_at, accepted_at, payload_size, lane_group, ordering_key
)
select $1, $2, b.id, 0, now(), b.accepted_at, b.payload_size, $3, b.ordering_key
from unnest($4::uuid[], $5::integer[], $6::text[], $7::timestamptz[]) as b (id, payload_size, ordering_key, accepted_at)
where not exists (
    select from deliveries d
    where d.org_id = $1 and d.subscription_id = $2 and d.event_id = b.id and d.generation = 0
  )
  and not exists (
    select from settled_deliveries d
    where d.org_id = $1 and d.subscription_id = $2 and d.event_id = b.id and d.generation = 0
      and d.event_id >= $8 and d.event_id <= $9
  )
on conflict do nothing
returning event_id

-- name: owe_again
-- The generation after the highest. What is not settled is owed as it is; with $7 only what did not
-- arrive is owed again.
insert into deliveries (
    org_id, subscription_id, event_id, generation, due_at, accepted_at, payload_size, lane_group, ordering_key
)
select $1, $2, b.id, coalesce(last.generation, 0) + 1, now(), now(), b.payload_size, $3, b.ordering_key
from unnest($4::uuid[], $5::integer[], $6::text[]) as b (id, payload_size, ordering_key)
left join lateral (
    select d.generation, d.status from settled_deliveries d
    where d.org_id = $1 and d.subscription_id = $2 and d.event_id = b.id
    order by d.generation desc limit 1
) last on true
where not exists (
    select from deliveries d where d.org_id = $1 and d.subscription_id = $2 and d.event_id = b.id
  )
  and (not $7 or last.status in ('dead', 'cancelled', 'expired'))
on conflict do nothing
returning event_id
