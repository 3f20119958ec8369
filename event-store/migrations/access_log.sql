-- What is different about the access log, after the migrations of the log have run in its schema. Run every time: each
-- statement may be repeated.

-- The functions were made for the schema `public`.
do $$
declare found_one record;
begin
    for found_one in
        select p.oid::regprocedure as signature from pg_proc p
        where p.pronamespace = 'access'::regnamespace
            and exists (select from unnest(p.proconfig) as setting where setting like 'search_path=%')
    loop
        execute format('alter function %s set search_path = access, pg_temp', found_one.signature);
    end loop;
end $$;

-- Both doors append, and see what appending takes: where the log stands. What is in it they can't read.
revoke all on all tables in schema access from nexus_command, nexus_query;
grant usage on schema access to nexus_command, nexus_query, nexus_relay, nexus_projector;
grant select on settings, heads, restored, relay_progress to nexus_command, nexus_query;
grant execute on function append_batch, settle_claims to nexus_command, nexus_query;

-- An append of this log is one command with one event, always: one plan serves all, and planning anew would cost more than
-- the work. It is made while the tables are small, so it is told not to rely on that.
alter function append_batch set plan_cache_mode = force_generic_plan;
alter function append_batch set enable_seqscan = off;
alter function append_batch set enable_hashjoin = off;
alter function append_batch set enable_mergejoin = off;
