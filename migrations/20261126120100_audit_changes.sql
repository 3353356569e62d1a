-- Triggers that write audit entries. Not on jobs, events and deliveries: those are their own history, and a row a job is
-- what the hot path cannot pay.

-- UUIDv7 of this moment, in order within a session.
create function audit_id() returns uuid language plpgsql volatile as $$
declare
    -- The ledger's clock stands still within a transaction; entries of one transaction must keep their order.
    micros bigint := (extract(epoch from ledger_now() + (clock_timestamp() - now())) * 1000000)::bigint;
    bytes  bytea := uuid_send(gen_random_uuid());
    part   integer := (micros % 1000) * 4096 / 1000;
begin
    bytes := overlay(bytes placing substring(int8send(micros / 1000) from 3) from 1 for 6);
    bytes := set_byte(bytes, 6, 112 | (part >> 8));
    return encode(set_byte(bytes, 7, part & 255), 'hex')::uuid;
end $$;

-- Who asked for this transaction: JSON in base64, so that nothing a client sends can end the setting's quotes.
create function audit_origin() returns jsonb language sql stable
    return coalesce(convert_from(decode(nullif(current_setting('app.origin', true), ''), 'base64'), 'utf8')::jsonb, '{}');

-- Adds an entry. `by_user` is who acts where the transaction does not say: who signs in, say.
create function audit_record(tenant uuid, action text, resource_type text, resource_id text, before jsonb, after jsonb,
                             by_user uuid default null) returns void language sql volatile
begin atomic
    insert into audit_logs (tenant_id, id, actor_type, actor_id, ip, user_agent, request_id, action, resource_type,
                            resource_id, before, after)
    select tenant, audit_id(),
           coalesce(o ->> 'actor_type',
                    case when by_user is not null then 'user' when o ? 'request_id' then 'anonymous' else 'system' end),
           coalesce((o ->> 'actor_id')::uuid, by_user), (o ->> 'ip')::inet, o ->> 'user_agent', o ->> 'request_id',
           audit_record.action, audit_record.resource_type, audit_record.resource_id, audit_record.before, audit_record.after
      from audit_origin() as o;
end;

