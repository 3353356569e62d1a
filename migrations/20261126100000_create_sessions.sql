-- A session is a row of its own: it is what is listed, ended and locked. Its refresh tokens hang on it.
create table sessions (
    id           uuid primary key,
    tenant_id    uuid not null,
    user_id      uuid not null,
    address      text, -- of the client, when it was last refreshed
    user_agent   text,
    created_at   timestamptz not null default ledger_now(),
    refreshed_at timestamptz not null default ledger_now(),
    expires_at   timestamptz not null,
    ended_at     timestamptz,
    constraint sessions_tenant_key unique (tenant_id, id),
    constraint sessions_member foreign key (tenant_id, user_id) references memberships (tenant_id, user_id)
        on delete cascade
);
create index sessions_open on sessions (user_id, id) where ended_at is null;
create index sessions_member on sessions (tenant_id, user_id); -- for the cascade
create index sessions_expiry on sessions (expires_at);
create index sessions_end on sessions (ended_at) where ended_at is not null;
call isolate_tenant('sessions');
create policy identity on sessions to millwork_identity using (true);
grant select, update on sessions to millwork_tenant;
grant select, insert, update on sessions to millwork_identity;
grant select, delete on sessions to millwork_system;

insert into sessions (id, tenant_id, user_id, created_at, refreshed_at, expires_at, ended_at)
select family_id, tenant_id, user_id, min(created_at), max(created_at), max(expires_at),
       case when bool_or(spent_at is null and revoked_at is null) then null else ledger_now() end
  from refresh_tokens group by family_id, tenant_id, user_id;

alter table refresh_tokens rename column family_id to session_id;
alter index refresh_tokens_family rename to refresh_tokens_session;
alter table refresh_tokens
    drop column revoked_at,
    add column salt bytea, -- what the next token was derived with, until that one is spent
    add constraint refresh_tokens_in_session foreign key (tenant_id, session_id) references sessions (tenant_id, id)
        on delete cascade,
    drop constraint refresh_tokens_member;
