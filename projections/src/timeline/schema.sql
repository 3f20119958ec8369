-- Everything of a patient in clinical order: one row per resource, as it stands.
create table entries (
    id uuid not null,
    resource_type text not null,
    patient uuid not null,
    sequence bigint not null,
    -- Where it stands: the first moment of the clinical time, else when it was recorded.
    occurred_at timestamptz not null,
    -- The clinical time as it was stated; null if there is none.
    occurred jsonb,
    -- The resource type of what an observation is about, if that is not the patient.
    about text,
    recorded_at timestamptz not null,
    -- The last event's name, such as `Recorded`.
    event text not null,
    status text,
    system text,
    code text,
    -- Rules that the recorded history breaks.
    notes integer not null,
    -- Not entered in error: that is kept so that an older event can't bring it back, and stands in no timeline.
    listed boolean not null,
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
    sealed bytea not null,
    primary key (id, resource_type)
);

alter table entries alter column sealed set storage external;

-- Read in both directions.
create index entries_in_order on entries (patient, occurred_at, resource_type, id) where listed;
create index entries_of_patient on entries (patient);

-- Everything that happened to a patient in the order of the log: one row per event, for those who follow.
create table changes (
    partition integer not null,
    position bigint not null,
    patient uuid not null,
    id uuid not null,
    resource_type text not null,
    sequence bigint not null,
    -- As in entries.
    occurred_at timestamptz not null,
    occurred jsonb,
    about text,
    recorded_at timestamptz not null,
    event text not null,
    status text,
    system text,
    code text,
    -- As in entries.
    sensitivity smallint not null,
    qualifier text,
    medicine uuid,
    reasons jsonb not null,
    codes jsonb not null,
    sealed bytea not null,
    primary key (partition, position)
);

alter table changes alter column sealed set storage external;

create index changes_of_patient on changes (patient, position);

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

-- The same for changes.
create view shown_changes as
select changes.*,
    changes.codes || case when changes.medicine is null then '[]' else coalesce(named.codes, '["*"]') end
        || coalesce(lent.codes, '[]') as all_codes,
    greatest(changes.sensitivity, case when changes.medicine is null then 0 else coalesce(named.sensitivity, 2) end,
        lent.sensitivity)::smallint as level,
    named.sealed as medicine_name
from changes
left join medicines as named on named.medicine = changes.medicine
cross join lateral (
    select jsonb_agg(code) filter (where code is not null) as codes, max(coalesce(reason.sensitivity, 2)) as sensitivity
    from jsonb_array_elements_text(changes.reasons) as cited (id)
    left join entries as reason on reason.id = cited.id::uuid and reason.resource_type = 'Condition'
    left join lateral jsonb_array_elements(coalesce(reason.codes, '["*"]')) as code on true
) as lent;
