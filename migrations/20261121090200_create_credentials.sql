-- What proves who is calling. Only hashes are stored of everything that a client presents.
create table api_keys (
    id           uuid primary key,
    tenant_id    uuid not null,
    created_by   uuid not null,
    name         text not null,
    prefix       text not null, -- the public part, mw_<env>_<prefix>_…
    secret_hash  bytea not null, -- SHA-256 of the whole key
    permissions  text[] not null,
    expires_at   timestamptz,
    revoked_at   timestamptz,
    created_at   timestamptz not null default ledger_now(),
    constraint api_keys_prefix_key unique (prefix),
    constraint api_keys_tenant_key unique (tenant_id, id),
    constraint api_keys_creator foreign key (tenant_id, created_by) references memberships (tenant_id, user_id)
);
call isolate_tenant('api_keys');
create policy identity on api_keys to millwork_identity using (true);
grant select, insert, update on api_keys to millwork_tenant;
grant select on api_keys to millwork_identity;
grant select, delete on api_keys to millwork_system;

-- One row a refresh token; every rotation spends one row and adds the next of the same family.
create table refresh_tokens (
    id         uuid primary key,
    family_id  uuid not null,
    tenant_id  uuid not null,
    user_id    uuid not null,
    token_hash bytea not null,
    expires_at timestamptz not null,
    spent_at   timestamptz,
    revoked_at timestamptz,
    created_at timestamptz not null default ledger_now(),
    constraint refresh_tokens_hash_key unique (token_hash),
    constraint refresh_tokens_member foreign key (tenant_id, user_id) references memberships (tenant_id, user_id)
        on delete cascade
);
create index refresh_tokens_family on refresh_tokens (family_id);
create index refresh_tokens_expiry on refresh_tokens (expires_at);
call isolate_tenant('refresh_tokens');
create policy identity on refresh_tokens to millwork_identity using (true);
grant select, update on refresh_tokens to millwork_tenant;
grant select, insert, update on refresh_tokens to millwork_identity;
grant select, delete on refresh_tokens to millwork_system;

-- Single-use tokens sent by mail.
create table one_time_tokens (
    id         uuid primary key,
    user_id    uuid not null references users (id) on delete cascade,
    purpose    text not null,
    token_hash bytea not null,
    expires_at timestamptz not null,
    used_at    timestamptz,
    created_at timestamptz not null default ledger_now(),
    constraint one_time_tokens_hash_key unique (token_hash),
    constraint one_time_tokens_purpose_check check (purpose in ('verify_email', 'reset_password'))
);
create index one_time_tokens_expiry on one_time_tokens (expires_at);
alter table one_time_tokens enable row level security;
alter table one_time_tokens force row level security;
create policy identity on one_time_tokens to millwork_identity using (true);
create policy system on one_time_tokens to millwork_system using (true);
grant select, insert, update on one_time_tokens to millwork_identity;
grant select, insert, delete on one_time_tokens to millwork_system; -- the mail's handler makes the token

-- Keys that sign access tokens (EdDSA), sealed under MASTER_KEYS.
create table signing_keys (
    id             uuid primary key, -- the `kid`
    public_key     bytea not null,
    sealed_private bytea not null,
    created_at     timestamptz not null default ledger_now(),
    retired_at     timestamptz
);
alter table signing_keys enable row level security;
alter table signing_keys force row level security;
create policy identity on signing_keys to millwork_identity using (true);
create policy system on signing_keys to millwork_system using (true);
grant select, insert on signing_keys to millwork_identity;
grant select, insert, update, delete on signing_keys to millwork_system;
