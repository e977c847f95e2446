-- name: insert
insert into subscriptions (
    org_id, id, kind, key, status_at, created_at, changed_at, event_types, type_names, type_prefixes, all_types,
    filter, notification_url, max_leases, default_lease_seconds, expires_at
)
values ($1, $2, 'inbox', $3, $4, $4, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
on conflict (org_id, kind, key) where status <> 'deleting' do nothing
returning *, false as expired

-- name: locked
select *, coalesce(expires_at <= now(), false) as expired from subscriptions
where org_id = $1 and id = $2 and kind = 'inbox'

-- name: expired_with_key
-- An inbox that has expired keeps its key until it is deleted. A new inbox may need the key before.
select id from subscriptions
where org_id = $1 and kind = 'inbox' and key = $2 and status <> 'deleting' and expires_at <= now()

-- name: expired
select org_id, id from subscriptions
where kind = 'inbox' and expires_at is not null and expires_at <= now() and status <> 'deleting'
order by expires_at limit $1

-- name: change
update subscriptions
set changed_at = $3, event_types = $4, type_names = $5, type_prefixes = $6, all_types = $7, filter = $8,
    notification_url = $9, default_lease_seconds = $10, expires_at = $11,
    filter_error = case when filter is not distinct from $8 then filter_error end,
    filter_error_at = case when filter is not distinct from $8 then filter_error_at end
where org_id = $1 and id = $2
returning *, false as expired

-- name: renew
update subscriptions set changed_at = $3, expires_at = $4 where org_id = $1 and id = $2
returning *, false as expired

-- name: set_status
update subscriptions set status = $4, status_reason = $5, status_at = $3, changed_at = $3, emptied_at = null
where org_id = $1 and id = $2
returning *, false as expired

-- name: notices
select id, notifies_inbox, status, status_reason from subscriptions
where org_id = $1 and notifies_inbox = any ($2::uuid[]) and status <> 'deleting'
