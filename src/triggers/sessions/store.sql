-- name: lock
-- Transactions that create links or sessions of one organisation wait for each other, so that none exceeds the maximum.
select from organisations where id = $1 for no key update

-- name: key_named
select id from api_keys
where org_id = $1 and name = $2 and revoked_at is null and (expires_at is null or expires_at > now())
order by id limit 1

-- name: insert_link
insert into session_links (org_id, id, hash, key_id, scopes, return_url, created_at, expires_at)
values ($1, $2, $3, $4, $5, $6, now(), now() + $7)
returning expires_at

-- name: trim_links
delete from session_links where org_id = $1 and id in (
    (select id from session_links where org_id = $1 and key_id = $2 order by id desc offset $3)
    union all
    (select id from session_links where org_id = $1 order by id desc offset $4)
)

-- name: link
select k.name as key_name, o.name as org_name, l.scopes as narrowed, k.scopes, l.return_url, l.expires_at
from session_links l join api_keys k on k.id = l.key_id join organisations o on o.id = l.org_id
where l.hash = $1 and l.expires_at > now()
    and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())

-- name: open_with_link
-- This is one statement, so if two requests use the same link, only one of them opens a session.
with link as (
    delete from session_links where hash = $1 and expires_at > now() returning *
)
insert into sessions (org_id, id, hash, key_id, scopes, return_url, created_at, expires_at)
select link.org_id, $2, $3, link.key_id, link.scopes, link.return_url, now(), now() + $4
from link join api_keys k on k.id = link.key_id join organisations o on o.id = link.org_id
where k.revoked_at is null and (k.expires_at is null or k.expires_at > now())
returning org_id, key_id

-- name: open_with_key
insert into sessions (org_id, id, hash, key_id, created_at, expires_at)
select k.org_id, $3, $4, k.id, now(), now() + $5
from api_keys k join organisations o on o.id = k.org_id
where k.org_id = $1 and k.id = $2 and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())
returning org_id, key_id

-- name: trim
delete from sessions where org_id = $1 and id in (
    (select id from sessions where org_id = $1 and key_id = $2 order by id desc offset $3)
    union all
    (select id from sessions where org_id = $1 order by id desc offset $4)
)

-- name: by_hash
select s.id as session_id, s.scopes as narrowed, s.return_url, s.expires_at as session_expires_at,
    k.name as key_name, k.id, k.prefix, k.scopes, k.expires_at, k.org_id,
    o.name as org_name, o.plan, o.custom_quota,
    a.id as acting_id, a.name as acting_name, a.plan as acting_plan, a.custom_quota as acting_quota,
    a.created_at as acting_created_at
from sessions s join api_keys k on k.id = s.key_id join organisations o on o.id = s.org_id
    left join organisations a on a.id = s.acting_for
where s.hash = $1 and s.expires_at > now()
    and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())

-- name: act_for
update sessions set acting_for = $3 where org_id = $1 and id = $2

-- name: list
select s.id, s.scopes as narrowed, s.return_url, s.acting_for, s.created_at, s.expires_at,
    k.id as key_id, k.name as key_name, k.prefix as key_prefix, k.scopes
from sessions s join api_keys k on k.id = s.key_id
where s.org_id = $1 and s.id > $2 and s.expires_at > now()
    and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())
order by s.id limit $3

-- name: by_id
select s.id, s.scopes as narrowed, s.return_url, s.acting_for, s.created_at, s.expires_at,
    k.id as key_id, k.name as key_name, k.prefix as key_prefix, k.scopes
from sessions s join api_keys k on k.id = s.key_id
where s.org_id = $1 and s.id = $2 and s.expires_at > now()
    and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())

-- name: still_open
select s.id from unnest($1::uuid[], $2::uuid[]) as wanted (org_id, id)
    join sessions s on s.org_id = wanted.org_id and s.id = wanted.id
where s.expires_at > now()

-- name: end
delete from sessions where org_id = $1 and id = $2

-- name: sweep
delete from sessions where hash in (select hash from sessions where expires_at <= now() limit $1)
returning 1

-- name: sweep_links
delete from session_links where hash in (select hash from session_links where expires_at <= now() limit $1)
returning 1