-- A row as an entry shows it: secrets masked (null stays null), bookkeeping left out, long texts cut.
create function audit_image(row_image jsonb, masked text[], ignored text[]) returns jsonb language sql immutable
    return (select jsonb_object_agg(key, case
                       when value = 'null' then value
                       when key = any (masked) then '"[masked]"'
                       when jsonb_typeof(value) = 'string' and length(value #>> '{}') > 2000
                           then to_jsonb(left(value #>> '{}', 2000) || '…')
                       else value end)
              from jsonb_each(row_image) where key <> all (ignored));

-- Arguments: the resource's name, the column that names one, masked columns, columns that are bookkeeping.
create function audit_change() returns trigger language plpgsql as $$
declare
    resource text   := tg_argv[0];
    masked   text[] := tg_argv[2]::text[];
    ignored  text[] := tg_argv[3]::text[] || '{tenant_id,version,updated_at}'::text[];
    old_row  jsonb  := case when tg_op <> 'INSERT' then to_jsonb(old) end;
    new_row  jsonb  := case when tg_op <> 'DELETE' then to_jsonb(new) end;
    row_now  jsonb  := coalesce(new_row, old_row);
    deed     text   := case tg_op when 'INSERT' then 'created' when 'UPDATE' then 'updated' else 'deleted' end;
begin
    if tg_op = 'UPDATE' and old_row - ignored = new_row - ignored then
        return null;
    end if;
    if tg_op = 'UPDATE' then
        if old_row ->> 'deleted_at' is null and new_row ->> 'deleted_at' is not null then
            deed := 'deleted';
        elsif old_row ->> 'revoked_at' is null and new_row ->> 'revoked_at' is not null then
            deed := 'revoked';
        end if;
    end if;
    perform audit_record((row_now ->> case when tg_table_name = 'tenants' then 'id' else 'tenant_id' end)::uuid,
                         resource || '.' || deed, resource, row_now ->> tg_argv[1],
                         audit_image(old_row, masked, ignored),
                         -- that a secret changed is worth knowing, even if not from what to what
                         audit_image(new_row, masked, ignored)
                             || coalesce((select jsonb_object_agg(m, '[masked, changed]'::text) from unnest(masked) m
                                           where tg_op = 'UPDATE' and old_row -> m is distinct from new_row -> m
                                             and new_row ->> m is not null), '{}'));
    return null;
end $$;

-- Has every change of `tbl`'s rows written down. A migration that makes a tenant's table calls it, or a test asks why not.
create procedure audit_table(tbl regclass, resource text, id_column text, masked text[], ignored text[])
    language plpgsql as $$
begin
    execute format('create trigger audit after insert or update or delete on %s for each row
                        execute function audit_change(%L, %L, %L, %L)', tbl, resource, id_column, masked, ignored);
end $$;

call audit_table('tenants', 'tenant', 'id', '{}', '{}');
call audit_table('memberships', 'membership', 'user_id', '{}', '{}');
call audit_table('api_keys', 'api_key', 'id', '{secret_hash}', '{last_used_at}');
call audit_table('webhooks', 'webhook', 'id', '{sealed_secret,sealed_old_secret,sealed_headers}', '{}');
call audit_table('event_types', 'event_type', 'name', '{}', '{}');
call audit_table('schedules', 'schedule', 'id', '{payload}', '{next_run_at,last_run_at,last_job_id}');
call audit_table('alerts', 'alert', 'id', '{}',
                 '{mailed_at,unmailed,last_failure,events_since,events,suppressed,behind_since,checked_at}');
call audit_table('queue_pauses', 'queue_pause', 'queue', '{}', '{}');

-- A person belongs to no tenant alone: each of theirs is told. Joining one is the membership's entry.
create function audit_user() returns trigger language plpgsql as $$
declare
    masked  text[] := '{password_hash}';
    ignored text[] := '{version,updated_at}';
    before  jsonb  := to_jsonb(old);
    after   jsonb  := to_jsonb(new);
    tenant  uuid;
begin
    if before - ignored = after - ignored then
        return null;
    end if;
    for tenant in select tenant_id from memberships where user_id = new.id order by tenant_id loop
        perform audit_record(tenant, 'user.updated', 'user', new.id::text, audit_image(before, masked, ignored),
                             audit_image(after, masked, ignored)
                                 || case when old.password_hash <> new.password_hash
                                        then '{"password_hash": "[masked, changed]"}'::jsonb else '{}' end,
                             new.id);
    end loop;
    return null;
end $$;
create trigger audit after update on users for each row execute function audit_user();

-- Signing in and out.
create function audit_session() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' then
        perform audit_record(new.tenant_id, 'session.revoked', 'session', new.id::text, null, null, new.user_id);
    else
        perform audit_record(new.tenant_id, 'session.created', 'session', new.id::text, null,
                             jsonb_build_object('user_id', new.user_id, 'expires_at', new.expires_at), new.user_id);
    end if;
    return null;
end $$;
create trigger audit_created after insert on sessions for each row execute function audit_session();
create trigger audit_revoked after update on sessions for each row
    when (old.ended_at is null and new.ended_at is not null) execute function audit_session();

-- A second factor is a person's: each of their tenants is told.
create function audit_second_factor() returns trigger language plpgsql as $$
declare
    person uuid := coalesce(new.user_id, old.user_id);
    deed   text := case tg_op when 'DELETE' then 'second_factor.disabled' else 'second_factor.enabled' end;
    tenant uuid;
begin
    for tenant in select tenant_id from memberships where user_id = person order by tenant_id loop
        perform audit_record(tenant, deed, 'user', person::text, null, null, person);
    end loop;
    return null;
end $$;
create trigger audit_enabled after update on totp_factors for each row
    when (old.confirmed_at is null and new.confirmed_at is not null) execute function audit_second_factor();
create trigger audit_disabled after delete on totp_factors for each row
    when (old.confirmed_at is not null) execute function audit_second_factor();
