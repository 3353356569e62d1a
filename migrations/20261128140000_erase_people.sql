-- Erasing a person (decision 39). What the deletions below would write down of what they delete is not: an entry of the audit
-- log that says what was erased would be kept for as long as the others.
-- The owner's functions alone can be: whoever comes by a door would hide what they change.
create function erasing() returns boolean language sql stable
    return coalesce(current_setting('app.erasing', true), '') = 'on'
       and current_user not in ('millwork_tenant', 'millwork_identity', 'millwork_system', 'millwork_staff');

create or replace function audit_record(tenant uuid, action text, resource_type text, resource_id text, before jsonb, after jsonb,
                                        by_user uuid default null) returns void language sql volatile
begin atomic
    insert into audit_logs (tenant_id, id, actor_type, actor_id, ip, user_agent, request_id, action, resource_type,
                            resource_id, before, after)
    select tenant, audit_id(),
           coalesce(o ->> 'actor_type',
                    case when by_user is not null then 'user' when o ? 'request_id' then 'anonymous' else 'system' end),
           coalesce((o ->> 'actor_id')::uuid, by_user), (o ->> 'ip')::inet, o ->> 'user_agent', o ->> 'request_id',
           audit_record.action, audit_record.resource_type, audit_record.resource_id,
           case when not erasing() then audit_record.before end, case when not erasing() then audit_record.after end
      from audit_origin() as o;
end;

-- What the tenant of this transaction keeps of a person, but for what is said to be kept; and the account with it, if no other
-- tenant has it. Answers whether the account went; null when the person is not of this tenant. Everything goes or nothing.
create function erase_member(of_user uuid) returns boolean
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
    update exports e set notify = null where e.tenant_id = tenant and e.notify = of_user;
    delete from memberships m where m.tenant_id = tenant and m.user_id = of_user; -- and sessions and roles with it
    perform set_config('app.erasing', '', true);
    delete from users u where u.id = of_user and not exists (select from memberships m where m.user_id = of_user);
    return found;
end $$;
revoke execute on function erase_member from public;
grant execute on function erase_member to millwork_tenant;

-- How a person signs in, for a copy of their own data.
create function linked_identities(of_user uuid) returns table (provider text, issuer text, subject text, email text, created_at timestamptz)
    language sql stable security definer set search_path = public, pg_temp
begin atomic
    select i.provider, i.issuer, i.subject, i.email, i.created_at
      from identities i join memberships m on m.user_id = i.user_id and m.tenant_id = current_tenant()
     where i.user_id = of_user;
end;
revoke execute on function linked_identities from public;
grant execute on function linked_identities to millwork_tenant;
