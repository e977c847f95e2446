-- What a consumer reported of a message with its last acknowledgement, release or rejection: JSON, null if nothing. A
-- column costs nothing while it is null, and is kept, moved and dropped with its delivery.
alter table deliveries add column note text;
alter table settled_deliveries add column note text;
