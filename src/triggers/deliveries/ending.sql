-- name: unfinished
select org_id, id, status, status_reason, status_at, status_at < now() - $1::interval as quiet
from subscriptions
where status in ('deleting', 'disabled') and emptied_at is null
order by status_at limit 100

-- name: cancel_some
-- Asks for the status once more: of one that was enabled meanwhile nothing is to be cancelled.
-- Joined by columns of the chunk, never by the two constants: under those alone the planner may
-- choose to read the whole lane for each row of the chunk.
with chunk as (
    select org_id, subscription_id, event_id, generation from deliveries
    where org_id = $1 and subscription_id = $2
      and exists (
        select from subscriptions s
        where s.org_id = $1 and s.id = $2 and s.status in ('deleting', 'disabled')
      )
    order by event_id limit $3
), gone as (
    delete from deliveries d using chunk c
    where d.org_id = c.org_id and d.subscription_id = c.subscription_id
      and d.event_id = c.event_id and d.generation = c.generation
    returning d.event_id, d.generation, d.lease_count, d.attempts, d.accepted_at, d.first_attempt_at, d.note
), settled as (
    insert into settled_deliveries (
        org_id, subscription_id, event_id, generation, status, reason, lease_count, attempts, accepted_at,
        first_attempt_at, settled_at, note
    )
    select $1, $2, event_id, generation, 'cancelled', $4, lease_count, attempts, accepted_at, first_attempt_at,
        now(), note
    from gone
)
select count(*) from gone

-- name: emptied
-- Of a deleted one only the tombstone remains, which keeps no secrets.
update subscriptions
set emptied_at = now(),
    deleted_at = case when status = 'deleting' then now() end,
    secrets = case when status = 'deleting' and kind = 'push' then ''::bytea else secrets end,
    headers = case when status <> 'deleting' then headers end
where org_id = $1 and id = $2 and status_at = $3 and status in ('deleting', 'disabled')
  and (
    select event_id from deliveries where org_id = $1 and subscription_id = $2 order by event_id limit 1
  ) is null
