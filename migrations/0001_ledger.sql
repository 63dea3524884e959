-- The ledger: who may do what, which credentials exist, their sealed copies, the leases, and the chained audit trail.

-- One row. `version` rises with every change to roles, identities and tokens: grants that a process read at an older
-- version are worth nothing. `revocations` rises with every revocation: see the table of that name.
create table policy (
  singleton boolean primary key default true check (singleton),
  version bigint not null default 1,
  revocations bigint not null default 0,
  leasing_halted boolean not null default false,
  leasing_halted_reason text
);
insert into policy default values;

create table workspaces (
  id uuid primary key,
  name text collate "C" not null unique,
  default_store text collate "C",
  created_at timestamptz not null default now()
);

create table roles (
  id uuid primary key,
  name text collate "C" not null unique,
  grants jsonb not null,
  created_at timestamptz not null default now()
);

-- A role's grants in the form that a statement judges by: actions spelled out, patterns as LIKE patterns.
-- No array means no limit; an empty one matches nothing.
create table role_grants (
  role_id uuid not null references roles on delete cascade,
  ordinal integer not null,
  actions text[] not null,
  workspaces text[] not null,
  connectors text[],
  credentials text[],
  labels jsonb,
  lease_ttl_seconds_max integer,
  primary key (role_id, ordinal)
);

create table identities (
  id uuid primary key,
  name text collate "C" not null unique,
  created_at timestamptz not null default now()
);

create table identity_roles (
  identity_id uuid not null references identities on delete cascade,
  role_id uuid not null references roles,
  primary key (identity_id, role_id)
);
create index on identity_roles (role_id);

create table tokens (
  id text collate "C" primary key,
  identity_id uuid not null references identities on delete cascade,
  digest bytea not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  last_used_at timestamptz
);
create index on tokens (identity_id);

-- The keys that some process knows or that some copy needs; never the keys themselves. Exactly one seals.
create table keys (
  id text collate "C" primary key,
  sealing boolean not null default false,
  created_at timestamptz not null default now()
);
create unique index on keys (sealing) where sealing;

create table processes (
  id uuid primary key,
  name text not null,
  key_ids text[] not null,
  started_at timestamptz not null default now(),
  seen_at timestamptz not null default now()
);

create table credentials (
  id uuid primary key,
  workspace_id uuid not null references workspaces,
  name text collate "C" not null,
  connector text collate "C" not null,
  kind text not null default 'stored' check (kind in ('stored', 'link')),
  store text collate "C" not null,
  version integer not null,
  state text not null default 'active' check (state in ('active', 'deleted')),
  labels jsonb not null default '{}',
  created_at timestamptz not null default now(),
  created_by text collate "C" not null,
  updated_at timestamptz not null default now(),
  expires_at timestamptz,
  purge_at timestamptz,
  deleted_at timestamptz,
  last_leased_at timestamptz
);
create unique index credentials_active on credentials (workspace_id, name) where state = 'active';
create index credentials_named on credentials (workspace_id, name, id);
create index credentials_purge_at on credentials (purge_at) where purge_at is not null;
create index credentials_deleted_at on credentials (deleted_at) where state = 'deleted';

create table versions (
  credential_id uuid not null references credentials on delete cascade,
  version integer not null,
  created_at timestamptz not null default now(),
  created_by text collate "C" not null,
  primary key (credential_id, version)
);

-- One stored value of one version in one store. A local copy carries its Fernet token, any other its ref. It outlives its
-- credential: a purged one is gone at once, its copies when the sweep has deleted them.
create table copies (
  id uuid primary key,
  credential_id uuid not null,
  version integer not null,
  store text collate "C" not null,
  ref text collate "C" unique,
  state text not null check (state in ('pending', 'current', 'kept', 'source', 'replaced', 'dropped')),
  key_id text collate "C" references keys,
  token text collate "C",
  named_at timestamptz not null default now(),
  dropped_at timestamptz,
  check ((key_id is null) = (token is null)),
  check (store <> 'local' or ref is null)
);
-- Fernet tokens do not compress, and most fit into the row.
alter table copies alter column token set storage external;
alter table copies set (toast_tuple_target = 4080);
create index copies_of_version on copies (credential_id, version);
create index copies_by_key on copies (key_id, id) where token is not null;
create index copies_ended on copies (named_at) where state in ('pending', 'replaced', 'dropped');

