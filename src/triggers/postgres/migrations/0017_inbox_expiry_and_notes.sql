-- Inboxes can expire, in the column in which push subscriptions do. Their duty looks for them by an index of its own.
-- It also finds those that a node of the previous version has disabled, because that node takes them for push
-- subscriptions.
create index subscriptions_inboxes_expiring on subscriptions (expires_at)
    where kind = 'inbox' and expires_at is not null and status <> 'deleting';

-- What a consumer reported of a message with its last acknowledgement, release or rejection: JSON, null if nothing. A
-- column costs nothing while it is null, and is kept, moved and dropped with its delivery.
alter table deliveries add column note text;
alter table settled_deliveries add column note text;
