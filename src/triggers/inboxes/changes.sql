-- name: insert
insert into subscriptions (
    org_id, id, kind, key, status_at, created_at, changed_at, event_types, type_names, type_prefixes, all_types,
    filter, notification_url, max_leases, default_lease_seconds
)
values ($1, $2, 'inbox', $3, $4, $4, $4, $5, $6, $7, $8, $9, $10, $11, $12)
on conflict (org_id, kind, key) where status <> 'deleting' do nothing
returning *

-- name: locked
select * from subscriptions where org_id = $1 and id = $2 and kind = 'inbox'

-- name: change
update subscriptions
set changed_at = $3, event_types = $4, type_names = $5, type_prefixes = $6, all_types = $7, filter = $8,
    notification_url = $9, default_lease_seconds = $10,
    filter_error = case when filter is not distinct from $8 then filter_error end,
    filter_error_at = case when filter is not distinct from $8 then filter_error_at end
where org_id = $1 and id = $2
returning *

-- name: set_status
update subscriptions set status = $4, status_reason = $5, status_at = $3, changed_at = $3
where org_id = $1 and id = $2
returning *

-- name: notices
select id, notifies_inbox, status, status_reason from subscriptions
where org_id = $1 and notifies_inbox = any ($2::uuid[]) and status <> 'deleting'
