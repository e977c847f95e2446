-- What a CloudEvent says besides the fields that every event has: `dataschema` and extension attributes.

alter table events
    add column attributes bytea; -- a JSON object; null if there are none
