-- What a patient's chart is made of: one row per resource, in the section where a clinician looks for it.
create table entries (
    id uuid not null,
    resource_type text not null,
    patient uuid not null,
    section text not null,
    sequence bigint not null,
    status text,
    -- 0 current, 1 past or not (yet) so, 2 entered in error or not understood (kept so that an older event can't bring it
    -- back, never listed).
    standing smallint not null,
    system text,
    code text,
    -- Where it stands: the first moment of the clinical time, else when it was recorded.
    started_at timestamptz not null,
    -- The clinical time as it was stated; null if there is none.
    occurred jsonb,
    ended_at timestamptz,
    -- 0 normal, 1 restricted, 2 very restricted.
    sensitivity smallint not null,
    -- What a reader must be told besides the status, such as unconfirmed or not-understood.
    qualifier text,
    -- The Medication of the directory that it is about.
    medicine uuid,
    -- The conditions that it gets codes from, an array of ids.
    reasons jsonb not null,
    -- All the codes by which a consent may mean it, an array of strings.
    codes jsonb not null,
    -- Display, text, and what else the section shows.
    sealed bytea not null,
    primary key (id, resource_type)
);

alter table entries alter column sealed set storage external;

-- A section in the order in which it is read: current first, then the newest.
create index entries_of_section on entries (patient, section, standing, started_at desc, id) where standing < 2;

-- Who has a chart, entries or not.
create table patients (
    patient uuid primary key,
    sequence bigint not null
);

-- Medicines of the directory, which orders name by reference: what each is called (sealed), and by what consents and
-- labels may mean it.
create table medicines (
    medicine uuid primary key,
    sequence bigint not null,
    sensitivity smallint not null,
    codes jsonb not null,
    sealed bytea not null
);

-- Entries with what they get from others. What they refer to and is not there (yet) may be anything: any code (*), and the
-- highest level.
create view shown as
select entries.*,
    entries.codes || case when entries.medicine is null then '[]' else coalesce(named.codes, '["*"]') end
        || coalesce(lent.codes, '[]') as all_codes,
    greatest(entries.sensitivity, case when entries.medicine is null then 0 else coalesce(named.sensitivity, 2) end,
        lent.sensitivity)::smallint as level,
    named.sealed as medicine_name
from entries
left join medicines as named on named.medicine = entries.medicine
cross join lateral (
    select jsonb_agg(code) filter (where code is not null) as codes, max(coalesce(reason.sensitivity, 2)) as sensitivity
    from jsonb_array_elements_text(entries.reasons) as cited (id)
    left join entries as reason on reason.id = cited.id::uuid and reason.resource_type = 'Condition'
    left join lateral jsonb_array_elements(coalesce(reason.codes, '["*"]')) as code on true
) as lent;
