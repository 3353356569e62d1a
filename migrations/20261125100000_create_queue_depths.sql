-- How many jobs live in each queue, over all tenants: counted by the leading scheduler at a bounded pace, so that a
-- scrape of any process reads one row a queue and counts nothing (decision 0015). Never more rows than queues.
create table queue_depths (
    queue         text primary key,
    queued        bigint not null, -- due, and may be taken
    paused        bigint not null, -- due, and held back by its tenant's pause
    scheduled     bigint not null,
    retrying      bigint not null,
    running       bigint not null,
    oldest_due_at timestamptz, -- since when the longest waiting of the queued jobs waits
    workers       bigint not null, -- live worker processes that serve it
    counted_at    timestamptz not null
);
alter table queue_depths enable row level security;
alter table queue_depths force row level security;
create policy system on queue_depths to millwork_system using (true); -- and no tenant: it tells of the others
grant select, insert, update on queue_depths to millwork_system;
