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

-- Drops the partitions of `parent` whose whole day lies before `cutoff`. Rows of jobs that still live are kept: their
-- partition is rebuilt with them alone.
create function drop_partitions(parent text, cutoff timestamptz) returns integer
    language plpgsql security definer set search_path = public, pg_temp as $$
declare
    child   text;
    day     date;
    lo      uuid;
    hi      uuid;
    kept    bigint;
    total   bigint;
    dropped integer := 0;
begin
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
        execute format('select count(*), count(l.id) from %I c left join job_live l using (tenant_id, id)', child)
            into total, kept;
        continue when kept = total and total > 0; -- nothing but live rows is left in it
        if kept > 0 then
            execute format('create table %I (like %I including defaults)', child || '_kept', parent);
            execute format('insert into %I select c.* from %I c join job_live l using (tenant_id, id)',
                child || '_kept', child);
        end if;
        execute format('alter table %I detach partition %I', parent, child);
        execute format('drop table %I', child);
        if kept > 0 then
            execute format('alter table %I rename to %I', child || '_kept', child);
            execute format('alter table %I attach partition %I for values from (%L) to (%L)', parent, child, lo, hi);
        end if;
        dropped := dropped + 1;
    end loop;
    return dropped;
end $$;

revoke execute on function ensure_partitions, drop_partitions from public;
grant execute on function ensure_partitions, drop_partitions to millwork_system;

select ensure_partitions(7);
