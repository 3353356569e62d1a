-- A person's tokens are counted before another is sent, and spent together.
create index one_time_tokens_user on one_time_tokens (user_id, purpose, created_at);
