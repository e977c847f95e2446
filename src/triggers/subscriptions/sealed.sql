-- name: sealed
select org_id, id, secrets, headers from subscriptions
where (org_id, id) > ($1, $2) and kind = 'push' and deleted_at is null
order by org_id, id limit $3

-- name: some_sealed
select org_id, id, secrets from subscriptions
where kind = 'push' and deleted_at is null order by lane_group, changed_at limit $1

-- name: reseal
update subscriptions set secrets = $3, headers = $4
where org_id = $1 and id = $2 and secrets = $5 and headers is not distinct from $6
returning id
