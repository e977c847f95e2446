-- Organisations can be deleted. One transaction moves the row of an organisation to `deleted_organisations`, so every
-- statement that asks for the organisation finds none. A duty then deletes its other rows in batches, which for a large
-- organisation takes minutes. Its keys and sessions exist until then, so they no longer reference the organisation. They
-- are valid only if it exists, because the statements that look them up join it.
--
-- The tables are locked in the order in which those statements lock them, to avoid a deadlock with one of them.

lock table sessions, session_links, api_keys, organisations in access exclusive mode;
alter table sessions
    drop constraint sessions_org_id_fkey,
    drop constraint sessions_key_id_fkey,
    drop constraint sessions_acting_for_fkey;
alter table session_links
    drop constraint session_links_org_id_fkey,
    drop constraint session_links_key_id_fkey;
alter table api_keys drop constraint api_keys_org_id_fkey;
-- Which organisations have a key of an operator: the last one cannot be deleted.
create index api_keys_of_operators on api_keys (org_id) where 'admin' = any (scopes);

create table deleted_organisations (
    id uuid primary key,
    name text not null,
    deleted_at timestamptz not null,
    due_at timestamptz not null,      -- when its rows are deleted, or are looked for again
    emptied_at timestamptz,           -- when all its rows were found to be deleted
    emptying text,                    -- the table whose rows are being deleted; null: before the first table
    position text[]                   -- the key up to which they are deleted; null: none
);
create index deleted_organisations_due on deleted_organisations (due_at);
