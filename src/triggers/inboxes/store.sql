-- name: inbox
-- An inbox that has expired counts as being deleted, although the duty that deletes it follows later.
select *, coalesce(expires_at <= now(), false) as expired from subscriptions
where org_id = $1 and kind = 'inbox' and deleted_at is null
  and (id = $2 or (key = $3 and status <> 'deleting' and (expires_at is null or expires_at > now())))
order by id = $2 desc nulls last limit 1

-- name: list_inboxes
select *, coalesce(expires_at <= now(), false) as expired from subscriptions
where org_id = $1 and kind = 'inbox' and deleted_at is null
  and id > $2 and ($3::text is null or key = $3)
  and ($4::text is null or $4 = case when expires_at <= now() then 'deleting' else status end)
order by id limit $5

-- name: claim
-- Oldest due first. What is locked is being claimed by somebody else this moment. The low bound $3
-- is a hint that spares the index's dead beginning; a lease ends at $4 bytes of payload; a message
-- that was leased $8 times already is not leased again but quarantined. What is due is found again
-- by the columns of `due` alone: told the organisation and the inbox, the planner, who thinks that
-- those two agree by chance, expects one row there and reads the whole backlog for every claim.
-- The status is asked for here because a long poll may have begun before the inbox was paused or deleted, or expired.
with due as materialized (
    select org_id, subscription_id, event_id, generation, lease_count, payload_size, due_at
    from deliveries
    where org_id = $1 and subscription_id = $2 and due_at >= $3 and due_at <= now()
      and exists (
        select from subscriptions s
        where s.org_id = $1 and s.id = $2 and s.status = 'active' and (s.expires_at is null or s.expires_at > now())
      )
    order by due_at, event_id limit $5
    for update skip locked
), summed as (
    select *, sum(payload_size) over (order by due_at, event_id rows unbounded preceding) as total from due
), chosen as (
    select * from summed where total <= $4 or total = payload_size
), leased as (
    update deliveries d
    set status = 'leased', lease_id = $6, due_at = now() + $7::interval, lease_count = d.lease_count + 1,
        consumer = $9
    from chosen c
    where d.org_id = c.org_id and d.subscription_id = c.subscription_id
      and d.event_id = c.event_id and d.generation = c.generation
      and ($8::integer is null or c.lease_count < $8)
    returning d.event_id, d.lease_count, d.due_at, d.reason is not null as given_back, c.due_at as was_due_at
), worn as (
    delete from deliveries d using chosen c
    where d.org_id = c.org_id and d.subscription_id = c.subscription_id
      and d.event_id = c.event_id and d.generation = c.generation
      and c.lease_count >= $8
    returning d.event_id, d.generation, d.lease_count, d.accepted_at, d.note, c.due_at as was_due_at
), quarantined as (
    insert into settled_deliveries
        (org_id, subscription_id, event_id, generation, status, reason, lease_count, accepted_at, settled_at, note)
    select $1, $2, event_id, generation, 'dead', 'leased as often as max_leases allows', lease_count, accepted_at,
        now(), note
    from worn
)
select event_id, lease_count, due_at, given_back, was_due_at, now() as now from leased
union all
select event_id, lease_count, null, null, was_due_at, now() from worn
order by was_due_at, event_id

-- name: claim_paused
-- As `claim`, for an inbox that was paused when the claim began: it gives what it had at the pause, the events
-- below $3. They are read in the order of their ids, so that what the inbox collects meanwhile costs nothing.
with due as materialized (
    select org_id, subscription_id, event_id, generation, lease_count, payload_size, due_at
    from deliveries
    where org_id = $1 and subscription_id = $2 and event_id < $3 and due_at <= now()
      and exists (
        select from subscriptions s where s.org_id = $1 and s.id = $2 and s.status <> 'deleting'
          and (s.expires_at is null or s.expires_at > now())
      )
    order by event_id limit $5
    for update skip locked
), summed as (
    select *, sum(payload_size) over (order by due_at, event_id rows unbounded preceding) as total from due
), chosen as (
    select * from summed where total <= $4 or total = payload_size
), leased as (
    update deliveries d
    set status = 'leased', lease_id = $6, due_at = now() + $7::interval, lease_count = d.lease_count + 1,
        consumer = $9
    from chosen c
    where d.org_id = c.org_id and d.subscription_id = c.subscription_id
      and d.event_id = c.event_id and d.generation = c.generation
      and ($8::integer is null or c.lease_count < $8)
    returning d.event_id, d.lease_count, d.due_at, d.reason is not null as given_back, c.due_at as was_due_at
), worn as (
    delete from deliveries d using chosen c
    where d.org_id = c.org_id and d.subscription_id = c.subscription_id
      and d.event_id = c.event_id and d.generation = c.generation
      and c.lease_count >= $8
    returning d.event_id, d.generation, d.lease_count, d.accepted_at, d.note, c.due_at as was_due_at
), quarantined as (
    insert into settled_deliveries
        (org_id, subscription_id, event_id, generation, status, reason, lease_count, accepted_at, settled_at, note)
    select $1, $2, event_id, generation, 'dead', 'leased as often as max_leases allows', lease_count, accepted_at,
        now(), note
    from worn
)
select event_id, lease_count, due_at, given_back, was_due_at, now() as now from leased
union all
select event_id, lease_count, null, null, was_due_at, now() from worn
order by was_due_at, event_id

-- name: holds_any
-- By its order: for any row at all the planner may read the table until it meets one.
select (
    select event_id from deliveries where org_id = $1 and subscription_id = $2 and event_id < $3
    order by event_id limit 1
) is not null

-- name: held
select event_id, lease_count, due_at, reason is not null as given_back from deliveries
where org_id = $1 and subscription_id = $2 and lease_id = $3 and due_at > now()
order by event_id

