-- What the flag of a subscription leaves behind, and notices of inboxes as push subscriptions.

alter table subscriptions
    -- An inbox with a notification_url has a push subscription of its own that sends the notices.
    add column notifies_inbox uuid,
    -- The rows it left behind are settled: of a deleted or disabled one nothing is owed any more.
    add column emptied_at timestamptz,
    add check (notifies_inbox is null or kind = 'push'),
    add check (emptied_at is null or status in ('deleting', 'disabled'));
update subscriptions set emptied_at = deleted_at where deleted_at is not null;
create unique index subscriptions_notifying on subscriptions (org_id, notifies_inbox)
    where notifies_inbox is not null and status <> 'deleting';
drop index subscriptions_ending;
-- Those whose rows have still to follow the flag.
create index subscriptions_ending on subscriptions (status_at)
    where status in ('deleting', 'disabled') and emptied_at is null;
