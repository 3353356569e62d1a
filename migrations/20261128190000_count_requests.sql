-- Requests of tenants by the month, beside what they may use: counted by each process, written by all tenants at once.
alter table usage drop constraint usage_metric_check,
    add constraint usage_metric_check check (metric in ('jobs', 'events', 'requests'));
grant insert, update on usage to millwork_system;
