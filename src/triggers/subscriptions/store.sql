-- name: lock
-- Changes of one organisation's subscriptions come one after the other, each seeing the last.
select subscription_count < max_subscriptions as room from organisations where id = $1 for no key update

-- name: lock_subscription
-- The row itself is locked too, and that of its notices: workers write to them without the
-- organisation's lock.
select from subscriptions
where org_id = $1 and (id = $2 or notifies_inbox = $2 and status <> 'deleting') for no key update

-- name: now
-- A statement of its own: one that also waits for a lock reads the clock before it waits.
select clock_timestamp()

-- name: count
update organisations set subscription_count = subscription_count + $2 where id = $1

-- name: raise_version
update organisations set judging_version = judging_version + 1 where id = $1

-- name: insert
insert into subscriptions (
    org_id, id, kind, key, status, status_at, created_at, changed_at, lane_group,
    name, target_url, event_types, type_names, type_prefixes, all_types, filter, format, signature, secrets,
    headers, ordering, ordering_pointer, max_concurrency, rate_limit, retry_delays, retry_deadline, expires_at,
    notifies_inbox
)
values (
    $1, $2, 'push', $3, $4, $5, $5, $5, $6,
    $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,
    $17, $18, $19, $20, $21, $22, $23, $24,
    $25
)
on conflict (org_id, kind, key) where status <> 'deleting' do nothing
returning *

-- name: backfill
insert into replays (
    org_id, id, kind, subscription_id, status, event_types, first_id, end_id, position, rate,
    not_before, created_at, updated_at
)
values ($1, $2, 'backfill', $3, 'running', null, $4, $5, $4, $6, $7, $8, $8)

-- name: one
-- With the first rows of the two indexes: what is oldest, and what comes next.
select s.*, o.accepted_at as oldest_pending, d.due_at as next_due
from subscriptions s
left join lateral (
    select accepted_at from deliveries d
    where d.org_id = s.org_id and d.subscription_id = s.id order by event_id limit 1
) o on true
left join lateral (
    select due_at from deliveries d
    where d.org_id = s.org_id and d.subscription_id = s.id order by due_at, event_id limit 1
) d on true
where s.org_id = $1 and s.kind = 'push'
  and (s.id = $2 or (s.key = $3 and s.status <> 'deleting'))
limit 1

-- name: list
select s.*, o.accepted_at as oldest_pending, d.due_at as next_due
from subscriptions s
left join lateral (
    select accepted_at from deliveries d
    where d.org_id = s.org_id and d.subscription_id = s.id order by event_id limit 1
) o on true
left join lateral (
    select due_at from deliveries d
    where d.org_id = s.org_id and d.subscription_id = s.id order by due_at, event_id limit 1
) d on true
where s.org_id = $1 and s.kind = 'push' and s.notifies_inbox is null and s.status <> 'deleting'
  and s.id > $2 and ($3::text is null or s.key = $3) and ($4::text is null or s.status = $4)
  and (not $5::boolean or s.failing_since is not null and s.status = 'active')
order by s.id limit $6

-- name: has_event
select from events where org_id = $1 and id = $2
