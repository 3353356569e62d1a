-- Who exists: tenants, people, and which people belong to which tenant in which role.
create table tenants (
    id                 uuid primary key,
    name               text not null,
    strict_event_types boolean not null default false, -- events of an unknown type are refused
    created_at         timestamptz not null default ledger_now(),
    version            integer not null default 1
);
-- The platform itself: the tenant of maintenance jobs. It has no members.
insert into tenants (id, name) values ('00000000-0000-7000-8000-000000000000', 'Millwork');

alter table tenants enable row level security;
alter table tenants force row level security;
create policy tenant on tenants to millwork_tenant using (id = current_tenant());
create policy identity on tenants to millwork_identity using (true);
create policy system on tenants to millwork_system using (true);
grant select, update on tenants to millwork_tenant;
grant select, insert on tenants to millwork_identity;
grant select on tenants to millwork_system;

create table users (
    id             uuid primary key,
    email          text not null,
    name           text not null,
    password_hash  text not null, -- argon2id, PHC string
    verified_at    timestamptz,   -- when the address was proven
    deactivated_at timestamptz,
    created_at     timestamptz not null default ledger_now(),
    version        integer not null default 1
);
create unique index users_email_key on users (lower(email));

create table memberships (
    tenant_id  uuid not null references tenants (id),
    user_id    uuid not null references users (id),
    role       text not null,
    created_at timestamptz not null default ledger_now(),
    version    integer not null default 1,
    primary key (tenant_id, user_id),
    constraint memberships_role_check check (role in ('owner', 'admin', 'developer', 'support', 'viewer'))
);
create index memberships_user on memberships (user_id);
call isolate_tenant('memberships');
create policy identity on memberships to millwork_identity using (true);
grant select, insert, update, delete on memberships to millwork_tenant;
grant select, insert on memberships to millwork_identity;
grant select on memberships to millwork_system;

-- A tenant sees the people who belong to it, and never their password hashes.
alter table users enable row level security;
alter table users force row level security;
create policy tenant on users to millwork_tenant
    using (exists (select from memberships m where m.tenant_id = current_tenant() and m.user_id = users.id));
create policy identity on users to millwork_identity using (true);
create policy system on users to millwork_system using (true);
grant select (id, email, name, verified_at, deactivated_at, created_at, version) on users to millwork_tenant;
grant select, insert, update on users to millwork_identity;
grant select (id, email, name, verified_at, deactivated_at, created_at) on users to millwork_system;
