-- A fourth door: the platform's staff, who see every tenant and no tenant's secrets (decision 0033). What it reaches is
-- said beside each table, here for those that are there already.
do $$
begin
    begin
        create role millwork_staff nologin;
    exception when duplicate_object or unique_violation then null;
    end;
    if not pg_has_role(current_user, 'millwork_staff', 'usage') then
        grant millwork_staff to current_user;
    end if;
    grant usage on schema public to millwork_staff;
end $$;

-- What staff may do about a tenant. Its own door may change its row, but none of this.
alter table tenants
    add column suspended_at      timestamptz,
    add column suspension_reason text;
create policy staff on tenants to millwork_staff using (true);
grant select on tenants to millwork_staff;
grant update (plan, suspended_at, suspension_reason, version) on tenants to millwork_staff;
create function keep_suspension() returns trigger language plpgsql as $$
begin
    if current_user = 'millwork_tenant' then
        raise exception 'a tenant does not lift its suspension';
    end if;
    return new;
end $$;
create trigger keep_suspension before update on tenants for each row
    when ((old.suspended_at, old.suspension_reason) is distinct from (new.suspended_at, new.suspension_reason))
    execute function keep_suspension();

create policy staff on users to millwork_staff using (true);
grant select (id, email, name, verified_at, deactivated_at, created_at, version) on users to millwork_staff;
grant update (deactivated_at, version) on users to millwork_staff;
create index users_deactivated on users (id) where deactivated_at is not null;
create policy staff on memberships to millwork_staff using (true);
grant select on memberships to millwork_staff;
create policy staff on sessions to millwork_staff using (true);
grant select (id, tenant_id, user_id, ended_at), update (ended_at) on sessions to millwork_staff;
create policy staff on usage to millwork_staff using (true);
grant select on usage to millwork_staff;
create policy staff on queue_depths to millwork_staff using (true);
grant select on queue_depths to millwork_staff;

-- While a tenant is suspended its queues are paused, those apart that it has paused itself.
alter table queue_pauses add column by_suspension boolean not null default false;
create policy staff on queue_pauses to millwork_staff using (true);
grant select, insert, delete on queue_pauses to millwork_staff;

create policy staff on audit_logs to millwork_staff using (true);
grant select on audit_logs to millwork_staff;
grant insert (tenant_id, id, actor_type, actor_id, ip, user_agent, request_id, action, resource_type, resource_id, before,
              after)
    on audit_logs to millwork_staff;
-- The feed over all tenants.
create index audit_logs_feed on audit_logs (id);
create index audit_logs_by_staff on audit_logs (id) where actor_type = 'staff';
