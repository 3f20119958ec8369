-- What is behind the reason, from the outside in: words and codes of ours, SQLSTATEs, names of tables and constraints; never a
-- value of the event. Empty for those that only wait.
alter table projection.parked add column causes text[] not null default '{}';
