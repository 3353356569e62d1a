-- First answers by Idempotency-Key to people and to staff, whose requests are no tenant's and hold passwords and tokens: kept
-- for a day like those of tenants (decision 0043). Everything of a request and its answer is sealed, the digest of the body too:
-- a digest of a password is soon guessed.
create table personal_answers (
    scope         text primary key, -- who, route and key by their digest, behind `person/`, `bearer/` or `staff/`
    sealed_answer bytea not null,
    created_at    timestamptz not null default ledger_now()
);
create index personal_answers_created on personal_answers (created_at);
alter table personal_answers enable row level security;
alter table personal_answers force row level security;
create policy identity on personal_answers to millwork_identity using (scope not like 'staff/%');
create policy staff on personal_answers to millwork_staff using (scope like 'staff/%');
create policy system on personal_answers to millwork_system using (true);
grant select, insert, update on personal_answers to millwork_identity, millwork_staff;
grant select, update, delete on personal_answers to millwork_system;