-- name: leases
-- Looks at the first $4 leased messages in the order of their leases. Some of these leases have ended, because a
-- message keeps its lease until it is leased again.
with looked_at as materialized (
    select lease_id, due_at > now() as alive, due_at, consumer from deliveries
    where org_id = $1 and subscription_id = $2 and lease_id > $3
    order by lease_id limit $4
)
select lease_id, count(*) filter (where alive) as messages, max(due_at) filter (where alive) as leased_until,
    max(consumer) filter (where alive) as consumer, (select count(*) from looked_at) as looked_at
from looked_at group by lease_id order by lease_id

-- name: reopen
-- A caller chose the id of a finished lease again, for other messages.
delete from finished_leases where org_id = $1 and subscription_id = $2 and lease_id = $3

-- name: oldest_first
select event_id, status, due_at, lease_count, payload_size, due_at <= now() as due, lease_id, consumer,
    reason is not null as given_back
from deliveries
where org_id = $1 and subscription_id = $2 and event_id > $3 order by event_id limit $4

-- name: newest_first
select event_id, status, due_at, lease_count, payload_size, due_at <= now() as due, lease_id, consumer,
    reason is not null as given_back
from deliveries
where org_id = $1 and subscription_id = $2 and event_id < $3 order by event_id desc limit $4

-- name: quarantined_oldest_first
-- A message that was re-driven has a younger generation, and is no longer in quarantine.
select event_id, lease_count, reason, settled_at from settled_deliveries s
where org_id = $1 and subscription_id = $2 and status = 'dead' and event_id > $3
  and not exists (
    select from deliveries d where d.org_id = $1 and d.subscription_id = $2 and d.event_id = s.event_id
  )
  and not exists (
    select from settled_deliveries y where y.org_id = $1 and y.subscription_id = $2
      and y.event_id = s.event_id and y.generation > s.generation
  )
order by event_id limit $4

-- name: quarantined_newest_first
select event_id, lease_count, reason, settled_at from settled_deliveries s
where org_id = $1 and subscription_id = $2 and status = 'dead' and event_id < $3
  and not exists (
    select from deliveries d where d.org_id = $1 and d.subscription_id = $2 and d.event_id = s.event_id
  )
  and not exists (
    select from settled_deliveries y where y.org_id = $1 and y.subscription_id = $2
      and y.event_id = s.event_id and y.generation > s.generation
  )
order by event_id desc limit $4

-- name: redrive
-- What was re-driven before stays in the record, so it begins at $5. That stands at every table: what
-- is compared in the order of ids must not be read from its beginning either.
insert into deliveries (org_id, subscription_id, event_id, generation, due_at, accepted_at, payload_size)
select s.org_id, s.subscription_id, s.event_id, s.generation + 1, now(), now(), octet_length(e.payload)
from settled_deliveries s join events e on e.org_id = s.org_id and e.id = s.event_id and e.id >= $5
where s.org_id = $1 and s.subscription_id = $2 and s.status = 'dead' and s.event_id >= $5
  and ($3::uuid[] is null or s.event_id = any ($3))
  and not exists (
    select from deliveries d where d.org_id = $1 and d.subscription_id = $2 and d.event_id = s.event_id
      and d.event_id >= $5
  )
  and not exists (
    select from settled_deliveries y where y.org_id = $1 and y.subscription_id = $2
      and y.event_id = s.event_id and y.generation > s.generation and y.event_id >= $5
  )
order by s.event_id limit $4
on conflict do nothing
returning event_id

-- name: expire_messages
-- Of one default inbox after the other the oldest messages beyond the retention, but none that somebody
-- holds, until there are $3, of all inboxes together. The order in which the slice is gone through is its own;
-- were it another, what is passed over is found the next time round.
with slice as (
    select org_id, id from subscriptions
    where (org_id, id) >= ($1, $2) and kind = 'inbox' and key = 'default' and deleted_at is null
    order by org_id, id limit $3::bigint + 1
), old as (
    select d.org_id, d.subscription_id, d.event_id, d.generation from slice s
    cross join (
        select to_hex((extract(epoch from now() - $4::interval) * 1000)::bigint + (1::bigint << 52)) as hex
    ) h
    cross join lateral (
        select * from deliveries d
        where d.org_id = s.org_id and d.subscription_id = s.id
          and d.event_id < (substr(h.hex, 3, 8) || '-' || substr(h.hex, 11, 4) || '-7000-8000-000000000000')::uuid
          and (d.status = 'pending' or d.due_at <= now())
          -- What was replayed into it is an old event, and a young message.
          and d.accepted_at < now() - $4::interval
        order by d.event_id limit $3
    ) d
    limit $3
), gone as (
    delete from deliveries d using old o
    where d.org_id = o.org_id and d.subscription_id = o.subscription_id and d.event_id = o.event_id
      and d.generation = o.generation and (d.status = 'pending' or d.due_at <= now())
    returning d.org_id, d.subscription_id, d.event_id, d.generation, d.lease_count, d.accepted_at, d.note
), settled as (
    insert into settled_deliveries
        (org_id, subscription_id, event_id, generation, status, reason, lease_count, accepted_at, settled_at, note)
    select org_id, subscription_id, event_id, generation, 'expired', 'unread for the inbox''s retention',
        lease_count, accepted_at, now(), note
    from gone
)
select (select count(*) from gone) as expired,
    (select count(*) from old) as found,
    (select array[org_id, subscription_id] from old order by org_id desc, subscription_id desc limit 1) as stopped,
    (select count(*) from slice) as inboxes,
    (select array[org_id, id] from slice order by org_id desc, id desc limit 1) as last
