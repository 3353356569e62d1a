-- What a tenant pays for: how long its audit entries are kept, how much it may ask for. The platform's staff sets it.
alter table tenants add column plan text not null default 'starter'
    constraint tenants_plan_check check (plan in ('starter', 'pro', 'enterprise'));
grant update (plan) on tenants to millwork_system;

-- The tenant's own door may change the row, but not this.
create function keep_plan() returns trigger language plpgsql as $$
begin
    if current_user = 'millwork_tenant' then
        raise exception 'a tenant does not choose its plan';
    end if;
    return new;
end $$;
create trigger keep_plan before update on tenants for each row when (old.plan is distinct from new.plan)
    execute function keep_plan();
