-- People who run the platform, apart from tenants and their people.
create table staff (
    id                uuid primary key,
    email             text not null,
    name              text not null,
    password_hash     text,    -- argon2id, PHC string; null until it is chosen
    sealed_secret     bytea,   -- of the second factor, under MASTER_KEYS
    last_step         bigint not null default 0, -- of the newest code that was used: none is good twice
    failures          integer not null default 0, -- wrong codes since the last right one
    locked_until      timestamptz,
    invite_hash       bytea,   -- of the token by which password and second factor are chosen
    invite_expires_at timestamptz,
    activated_at      timestamptz,
    deactivated_at    timestamptz,
    created_at        timestamptz not null default ledger_now(),
    constraint staff_invite_key unique (invite_hash)
);
create unique index staff_email_key on staff (lower(email));
alter table staff enable row level security;
alter table staff force row level security;
create policy identity on staff to millwork_identity using (true);
create policy system on staff to millwork_system using (true);
grant select on staff to millwork_identity, millwork_system;
-- A request may use an invitation up, and never make anyone staff: that the command line does.
grant update (password_hash, sealed_secret, last_step, failures, locked_until, invite_hash, invite_expires_at,
              activated_at)
    on staff to millwork_identity;
grant insert, update on staff to millwork_system;

create table staff_sessions (
    id         uuid primary key,
    staff_id   uuid not null references staff (id) on delete cascade,
    token_hash bytea not null, -- SHA-256
    address    text,
    user_agent text,
    created_at timestamptz not null default ledger_now(),
    used_at    timestamptz not null default ledger_now(),
    expires_at timestamptz not null,
    ended_at   timestamptz,
    constraint staff_sessions_token_key unique (token_hash)
);
create index staff_sessions_staff on staff_sessions (staff_id);
create index staff_sessions_expiry on staff_sessions (expires_at);
alter table staff_sessions enable row level security;
alter table staff_sessions force row level security;
create policy identity on staff_sessions to millwork_identity using (true);
create policy system on staff_sessions to millwork_system using (true);
grant select, insert, update on staff_sessions to millwork_identity;
grant select, update, delete on staff_sessions to millwork_system;

-- What concerns staff is the platform's own history.
create function audit_staff() returns trigger language plpgsql as $$
declare
    platform constant uuid := '00000000-0000-7000-8000-000000000000';
    bookkeeping constant text[] := '{last_step,failures,locked_until}';
    masked constant text[] := '{password_hash,sealed_secret,invite_hash}';
    before jsonb := case when tg_op = 'UPDATE' then to_jsonb(old) end;
    after  jsonb := to_jsonb(new);
begin
    if tg_op = 'UPDATE' and before - bookkeeping = after - bookkeeping then
        return null;
    end if;
    perform audit_record(platform, case tg_op when 'INSERT' then 'staff.created' else 'staff.updated' end, 'staff',
                         new.id::text, audit_image(before, masked, bookkeeping), audit_image(after, masked, bookkeeping));
    return null;
end $$;
-- Another seal around the same secret is no change; only the system's door can say so.
create trigger audit after insert or update on staff for each row
    when (current_user <> 'millwork_system' or current_setting('app.resealing', true) is distinct from 'on')
    execute function audit_staff();

create function audit_staff_session() returns trigger language plpgsql as $$
declare
    platform constant uuid := '00000000-0000-7000-8000-000000000000';
begin
    perform audit_record(platform, case tg_op when 'INSERT' then 'staff_session.created' else 'staff_session.revoked' end,
                         'staff', new.staff_id::text, null, jsonb_build_object('session_id', new.id));
    return null;
end $$;
create trigger audit_created after insert on staff_sessions for each row execute function audit_staff_session();
create trigger audit_revoked after update on staff_sessions for each row
    when (old.ended_at is null and new.ended_at is not null) execute function audit_staff_session();
