-- name: rules
-- In one statement, so that the rules and the version are of one moment.
select o.judging_version, s.id, s.type_names, s.type_prefixes, s.all_types, s.filter, s.ordering_pointer
from organisations o
left join subscriptions s on s.org_id = o.id
    and s.status in ('active', 'paused') and (s.filter is not null or s.ordering_pointer is not null)
where o.id = $1
order by s.id

-- name: record
-- What failed was this filter; one that has been changed since is not to blame. Nodes that see the
-- same failure write it once.
update subscriptions s set filter_error = f.reason, filter_error_at = now()
from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) as f (org_id, id, filter, reason)
where s.org_id = f.org_id and s.id = f.id and s.filter = f.filter
  and (s.filter_error_at is null or s.filter_error_at < now() - $5::interval)
