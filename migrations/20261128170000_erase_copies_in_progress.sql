-- A copy of somebody's data that is being written while they are erased is not made ready after it (decision 39). The rest is as it was.
create or replace function erase_member(of_user uuid) returns boolean
    language plpgsql security definer set search_path = public, pg_temp as $$
declare
    tenant  uuid := current_tenant();
    address text;
begin
    select lower(u.email) into address from users u join memberships m on m.user_id = u.id
     where m.tenant_id = tenant and u.id = of_user for update;
    if not found then
        return null;
    end if;
    perform set_config('app.erasing', 'on', true);
    delete from invitations i where i.tenant_id = tenant and (lower(i.email) = address or i.invited_by = of_user);
    delete from api_keys k where k.tenant_id = tenant and k.created_by = of_user;
    delete from alerts a where a.tenant_id = tenant and lower(a.email) = address and not a.event;
    update alerts a set email = null where a.tenant_id = tenant and lower(a.email) = address;
    -- Copies of their data that they, or somebody for them, asked for.
    update objects o set state = 'deleted', delete_after = ledger_now()
      from exports e
     where e.tenant_id = tenant and e.resource = 'personal_data' and e.filters ->> 'user_id' = of_user::text
       and o.tenant_id = e.tenant_id and o.id = e.object_id and o.state = 'stored';
    -- One that is being written has lost its object, and so cannot be made ready.
    update exports e set object_id = null
     where e.tenant_id = tenant and e.resource = 'personal_data' and e.filters ->> 'user_id' = of_user::text and e.ready_at is null;
    update exports e set notify = null where e.tenant_id = tenant and e.notify = of_user;
    delete from memberships m where m.tenant_id = tenant and m.user_id = of_user; -- and sessions and roles with it
    perform set_config('app.erasing', '', true);
    delete from users u where u.id = of_user and not exists (select from memberships m where m.user_id = of_user);
    return found;
end $$;
