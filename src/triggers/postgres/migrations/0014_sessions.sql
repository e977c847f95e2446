-- Signing in to the console, and the scopes `read` and `act`.

alter table api_keys drop constraint api_keys_scopes_check;
alter table api_keys add constraint api_keys_scopes_check
    check (scopes <@ array['events:write', 'events:read', 'inbox', 'subscriptions', 'keys', 'read', 'admin', 'act']);

-- A link opens one session. `scopes` narrows the scopes of the key. Null stands for all of them.
create table session_links (
    org_id uuid not null references organisations,
    id uuid not null,
    hash text not null unique check (hash ~ '^[0-9a-f]{64}$'),
    key_id uuid not null references api_keys,
    scopes text[],
    return_url text check (length(return_url) between 1 and 2048),
    created_at timestamptz not null,
    expires_at timestamptz not null,
    primary key (org_id, id)
);
create index session_links_by_key on session_links (org_id, key_id, id);
create index session_links_by_end on session_links (expires_at);

create table sessions (
    org_id uuid not null references organisations,
    id uuid not null,
    hash text not null unique check (hash ~ '^[0-9a-f]{64}$'),
    key_id uuid not null references api_keys,
    scopes text[],
    return_url text check (length(return_url) between 1 and 2048),
    acting_for uuid references organisations, -- the organisation that an operator looks at instead of `org_id`
    created_at timestamptz not null,
    expires_at timestamptz not null,
    primary key (org_id, id)
);
create index sessions_by_key on sessions (org_id, key_id, id);
create index sessions_by_end on sessions (expires_at);
