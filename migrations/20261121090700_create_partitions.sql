-- Partitions by day. Made ahead of time, dropped behind it, both by the scheduler through these functions, which run as
-- the tables' owner. A row whose day has no partition (a clock that is far off) waits in the default one.
create function partitioned_tables() returns text[] language sql immutable
    return array ['jobs', 'job_outcomes', 'job_attempts', 'events', 'webhook_deliveries'];

create function ensure_partitions(days_ahead integer) returns integer
    language plpgsql security definer set search_path = public, pg_temp as $$
declare
    parent text;
    day    date;
    child  text;
    lo     uuid;
    hi     uuid;
    made   integer := 0;
begin
    perform pg_advisory_xact_lock(hashtext('millwork.partitions'));
    foreach parent in array partitioned_tables() loop
        for n in -1 .. days_ahead loop
            day := (ledger_now() at time zone 'utc')::date + n;
            child := format('%s_p%s', parent, to_char(day, 'YYYYMMDD'));
            continue when to_regclass(child) is not null;
            lo := uuid_floor(day::timestamp at time zone 'utc');
            hi := uuid_floor((day + 1)::timestamp at time zone 'utc');
            execute format('create table %I (like %I including defaults)', child, parent);
            execute format('with early as (delete from %I where id >= %L and id < %L returning *)
                            insert into %I select * from early', parent || '_default', lo, hi, child);
            execute format('alter table %I attach partition %I for values from (%L) to (%L)', parent, child, lo, hi);
            made := made + 1;
        end loop;
    end loop;
    return made;
end $$;

-- Drops the partitions of `parent` whose whole day lies before `cutoff`. What still lives, or ended after `cutoff`, is
-- kept: its partition is rebuilt with that alone. The default partition loses its old rows the plain way.
create function drop_partitions(parent text, cutoff timestamptz) returns integer
    language plpgsql security definer set search_path = public, pg_temp as $$
declare
    child   text;
    day     date;
    lo      uuid;
    hi      uuid;
    keep    text;
    kept    bigint;
    total   bigint;
    dropped integer := 0;
begin
    keep := case parent
        when 'events' then 'false'
        when 'job_outcomes' then format('c.finished_at >= %L', cutoff)
        else format('exists (select from job_live l where l.tenant_id = c.tenant_id and l.id = c.id)
                     or exists (select from job_outcomes o
                                 where o.tenant_id = c.tenant_id and o.id = c.id and o.finished_at >= %L)', cutoff)
    end;
    if not parent = any (partitioned_tables()) then
        raise exception '% is not a partitioned table of the ledger', parent;
    end if;
    perform pg_advisory_xact_lock(hashtext('millwork.partitions'));
    set local lock_timeout = '2s'; -- rather later than a queue of waiting writers
    for child in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
         where i.inhparent = to_regclass(parent) and c.relname ~ '_p\d{8}$' order by 1
    loop
        day := to_date(right(child, 8), 'YYYYMMDD');
        exit when (day + 1)::timestamp at time zone 'utc' > cutoff;
        lo := uuid_floor(day::timestamp at time zone 'utc');
        hi := uuid_floor((day + 1)::timestamp at time zone 'utc');
        execute format('select count(*), count(*) filter (where %s) from %I c', keep, child) into total, kept;
        continue when kept = total and total > 0; -- nothing else is left in it
        if kept > 0 then
            execute format('create table %I (like %I including defaults)', child || '_kept', parent);
            execute format('insert into %I select * from %I c where %s', child || '_kept', child, keep);
        end if;
        execute format('alter table %I detach partition %I', parent, child);
        execute format('drop table %I', child);
        if kept > 0 then
            execute format('alter table %I rename to %I', child || '_kept', child);
            execute format('alter table %I attach partition %I for values from (%L) to (%L)', parent, child, lo, hi);
        end if;
        dropped := dropped + 1;
    end loop;
    execute format('delete from %I c where c.id < %L and not (%s)', parent || '_default', uuid_floor(cutoff), keep);
    return dropped;
end $$;

revoke execute on function ensure_partitions, drop_partitions from public;
grant execute on function ensure_partitions, drop_partitions to millwork_system;

select ensure_partitions(7);
