-- A second factor: codes by time (RFC 6238), and codes to fall back on.
create table totp_factors (
    user_id       uuid primary key references users (id) on delete cascade,
    sealed_secret bytea not null, -- under MASTER_KEYS
    confirmed_at  timestamptz,    -- asked for at sign-in from then on
    last_step     bigint not null default 0, -- of the newest code that was used: none is good twice
    failures      integer not null default 0, -- wrong codes since the last right one
    locked_until  timestamptz,
    created_at    timestamptz not null default ledger_now()
);
alter table totp_factors enable row level security;
alter table totp_factors force row level security;
create policy identity on totp_factors to millwork_identity using (true);
create policy system on totp_factors to millwork_system using (true);
grant select, insert, update, delete on totp_factors to millwork_identity;

create table recovery_codes (
    user_id   uuid not null references totp_factors (user_id) on delete cascade,
    code_hash bytea not null,
    used_at   timestamptz,
    primary key (user_id, code_hash)
);
alter table recovery_codes enable row level security;
alter table recovery_codes force row level security;
create policy identity on recovery_codes to millwork_identity using (true);
create policy system on recovery_codes to millwork_system using (true);
grant select, insert, update, delete on recovery_codes to millwork_identity;
