-- Roles that a tenant makes for itself, beside those that every tenant has (decision 0028).
create table roles (
    id          uuid primary key,
    tenant_id   uuid not null references tenants (id),
    name        text not null,
    description text not null default '',
    permissions text[] not null,
    created_at  timestamptz not null default ledger_now(),
    version     integer not null default 1,
    constraint roles_tenant_key unique (tenant_id, id)
);
create unique index roles_name_key on roles (tenant_id, lower(name));
call isolate_tenant('roles');
create policy identity on roles for select to millwork_identity using (true);
grant select, insert, update, delete on roles to millwork_tenant;
grant select on roles to millwork_identity;
call audit_table('roles', 'role', 'id', '{}', '{}');

-- A member has one of the roles that every tenant has (memberships.role), or none, and any of the tenant's own.
create table member_roles (
    tenant_id uuid not null,
    user_id   uuid not null,
    role_id   uuid not null,
    primary key (tenant_id, user_id, role_id),
    constraint member_roles_member foreign key (tenant_id, user_id) references memberships (tenant_id, user_id)
        on delete cascade,
    constraint member_roles_role foreign key (tenant_id, role_id) references roles (tenant_id, id)
);
create index member_roles_role on member_roles (tenant_id, role_id);
call isolate_tenant('member_roles');
create policy identity on member_roles to millwork_identity using (true);
grant select, insert, delete on member_roles to millwork_tenant;
grant select, insert on member_roles to millwork_identity;
call audit_table('member_roles', 'member_role', 'user_id', '{}', '{}');

alter table memberships
    alter column role drop not null,
    add column name text, -- what the tenant calls them, if not as they call themselves
    add column deactivated_at timestamptz;
-- To lock: who signs in holds the membership against whoever deactivates it.
grant update (version) on memberships to millwork_identity;
-- To lock, likewise: members are counted, and owners, one change at a time.
grant update (version) on tenants to millwork_identity;
-- Keys go with the member who made them, unless they were handed over before.
grant delete on api_keys to millwork_tenant;
create index api_keys_maker on api_keys (tenant_id, created_by);
