-- Retention by plan (decision 40). Partitions go by the longest; tenants of a plan with a shorter one lose their rows before,
-- page range by page range of each partition, once a partition is old enough. How far that is, is kept here.
create table retention_marks (
    parent text not null,
    plan   text not null,
    day    date not null default '-infinity', -- the last partition that is done
    page   bigint not null default 0,         -- of the next one
    primary key (parent, plan)
);
alter table retention_marks enable row level security;
alter table retention_marks force row level security;
create policy system on retention_marks to millwork_system using (true);
grant select, insert, update, delete on retention_marks to millwork_system;

-- Another plan may mean another retention: what was kept for the old one is looked at again.
create function forget_retention_marks() returns trigger language plpgsql
    security definer set search_path = public, pg_temp as $$
begin
    delete from retention_marks where plan = new.plan;
    return null;
end $$;
create trigger forget_retention_marks after update of plan on tenants for each row
    when (old.plan is distinct from new.plan) execute function forget_retention_marks();

-- Deletes rows of the plan's tenants from the next `pages` pages of the oldest partition of `parent` that lies before `cutoff` and
-- is not done: what drop_partitions would not keep. `done` when there is none. Whatever the partition's size, a call reads so many
-- pages and holds locks on so many rows at most.
create function expire_rows(parent text, of_plan text, cutoff timestamptz, pages integer,
                            out deleted bigint, out done boolean)
    language plpgsql security definer set search_path = public, pg_temp as $$
declare
    mark  retention_marks;
    child text;
    keep  text;
    most  bigint;
begin
    deleted := 0;
    if not parent = any (partitioned_tables()) then
        raise exception '% is not a partitioned table of the ledger', parent;
    end if;
    perform pg_advisory_xact_lock(hashtext('millwork.retention ' || parent || ' ' || of_plan));
    insert into retention_marks (parent, plan) values (expire_rows.parent, of_plan) on conflict do nothing;
    select * into strict mark from retention_marks m where m.parent = expire_rows.parent and m.plan = of_plan;
    select c.relname into child from pg_inherits i join pg_class c on c.oid = i.inhrelid
     where i.inhparent = to_regclass(parent) and c.relname ~ '_p\d{8}$'
       and to_date(right(c.relname, 8), 'YYYYMMDD') > mark.day
       and (to_date(right(c.relname, 8), 'YYYYMMDD') + 1)::timestamp at time zone 'utc' <= cutoff
     order by 1 limit 1;
    done := child is null;
    if done then
        return;
    end if;
    keep := case parent
        when 'events' then 'false'
        when 'job_outcomes' then format('c.finished_at >= %L', cutoff)
        else format('exists (select from job_live l where l.tenant_id = c.tenant_id and l.id = c.id)
                     or exists (select from job_outcomes o
                                 where o.tenant_id = c.tenant_id and o.id = c.id and o.finished_at >= %L)', cutoff)
    end;
    execute format('delete from %I c using tenants t
                     where c.ctid >= %L and c.ctid < %L and t.id = c.tenant_id and t.plan = %L and not (%s)',
                   child, format('(%s,0)', mark.page), format('(%s,0)', mark.page + pages), of_plan, keep);
    get diagnostics deleted = row_count;
    most := pg_relation_size(to_regclass(child)) / current_setting('block_size')::bigint;
    if mark.page + pages >= most then
        update retention_marks m set day = to_date(right(child, 8), 'YYYYMMDD'), page = 0
         where m.parent = expire_rows.parent and m.plan = of_plan;
    else
        update retention_marks m set page = mark.page + pages where m.parent = expire_rows.parent and m.plan = of_plan;
    end if;
end $$;
revoke execute on function expire_rows, forget_retention_marks from public;
grant execute on function expire_rows to millwork_system;
