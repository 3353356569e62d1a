-- Worker processes. A worker's lease covers everything it runs: one small update every few seconds, whatever its load.
create table workers (
    id           uuid primary key,
    host         text not null,
    version      text not null,
    queues       text[] not null,
    concurrency  integer not null,
    running      integer not null default 0,
    started_at   timestamptz not null default ledger_now(),
    heartbeat_at timestamptz not null default ledger_now(),
    lease_until  timestamptz not null,
    stopped_at   timestamptz, -- said goodbye
    lost_at      timestamptz, -- was given up; its jobs were taken back
    reaped_at    timestamptz  -- looked at once more, when no claim of it can still be under way
);
create index workers_alive on workers (lease_until) where stopped_at is null and reaped_at is null;
alter table workers enable row level security;
alter table workers force row level security;
create policy tenant on workers for select to millwork_tenant using (true);
create policy system on workers to millwork_system using (true);
grant select on workers to millwork_tenant;
grant select, insert, update, delete on workers to millwork_system;