-- A lease is ended by a revocation whose counter is above the one that the lease's own statement read, so a lease that
-- was on its way while its token, identity, workspace or credential was revoked is never active.
create table revocations (
  scope text collate "C" primary key,
  counter bigint not null,
  revoked_at timestamptz not null default now()
);

-- Partitioned by id: a UUID v7 begins with its time. Names are written out because what they name may be gone.
create table leases (
  id uuid primary key,
  token_id text collate "C" not null,
  identity_id uuid not null,
  identity text collate "C" not null,
  workspace_id uuid not null,
  workspace text collate "C" not null,
  credential_id uuid not null,
  credential text collate "C" not null,
  connector text collate "C" not null,
  version integer not null,
  run_id text collate "C",
  reason text,
  revocations bigint not null,
  issued_at timestamptz not null,
  expires_at timestamptz not null,
  ttl_seconds integer not null,
  revoked_at timestamptz,
  failed_at timestamptz
) partition by range (id);
create table leases_default partition of leases default;
create index leases_by_identity on leases (identity_id, id);

-- A writer's own chain of events; it replaces the head only if it is the one that it saw last.
create table audit_streams (
  stream uuid primary key,
  sequence bigint not null default 0,
  hash bytea not null default '\x0000000000000000000000000000000000000000000000000000000000000000',
  named_sequence bigint not null default 0,
  opened_at timestamptz not null default now()
);
alter table audit_streams set (fillfactor = 10);
-- The root stream: here every other stream's opening is an event that names the heads known then.
insert into audit_streams (stream) values ('00000000-0000-0000-0000-000000000000');

create table audit_events (
  id uuid primary key,
  stream uuid not null,
  sequence bigint not null,
  recorded_at timestamptz not null,
  identity text collate "C",
  action text collate "C" not null,
  operation text collate "C" not null,
  outcome text not null check (outcome in ('allowed', 'refused', 'failed')),
  code text collate "C",
  workspace text collate "C",
  credential text collate "C",
  version integer,
  lease uuid,
  run_id text collate "C",
  reason text,
  address text,
  request_id text collate "C",
  mark text,
  detail text,
  hash bytea not null
) partition by range (id);
create table audit_events_default partition of audit_events default;
create index audit_events_in_stream on audit_events (stream, sequence);

-- The text that an event's hash is made over: a JSON array of all its columns, in their order, after the hash before it.
create function audit_canonical(
  id uuid, stream uuid, sequence bigint, recorded_at timestamptz, identity text, action text, operation text,
  outcome text, code text, workspace text, credential text, version integer, lease uuid, run_id text, reason text,
  address text, request_id text, mark text, detail text
) returns text language sql stable parallel safe as $$
  select json_build_array(
    id, stream, sequence, to_char(recorded_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), identity, action,
    operation, outcome, code, workspace, credential, version, lease, run_id, reason, address, request_id, mark, detail
  )::text
$$;

create function audit_link(state bytea, head bytea, canonical text) returns bytea language sql immutable parallel safe as $$
  select sha256(coalesce(state, head) || convert_to(canonical, 'UTF8'))
$$;

create aggregate audit_chain(head bytea, canonical text) (sfunc = audit_link, stype = bytea);

-- Whether each of a grant's label patterns matches.
create function labels_match(wanted jsonb, labels jsonb) returns boolean language sql immutable parallel safe as $$
  select not exists (
    select from jsonb_each_text(wanted) as w where not coalesce(labels ->> w.key like w.value, false))
$$;

-- Whether one row of role_grants covers a credential. The same rule as `covers` in src/core/grants.ts; a test compares
-- them. It has no sub-select, so that PostgreSQL inlines it.
create function grant_covers(
  workspaces text[], connectors text[], credentials text[], grant_labels jsonb,
  workspace text, connector text, credential text, labels jsonb
) returns boolean language sql immutable parallel safe as $$
  select workspace like any (workspaces)
    and (connectors is null or connector like any (connectors))
    and (credentials is null or credential like any (credentials))
    and (grant_labels is null or labels_match(grant_labels, labels))
$$;
