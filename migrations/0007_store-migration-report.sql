-- What a store migration reports for good: how many copies it has moved over and back, and for how long it did.

-- `running_since` is when it last began to run as it heads now; the time that it stood still is nowhere counted.
alter table store_migrations
  add column running_since timestamptz not null default now(),
  add column moved_over bigint not null default 0,
  add column moved_back bigint not null default 0,
  add column over_seconds double precision,
  add column back_seconds double precision;

-- Of those that were begun before nobody can tell for how long they ran: theirs stay null.
alter table store_migrations
  alter column over_seconds set default 0,
  alter column back_seconds set default 0;
update store_migrations set moved_over = moved;
