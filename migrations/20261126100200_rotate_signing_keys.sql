-- A key is published before it signs, and stays until what it signed has expired.
alter table signing_keys add column signs_from timestamptz not null default ledger_now();
