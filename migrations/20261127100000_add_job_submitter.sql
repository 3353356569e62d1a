-- Who asked for a job, a person or an API key: they may cancel it and run it again (decision 0028). No key to either: jobs
-- outlive them.
alter table jobs add column submitted_by uuid;
