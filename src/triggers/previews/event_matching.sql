-- name: candidates
-- Leaves out subscriptions that are being deleted. `sent` says whether the subscription has a delivery of the event $3.
-- Deliveries of tests and replays count too.
select s.id, s.kind, s.name, s.key, s.target_url, s.status, s.event_types, s.filter, s.created_at,
    greatest(s.created_at, s.status_at, s.changed_at) as changed_at,
    $3::uuid is not null and (
        exists (
            select from deliveries d
            where d.org_id = s.org_id and d.subscription_id = s.id and d.event_id = $3
        ) or exists (
            select from settled_deliveries d
            where d.org_id = s.org_id and d.subscription_id = s.id and d.event_id = $3
        )
    ) as sent
from subscriptions s
where s.org_id = $1 and s.id > $2 and s.status <> 'deleting'
order by s.id limit $4
