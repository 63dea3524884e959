-- Key rotations: which key every sealed copy is being moved onto, how far that is, and what could not be moved.

create table rotations (
  id uuid primary key,
  to_key text collate "C" not null references keys,
  state text not null check (state in ('running', 'done', 'failed', 'cancelled')),
  total bigint not null,
  moved bigint not null default 0,
  skipped bigint not null default 0,
  failed bigint not null default 0,
  started_at timestamptz not null default now(),
  started_by text collate "C" not null,
  finished_at timestamptz
);
create unique index rotations_running on rotations ((true)) where state = 'running';

create table rotation_failures (
  rotation_id uuid not null references rotations on delete cascade,
  copy_id uuid not null,
  workspace text collate "C" not null,
  credential text collate "C" not null,
  version integer not null,
  code text collate "C" not null,
  failed_at timestamptz not null default now(),
  primary key (rotation_id, copy_id)
);
