-- name: version
select version from versions where name = 'keys'

-- name: by_prefix
select k.id, k.hash, k.prefix, k.scopes, k.expires_at, k.org_id, o.name as org_name, o.plan, o.custom_quota
from api_keys k join organisations o on o.id = k.org_id
where k.prefix = $1 and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())

-- name: insert
with raised as (
    update versions set version = version + 1 where name = 'keys'
)
insert into api_keys (id, org_id, name, prefix, hash, scopes, created_at, expires_at, made_until)
-- The organisation is locked before the row of the version, as its deletion does.
select $1, o.id, $3, $4, $5, $6, now(), $7, $7 from organisations o where o.id = $2 for key share
on conflict (hash) do nothing
returning id, name, prefix, scopes, created_at, expires_at, revoked_at, last_used_at

-- name: by_hash
select id, org_id, name, prefix, scopes, created_at, expires_at, revoked_at, last_used_at
from api_keys where hash = $1

-- name: list
select id, name, prefix, scopes, created_at, expires_at, revoked_at, last_used_at
from api_keys where org_id = $1 and id > $2 order by id limit $3

-- name: by_id
select id, name, prefix, scopes, created_at, expires_at, revoked_at, last_used_at
from api_keys where org_id = $1 and id = $2

-- name: lock
-- Before the row of the version, which whoever changes a key raises next: in one order, so that a rotation
-- and a revocation wait for each other and never in a ring.
select made_until, revoked_at from api_keys where org_id = $1 and id = $2 for update

-- name: end_after_overlap
with raised as (
    update versions set version = version + 1 where name = 'keys'
)
update api_keys set expires_at = least(expires_at, now() + $3)
where org_id = $1 and id = $2 and revoked_at is null

-- name: revoke
with raised as (
    update versions set version = version + 1 where name = 'keys'
)
update api_keys set revoked_at = coalesce(revoked_at, now())
where org_id = $1 and id = $2
returning id, name, prefix, scopes, created_at, expires_at, revoked_at, last_used_at

-- name: still_valid
select k.id from api_keys k join organisations o on o.id = k.org_id
where k.id = any ($1::uuid[]) and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())

-- name: touch
-- Another node may have noted a later use of the same key.
update api_keys k set last_used_at = greatest(k.last_used_at, to_timestamp(u.used_at))
from unnest($1::uuid[], $2::float8[]) as u (id, used_at)
where k.id = u.id
