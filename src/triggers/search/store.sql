-- name: event
select id, type from events where org_id = $1 and id = $2

-- name: delivery
-- Looks into both tables of deliveries by their keys.
select (select type from events where org_id = $1 and id = $2) as type
where exists (
    select from deliveries where org_id = $1 and subscription_id = $3 and event_id = $2
) or exists (
    select from settled_deliveries where org_id = $1 and subscription_id = $3 and event_id = $2
)

-- name: deduplicated
select e.id, e.type from dedup d join events e on e.org_id = d.org_id and e.id = d.event_id
where d.org_id = $1 and d.dedup_id = $2

-- name: ending
-- Searches the ends of the ids of the newest $2 events. The index contains the ids.
select id from (select id from events where org_id = $1 order by id desc limit $2) newest
where right(id::text, 8) = $3 order by id desc limit $4

-- name: about
select id, type from (select id, type, subject from events where org_id = $1 order by id desc limit $2) newest
where subject = $3 order by id desc limit $4

-- name: looked_to
select id from events where org_id = $1 order by id desc offset $2 limit 1

-- name: subscriptions
-- Searches the first $2 subscriptions and inboxes in the order of the primary key. $3 is in lower case.
select id, kind, name, key, target_url, matched
from (
    select id, kind, name, key, target_url,
        case
            when id::text = $3 then 'id'
            when right(id::text, 8) = $3 then 'ending'
            when lower(name) = $3 or lower(key) = $3 then 'name'
            when strpos(lower(name), $3) > 0 or strpos(lower(key), $3) > 0 then 'part_of_name'
            when strpos(lower(substring(target_url from '^[a-z]+://([^/?#]*)')), $3) > 0 then 'host'
        end as matched
    from (
        select id, kind, name, key, target_url from subscriptions
        where org_id = $1 and status <> 'deleting' and notifies_inbox is null order by id limit $2
    ) looked_at
) found
where matched is not null
order by array_position(array['id', 'ending', 'name', 'part_of_name', 'host'], matched), id limit $4
