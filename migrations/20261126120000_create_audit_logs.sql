-- Who changed what (decision 0022). Entries are only ever added, by the triggers of the next migration and by explicit calls;
-- their place in the tenant's chain is given later, once, when a batch of them is sealed.
create table audit_logs (
    tenant_id     uuid not null, -- no key to tenants: entries outlive what they speak of
    id            uuid not null, -- UUIDv7: when it happened
    actor_type    text not null, -- user, api_key, job, anonymous, system
    actor_id      uuid,
    ip            inet,
    user_agent    text,
    request_id    text,
    action        text not null, -- webhook.updated
    resource_type text not null,
    resource_id   text,
    before        jsonb, -- with secrets masked
    after         jsonb,
    -- Null until it is sealed.
    seq           bigint, -- its place in the tenant's chain, from 1, without gaps
    sealed_at     timestamptz,
    prev_hash     bytea,
    hash          bytea, -- SHA-256 over prev_hash, seq, sealed_at and audit_text()
    primary key (tenant_id, id)
) partition by range (id);
create table audit_logs_default partition of audit_logs default;
create index audit_logs_unsealed on audit_logs (id) where seq is null;
create index audit_logs_chain on audit_logs (tenant_id, seq);
create index audit_logs_resource on audit_logs (tenant_id, resource_id, id);
create index audit_logs_actor on audit_logs (tenant_id, actor_id, id);
call isolate_tenant('audit_logs');
create policy identity on audit_logs for insert to millwork_identity with check (true);
-- Nobody may update or delete, and nobody but seal_audit() gives places.
grant insert (tenant_id, id, actor_type, actor_id, ip, user_agent, request_id, action, resource_type, resource_id, before, after)
    on audit_logs to millwork_tenant, millwork_identity, millwork_system;
grant select on audit_logs to millwork_tenant, millwork_system;

-- The owner too is stopped: what changes an entry must first change the schema.
create function keep_audit() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' and old.seq is null and new.seq is not null
       and (to_jsonb(old) - '{seq,sealed_at,prev_hash,hash}'::text[]) = (to_jsonb(new) - '{seq,sealed_at,prev_hash,hash}'::text[]) then
        return new;
    end if;
    if tg_op = 'DELETE' and current_setting('app.audit_partitions', true) = 'on' then
        return old; -- on its way into a partition of its own
    end if;
    raise exception 'audit entries are only ever added';
end $$;
create trigger keep before update or delete on audit_logs for each row execute function keep_audit();
create trigger keep_all before truncate on audit_logs for each statement execute function keep_audit();
create trigger keep_all before truncate on audit_logs_default for each statement execute function keep_audit();

-- The end of each tenant's chain, and where it begins since retention took what was before. `sealed` says the same under
-- MASTER_KEYS, so that who can write to the database alone cannot make up another end.
create table audit_chains (
    tenant_id  uuid primary key,
    seq        bigint not null,
    sealed     bytea not null,
    updated_at timestamptz not null default ledger_now()
);
alter table audit_chains enable row level security;
alter table audit_chains force row level security;
create policy system on audit_chains to millwork_system using (true);
grant select, insert, update on audit_chains to millwork_system;

-- What of an entry is hashed.
create function audit_text(e audit_logs) returns text language sql stable
    return jsonb_build_array(e.tenant_id, e.id, e.actor_type, e.actor_id, host(e.ip), e.user_agent, e.request_id, e.action,
                             e.resource_type, e.resource_id, e.before, e.after)::text;

-- Gives entries their places. Answers how many had none before.
create function seal_audit(tenant uuid, ids uuid[], seqs bigint[], prev_hashes bytea[], hashes bytea[], at timestamptz)
    returns bigint language plpgsql security definer set search_path = public, pg_temp as $$
declare
    sealed bigint;
begin
    update audit_logs a set seq = u.seq, sealed_at = at, prev_hash = u.prev_hash, hash = u.hash
      from unnest(ids, seqs, prev_hashes, hashes) as u(id, seq, prev_hash, hash)
     where a.tenant_id = tenant and a.id = u.id and a.seq is null;
    get diagnostics sealed = row_count;
    return sealed;
end $$;

-- Whatever else is partitioned is rolled by the day.
create or replace function partitioned_tables() returns text[] language sql stable
    return array (select c.relname::text from pg_class c
                   where c.relkind = 'p' and c.relnamespace = 'public'::regnamespace and c.relname <> 'audit_logs'
                   order by c.relname);

-- Partitions by month. A row whose month has none waits in the default one.
create function ensure_audit_partitions(months_ahead integer) returns integer
    language plpgsql security definer set search_path = public, pg_temp as $$
declare
    month date;
    child text;
    lo    uuid;
    hi    uuid;
    made  integer := 0;
begin
    perform pg_advisory_xact_lock(hashtext('millwork.audit_partitions'));
    set local app.audit_partitions = 'on';
    for n in 0 .. months_ahead loop
        month := (date_trunc('month', ledger_now() at time zone 'utc') + n * interval '1 month')::date;
        child := format('audit_logs_m%s', to_char(month, 'YYYYMM'));
        continue when to_regclass(child) is not null;
        lo := uuid_floor(month::timestamp at time zone 'utc');
        hi := uuid_floor((month + interval '1 month')::timestamp at time zone 'utc');
        execute format('create table %I (like audit_logs including defaults)', child);
        execute format('with early as (delete from audit_logs_default where id >= %L and id < %L returning *)
                        insert into %I select * from early', lo, hi, child);
        execute format('alter table audit_logs attach partition %I for values from (%L) to (%L)', child, lo, hi);
        execute format('create trigger keep_all before truncate on %I for each statement execute function keep_audit()', child);
        made := made + 1;
    end loop;
    set local app.audit_partitions = 'off';
    return made;
end $$;

-- Drops a partition but for the entries of `keep`; those move into one that takes its place. Retention is the tenant's
-- plan's, so that a month leaves for some tenants and stays for others.
create function drop_audit_partition(child text, keep uuid[]) returns void
    language plpgsql security definer set search_path = public, pg_temp as $$
declare
    month date;
    lo    uuid;
    hi    uuid;
begin
    if child !~ '^audit_logs_m\d{6}$' or to_regclass(child) is null then
        raise exception '% is no partition of audit_logs', child;
    end if;
    perform pg_advisory_xact_lock(hashtext('millwork.audit_partitions'));
    set local lock_timeout = '2s';
    month := to_date(right(child, 6), 'YYYYMM');
    lo := uuid_floor(month::timestamp at time zone 'utc');
    hi := uuid_floor((month + interval '1 month')::timestamp at time zone 'utc');
    if cardinality(keep) > 0 then
        execute format('create table %I (like audit_logs including defaults)', child || '_kept');
        execute format('insert into %I select * from %I where tenant_id = any ($1)', child || '_kept', child) using keep;
    end if;
    execute format('alter table audit_logs detach partition %I', child);
    execute format('drop table %I', child);
    if cardinality(keep) > 0 then
        execute format('alter table %I rename to %I', child || '_kept', child);
        execute format('alter table audit_logs attach partition %I for values from (%L) to (%L)', child, lo, hi);
        execute format('create trigger keep_all before truncate on %I for each statement execute function keep_audit()', child);
    end if;
end $$;

revoke execute on function seal_audit, ensure_audit_partitions, drop_audit_partition from public;
grant execute on function seal_audit, ensure_audit_partitions, drop_audit_partition to millwork_system;

select ensure_audit_partitions(2);
