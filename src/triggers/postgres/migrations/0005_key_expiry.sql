-- What a key was made to last: its successor lasts as long.

alter table api_keys
    add column made_until timestamptz; -- null for ever; a rotation brings only expires_at forward
update api_keys set made_until = expires_at;
