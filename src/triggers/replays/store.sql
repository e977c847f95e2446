-- name: insert
insert into replays (
    org_id, id, kind, subscription_id, status, only_dead, event_types, first_id, end_id, position, rate, planned,
    plan_exact, not_before, created_at, updated_at, action
)
-- `acting` keeps nodes of a version that knows only replays from running another action.
select $1, $2, 'replay', $3, case when $13 = 'replay' then 'running' else 'acting' end, $4, $5, $6, $7, $6, $8, $9, $10,
    coalesce($11, now()), now(), now(), $13
where (select count(*) from (
    select from replays where org_id = $1 and status in ('running', 'acting') limit $12
) running) < $12
returning *

-- name: one
select * from replays where org_id = $1 and id = $2

-- name: listed
select * from replays
where org_id = $1 and id < $2
  and ($3::uuid is null or subscription_id = $3) and ($4::text is null or status = $4 or $4 = 'running' and status = 'acting')
order by id desc limit $5

-- name: cancel
update replays set status = 'cancelled', reason = $3, updated_at = now(), finished_at = now()
where org_id = $1 and id = $2 and status in ('running', 'acting')
returning *

-- name: waiting
-- Jobs that may have a chunk now: first the job of each organisation that has waited longest, then the second of
-- each, and so on. So each organisation has a job in the next round, however many jobs the others have.
-- All running jobs are read by their index, and sorted. Each organisation can have only a few of them ($12 of
-- `insert`). There is no index in this order. It would have to begin with the organisation.
select org_id, id, subscription_id
from (
    select org_id, id, subscription_id, updated_at,
        row_number() over (partition by org_id order by updated_at) as turn
    from (
        select * from replays where status = 'running' union all select * from replays where status = 'acting'
    ) unfinished
    where not_before <= now()
) jobs
order by turn, updated_at limit $1

-- name: claim
-- Whoever has the row does the next chunk; the others have something else to do.
select *, now() as now from replays
where org_id = $1 and id = $2 and status in ('running', 'acting') and not_before <= now()
for update skip locked

-- name: advance
-- In the transaction of the chunk: what is made and how far it came are one commit. The rate is kept
-- from the moment that the last chunk was due, but never made up for by more than a second.
update replays
set position = $3, made = made + $4, updated_at = now(), reason = null,
    not_before = greatest(not_before, now() - interval '1 second') + $5::interval,
    status = case when $3 >= end_id then 'done' else status end,
    finished_at = case when $3 >= end_id then now() end
where org_id = $1 and id = $2

-- name: hold
update replays set not_before = now() + $3::interval, updated_at = now(), reason = $4
where org_id = $1 and id = $2

-- name: finish
update replays set status = $3, reason = $4, updated_at = now(), finished_at = now()
where org_id = $1 and id = $2 and status in ('running', 'acting')

-- name: let_live_go
-- What waited for a backfill is found when the lane follows a change of its subscription.
update subscriptions set changed_at = clock_timestamp() where org_id = $1 and id = $2 and kind = 'push' and ordering = 'key'

-- name: due_already
-- Counted up to a bound: whether what is live would stand behind too much.
select count(*) from (
    select from deliveries where org_id = $1 and subscription_id = $2 and due_at <= now() limit $3
) due

-- name: first_event
select id from events where org_id = $1 order by id limit 1

-- name: events
select id, type, source, subject, ordering_key,
    octet_length(payload) + coalesce(octet_length(attributes), 0) as payload_size
from events where org_id = $1 and id >= $2 and id < $3 order by id limit $4

-- name: unhappy
-- Three parts, each in the order of its index; some may have a younger generation by now.
select event_id from (
    (select event_id from settled_deliveries
    where org_id = $1 and subscription_id = $2 and status = 'dead' and event_id >= $3 and event_id < $4
    order by event_id limit $5)
    union all
    (select event_id from settled_deliveries
    where org_id = $1 and subscription_id = $2 and status = 'cancelled' and event_id >= $3 and event_id < $4
    order by event_id limit $5)
    union all
    (select event_id from settled_deliveries
    where org_id = $1 and subscription_id = $2 and status = 'expired' and event_id >= $3 and event_id < $4
    order by event_id limit $5)
) unhappy
order by event_id limit $5

-- name: to_make_again
-- Of these events: those that a replay would make a delivery of.
select count(*) from unnest($3::uuid[]) as b (id)
left join lateral (
    select d.status from settled_deliveries d
    where d.org_id = $1 and d.subscription_id = $2 and d.event_id = b.id order by d.generation desc limit 1
) last on true
where (not $4 or last.status in ('dead', 'cancelled', 'expired'))
  and not exists (
    select from deliveries d where d.org_id = $1 and d.subscription_id = $2 and d.event_id = b.id
  )

-- name: waiting_deliveries
-- The first unsettled deliveries of a range, and whether the action applies to each: a retry applies to pending ones,
-- due or not, and a cancellation to those that are not leased. Those of a failing endpoint wait although they are due.
select event_id, generation, status = 'pending' or ($6 <> 'retry' and due_at <= now()) as concerned
from deliveries
where org_id = $1 and subscription_id = $2 and event_id >= $3 and event_id < $4
order by event_id, generation limit $5

-- name: lock_waiting
-- Locks the deliveries of these events that no other transaction is changing. It must not wait: a settlement locks its
-- delivery while it waits for the lock of the subscription, which the job has.
select org_id, subscription_id, event_id, generation from deliveries
where org_id = $1 and subscription_id = $2 and event_id = any ($3::uuid[])
order by event_id, generation for update skip locked

-- name: make_due
-- Those that are due already keep their place. They count, because a plan counts them too. Both parts see the rows as
-- they were before the update.
with made as (
    update deliveries set due_at = now()
    where org_id = $1 and subscription_id = $2 and event_id = any ($3::uuid[]) and status = 'pending'
      and due_at > now()
    returning event_id
)
select event_id from made
union all
select event_id from deliveries
where org_id = $1 and subscription_id = $2 and event_id = any ($3::uuid[]) and status = 'pending' and due_at <= now()

-- name: cancel_waiting
with gone as (
    delete from deliveries
    where org_id = $1 and subscription_id = $2 and event_id = any ($3::uuid[])
      and (status = 'pending' or due_at <= now())
    returning event_id, generation, lease_count, attempts, accepted_at, first_attempt_at, note
), settled as (
    insert into settled_deliveries (org_id, subscription_id, event_id, generation, status, reason, lease_count,
        attempts, accepted_at, first_attempt_at, settled_at, note)
    select $1, $2, event_id, generation, 'cancelled', $4, lease_count, attempts, accepted_at, first_attempt_at,
        now(), note
    from gone
)
select event_id from gone

-- name: tell_lane
-- A worker that has read the cancelled deliveries ahead then drops them.
update subscriptions set changed_at = clock_timestamp() where org_id = $1 and id = $2 and kind = 'push'
