-- name: ack
-- The same statement records that the lease is finished, unless it holds other messages. This record shows that a
-- later request is a repetition.
with held as (
    delete from deliveries
    where org_id = $1 and subscription_id = $2 and lease_id = $3 and due_at > now()
      and ($4::uuid[] is null or event_id = any ($4))
    returning event_id, generation, lease_count, accepted_at, note
), settled as (
    insert into settled_deliveries
        (org_id, subscription_id, event_id, generation, status, lease_count, accepted_at, settled_at, note)
    select $1, $2, event_id, generation, 'acknowledged', lease_count, accepted_at, now(), coalesce($5, note) from held
), others as materialized (
    select $4::uuid[] is not null and exists (
        select from deliveries
        where org_id = $1 and subscription_id = $2 and lease_id = $3 and event_id <> all ($4)
    ) as left_over
), finished as (
    insert into finished_leases (org_id, subscription_id, lease_id, ended_at)
    select $1, $2, $3, now() from others
    where not left_over and exists (select from held)
    on conflict do nothing
)
select event_id, lease_count, left_over from held cross join others order by event_id

-- name: finish
-- Runs after the commit of `ack` or `acknowledge`. Two such statements at the same time do not see each other's
-- changes, so both assume that the lease still has messages.
insert into finished_leases (org_id, subscription_id, lease_id, ended_at)
select $1, $2, l.id, now() from unnest($3::uuid[]) l (id)
where not exists (select from deliveries d where d.org_id = $1 and d.subscription_id = $2 and d.lease_id = l.id)
on conflict do nothing

-- name: release
-- A lease that does not count is taken off the number of leases. The reason keeps the fact that there was one,
-- because its consumer may have begun the work.
update deliveries set status = 'pending', lease_id = null, consumer = null, due_at = now() + $5::interval,
    note = coalesce($6, note),
    lease_count = lease_count - case when $7 then 0 else 1 end,
    reason = case when $7 then reason else 'given back by its consumer in a lease that does not count' end
where org_id = $1 and subscription_id = $2 and lease_id = $3 and due_at > now()
  and ($4::uuid[] is null or event_id = any ($4))
returning event_id, lease_count

-- name: reject
with held as (
    delete from deliveries
    where org_id = $1 and subscription_id = $2 and lease_id = $3 and due_at > now()
      and ($4::uuid[] is null or event_id = any ($4))
    returning event_id, generation, lease_count, accepted_at, note
), settled as (
    insert into settled_deliveries
        (org_id, subscription_id, event_id, generation, status, reason, lease_count, accepted_at, settled_at, note)
    select $1, $2, event_id, generation, 'dead', $5, lease_count, accepted_at, now(), coalesce($6, note) from held
)
select event_id, lease_count from held order by event_id

-- name: extend
update deliveries set due_at = now() + $4::interval
where org_id = $1 and subscription_id = $2 and lease_id = $3 and due_at > now()
returning event_id, lease_count, due_at, reason is not null as given_back

-- name: acknowledge
-- If this statement takes the last message of a lease that has not ended, it records that the lease is finished.
-- If the lease has ended, other consumers may have leased some of its messages since, so nothing is recorded.
with taken as (
    delete from deliveries
    where org_id = $1 and subscription_id = $2 and event_id = any ($3::uuid[])
    returning event_id, generation, lease_count, accepted_at, lease_id, due_at, note
), settled as (
    insert into settled_deliveries
        (org_id, subscription_id, event_id, generation, status, lease_count, accepted_at, settled_at, note)
    select $1, $2, event_id, generation, 'acknowledged', lease_count, accepted_at, now(), note from taken
), leases as materialized (
    select l.lease_id, exists (
        select from deliveries d
        where d.org_id = $1 and d.subscription_id = $2 and d.lease_id = l.lease_id
          and d.event_id not in (select event_id from taken)
    ) as left_over
    from (select distinct lease_id from taken where lease_id is not null and due_at > now()) l
), finished as (
    insert into finished_leases (org_id, subscription_id, lease_id, ended_at)
    select $1, $2, lease_id, now() from leases where not left_over
    on conflict do nothing
)
select event_id, l.lease_id as unfinished_lease
from taken t left join leases l on l.lease_id = t.lease_id and l.left_over

-- name: acknowledged_before
select distinct event_id from settled_deliveries
where org_id = $1 and subscription_id = $2 and event_id = any ($3::uuid[])
  and event_id >= $4 and event_id <= $5 and status = 'acknowledged'

-- name: acknowledged_last
-- Unlike in `acknowledged_before`, only the latest generation of a message counts: a message that was replayed since
-- is not acknowledged.
select event_id from settled_deliveries s
where org_id = $1 and subscription_id = $2 and event_id = any ($3::uuid[])
  and event_id >= $4 and event_id <= $5 and status = 'acknowledged'
  and not exists (
    select from deliveries d where d.org_id = $1 and d.subscription_id = $2 and d.event_id = s.event_id
  )
  and not exists (
    select from settled_deliveries y where y.org_id = $1 and y.subscription_id = $2
      and y.event_id = s.event_id and y.generation > s.generation and y.event_id >= $4 and y.event_id <= $5
  )

-- name: is_alive
select exists (
    select from deliveries where org_id = $1 and subscription_id = $2 and lease_id = $3 and due_at > now()
)

-- name: is_finished
select exists (
    select from finished_leases where org_id = $1 and subscription_id = $2 and lease_id = $3
)

-- name: sweep_finished
delete from finished_leases where (org_id, subscription_id, lease_id) in (
    select org_id, subscription_id, lease_id from finished_leases
    where ended_at <= now() - $1::interval order by ended_at limit $2
    for update skip locked
)
