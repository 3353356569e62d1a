-- People who sign in by another provider (decision 0032). An identity is an issuer's name for a person, which is theirs
-- for ever; the provider's name here and the address are for people to read.
create table identities (
    issuer     text not null,
    subject    text not null,
    user_id    uuid not null references users (id) on delete cascade,
    provider   text not null,
    email      text not null, -- when it was linked
    created_at timestamptz not null default ledger_now(),
    primary key (issuer, subject),
    -- An address that was given to somebody else at the provider must not open the account of who had it before.
    constraint identities_user_key unique (user_id, issuer)
);
alter table identities enable row level security;
alter table identities force row level security;
create policy identity on identities to millwork_identity using (true);
create policy system on identities to millwork_system using (true);
grant select, insert on identities to millwork_identity;

-- It belongs to a person: each of their tenants is told.
create function audit_identity() returns trigger language plpgsql as $$
declare
    tenant uuid;
begin
    for tenant in select tenant_id from memberships where user_id = new.user_id order by tenant_id loop
        perform audit_record(tenant, 'identity.linked', 'user', new.user_id::text, null,
                             jsonb_build_object('provider', new.provider, 'issuer', new.issuer, 'email', new.email), new.user_id);
    end loop;
    return null;
end $$;
create trigger audit after insert on identities for each row execute function audit_identity();

-- States that came back from a provider: each is good once. Nothing is kept of those that did not come back.
create table oauth_states (
    state_hash bytea primary key,
    used_at    timestamptz not null default ledger_now()
);
create index oauth_states_age on oauth_states (used_at);
alter table oauth_states enable row level security;
alter table oauth_states force row level security;
create policy identity on oauth_states to millwork_identity using (true);
create policy system on oauth_states to millwork_system using (true);
grant select, insert on oauth_states to millwork_identity;
grant select, delete on oauth_states to millwork_system;

-- Codes that stand for a person whom a provider named, for minutes, until a front end or a second factor turns one into
-- a session. Only hashes are stored.
create table oauth_codes (
    code_hash     bytea primary key,
    user_id       uuid not null references users (id) on delete cascade,
    wished_tenant uuid,  -- the one to enter, which may not be theirs
    challenge     bytea, -- SHA-256 of what the front end must show
    issuer        text not null,
    subject       text not null,
    provider      text not null,
    email         text not null,
    expires_at    timestamptz not null
);
create index oauth_codes_expiry on oauth_codes (expires_at);
create index oauth_codes_user on oauth_codes (user_id); -- for the cascade
alter table oauth_codes enable row level security;
alter table oauth_codes force row level security;
create policy identity on oauth_codes to millwork_identity using (true);
create policy system on oauth_codes to millwork_system using (true);
grant select, insert, update, delete on oauth_codes to millwork_identity;
grant select, delete on oauth_codes to millwork_system;
