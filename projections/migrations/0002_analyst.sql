-- Analysts who write SQL. They get the population's views and nothing else; the grants stand in that read model's schema.
do $$
begin
    if not exists (select from pg_roles where rolname = 'nexus_analyst') then
        begin
            create role nexus_analyst login;
            alter role nexus_analyst set default_transaction_read_only = on;
            alter role nexus_analyst set statement_timeout = '30s';
        exception when duplicate_object or unique_violation then
            null;
        end;
    end if;
end
$$;

-- Nobody finds anything, or puts anything, in a schema that is everybody's.
revoke all on schema public from public;
-- What a migration makes is nobody's until it is granted.
alter default privileges revoke execute on functions from public;
