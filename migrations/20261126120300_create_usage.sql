-- What a tenant has used of its quotas (decision 27). Units are taken in lots by the processes that hand them out, so that a
-- busy tenant costs an update a second and not one a job; what a process did not use it gives back.
create table usage (
    tenant_id  uuid not null references tenants (id),
    metric     text not null,
    period     date not null, -- the first day of the month, UTC
    used       bigint not null default 0,
    noticed    smallint not null default 0, -- per cent of the quota that its owners were told of
    updated_at timestamptz not null default ledger_now(),
    primary key (tenant_id, metric, period),
    constraint usage_metric_check check (metric in ('jobs', 'events'))
) with (fillfactor = 50);
call isolate_tenant('usage');
grant select, insert, update on usage to millwork_tenant;
grant select, delete on usage to millwork_system;

create function usage_period() returns date language sql stable
    return date_trunc('month', ledger_now() at time zone 'utc')::date;

-- Takes up to `wanted` units of this month's quota, and gives `back` what was taken in `back_period` and not used. Near the
-- quota's end only `least` are given, so that the last units lie with no process that does not need them. Of two that ask
-- for the last one, one gets it: the row is locked. `told` is a share of the quota, in per cent, that was reached just now.
create function claim_usage(of_metric text, wanted bigint, least_wanted bigint, back bigint, back_period date, quota bigint,
                            out granted bigint, out used_now bigint, out this_period date, out told smallint)
    language plpgsql as $$
declare
    row_now usage;
    before  bigint;
begin
    this_period := usage_period();
    insert into usage (tenant_id, metric, period) values (current_tenant(), of_metric, this_period) on conflict do nothing;
    select * into strict row_now from usage
     where tenant_id = current_tenant() and metric = of_metric and period = this_period for update;
    before := greatest(row_now.used - case when back_period = this_period then back else 0 end, 0);
    granted := case when quota - before >= 2 * wanted then wanted
                    when quota - before >= least_wanted then least_wanted
                    else 0 end;
    used_now := before + granted;
    told := case when used_now >= quota then 100
                 when used_now * 10 >= quota * 8 then 80
                 else 0 end;
    told := case when told > row_now.noticed then told else 0 end;
    update usage set used = used_now, noticed = greatest(row_now.noticed, told), updated_at = ledger_now()
     where tenant_id = current_tenant() and metric = of_metric and period = this_period;
end $$;
