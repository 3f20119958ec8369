-- How many, never who. Members go by a keyed hash that no other table holds; of dates there is the year.
create table members (
    member bytea primary key,
    sequence bigint not null,
    -- Of whoever is over 89: 90 years before the last record or the death.
    birth_year integer,
    death_year integer,
    gender text,
    deceased boolean not null,
    -- Entered in error or replaced by another record: not a person to count.
    withdrawn boolean not null
);

create table member_conditions (
    condition bytea primary key,
    member bytea not null,
    sequence bigint not null,
    -- Pages go on by bytes, whatever the database's language.
    system text collate "C" not null,
    code text collate "C" not null,
    status text not null,
    -- Doubted, refuted, entered in error or not understood: not a condition to count.
    withdrawn boolean not null
);

create index member_conditions_by_code on member_conditions (system, code, member) where not withdrawn;
create index member_conditions_of_member on member_conditions (member);

-- Who does not want to be counted in research: one row for each consent of that scope.
create table member_exclusions (
    consent bytea primary key,
    member bytea not null,
    sequence bigint not null,
    -- Denied and active.
    excludes boolean not null
);

create index member_exclusions_of_member on member_exclusions (member) where excludes;

-- Everybody who counts, with the age band at this moment (of the dead, at death).
create view member_age_bands as
select member, gender, deceased,
    case
        when age is null then 'unknown'
        when age < 18 then '0-17'
        when age < 40 then '18-39'
        when age < 65 then '40-64'
        when age < 80 then '65-79'
        else '80+'
    end as age_band
from (
    select member, gender, deceased, coalesce(death_year, extract(year from now())::integer) - birth_year as age
    from members
    where not withdrawn
        and not exists (select from member_exclusions where member_exclusions.member = members.member and excludes)
) as aged;

-- For analysts who write SQL: counts of at least five people; smaller ones are left out. Nothing else in this schema is
-- meant for them. Subtracting one count from another can still single out a few: the API also guards against that.
create view patients_by_age_band as
select age_band, gender, count(*) as patients from member_age_bands group by age_band, gender having count(*) >= 5;

create view patients_by_condition as
select system, code, count(distinct member) as patients
from member_conditions join member_age_bands using (member)
where not withdrawn
group by system, code
having count(distinct member) >= 5;

create view patients_by_condition_and_age_band as
select system, code, age_band, count(distinct member) as patients
from member_conditions join member_age_bands using (member)
where not withdrawn
group by system, code, age_band
having count(distinct member) >= 5;

comment on view patients_by_age_band is 'Patients per age band and gender; counts below five are left out.';
comment on view patients_by_condition is 'Patients per condition code; counts below five are left out.';
comment on view patients_by_condition_and_age_band is
    'Patients per condition code and age band; counts below five are left out.';

-- The views above count with their owner's rights. Whoever comes to the tables themselves by a grant given in error finds
-- them empty: rows are for the projector that writes and the door that counts.
alter table members enable row level security;
alter table member_conditions enable row level security;
alter table member_exclusions enable row level security;
create policy members_written on members to nexus_projector using (true) with check (true);
create policy members_counted on members for select to nexus_query using (true);
create policy member_conditions_written on member_conditions to nexus_projector using (true) with check (true);
create policy member_exclusions_written on member_exclusions to nexus_projector using (true) with check (true);
create policy member_conditions_counted on member_conditions for select to nexus_query using (true);

do $$ begin
    execute format('grant usage on schema %I to nexus_analyst', current_schema());
end $$;
grant select on patients_by_age_band, patients_by_condition, patients_by_condition_and_age_band to nexus_analyst;
