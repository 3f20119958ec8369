-- There is more than one log, each with partitions and heads of its own; a read model is made from one of them.
alter table projection.versions add column log text not null default 'events';
alter table projection.heads add column log text not null default 'events';
alter table projection.heads drop constraint heads_pkey, add primary key (log, partition);
