-- Instants are TEXT, RFC 3339 in UTC, so that they sort correctly. Ids are 16-byte BLOBs.

-- Key-value settings of the store, such as the hash of the planning policy in force.
CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE source (
    name              TEXT NOT NULL PRIMARY KEY,
    kind              TEXT NOT NULL,
    -- Fingerprint of the last good listing; an identical one is not read again.
    fingerprint       TEXT,
    last_sync_at      TEXT,
    last_good_sync_at TEXT,
    -- Tokens stored of the last complete listing or, after a partial one, tokens known to exist.
    tokens            INTEGER NOT NULL DEFAULT 0,
    -- Records in the last complete listing, with those that are not stored; 0 before the first.
    listed            INTEGER NOT NULL DEFAULT 0,
    error             TEXT,
    -- Consecutive failed attempts, and the time of the first.
    failures          INTEGER NOT NULL DEFAULT 0,
    failing_since     TEXT,
    -- The upstream asked to wait until then.
    deferred_until    TEXT,
    -- The longest life that the source allows, in seconds; NULL with evidence means unlimited.
    max_life          INTEGER,
    max_life_evidence TEXT,
    -- A JSON array: the columns that could mostly be read in the last good listing.
    readable_columns  TEXT,
    -- Its new name, once an operator has renamed it; the row then only reserves the old one.
    renamed_to        TEXT
) STRICT, WITHOUT ROWID;

-- Administrators of accounts, as reported by the sources.
CREATE TABLE source_admin (
    source  TEXT NOT NULL,
    -- In lower case, for comparison.
    account TEXT NOT NULL,
    address TEXT NOT NULL,
    PRIMARY KEY (source, account, address)
) STRICT, WITHOUT ROWID;

CREATE TABLE token (
    id            BLOB NOT NULL PRIMARY KEY,
    source        TEXT NOT NULL,
    external_id   TEXT NOT NULL,
    name          TEXT NOT NULL,
    description   TEXT,
    issuer        TEXT,
    -- The issuer's address in lower case, for comparison.
    issuer_key    TEXT,
    -- The addresses of the other owners, one a line.
    co_owners     TEXT,
    issuer_name   TEXT,
    -- Evidence that the issuer no longer exists at the source.
    issuer_gone   TEXT,
    account       TEXT,
    role          TEXT,
    scope         TEXT,
    created_at    TEXT,
    expiry        TEXT NOT NULL CHECK (expiry IN ('never', 'at', 'unknown')),
    expires_at    TEXT CHECK ((expires_at IS NOT NULL) = (expiry = 'at')),
    -- The date, if the source reports a plain date: expires_at is then its start or end in the source's time zone.
    expiry_day    TEXT CHECK (expiry_day IS NULL OR expiry = 'at'),
    expiry_origin TEXT CHECK (expiry_origin IN ('source', 'computed', 'policy')),
    -- Our policy set the expiry because the source reports none.
    expiry_unreported INTEGER NOT NULL DEFAULT 0,
    -- The number of the current secret; 1 if the source does not count secrets.
    secret_version INTEGER NOT NULL DEFAULT 1,
    -- 'expired' is only a mark; the status now follows from expires_at and the clock.
    status        TEXT NOT NULL CHECK (status IN ('active', 'expired', 'disabled', 'revoked', 'gone')),
    last_used_at  TEXT,
    -- Whether the source reports when the token was used.
    reports_use   INTEGER NOT NULL,
    first_seen_at TEXT NOT NULL,
    life_from     TEXT,
    -- The tightest step planned for the current expiry, in seconds.
    planned_step  INTEGER,
    due_at        TEXT,
    -- Since when it is missing in the complete listings of its source; NULL while it is listed.
    unlisted_since TEXT,
    -- When lapsed revoked it at its source; listings requested earlier do not show that yet.
    revoked_at    TEXT,
    -- When its source, if it wants that, is to be notified of the expiry.
    mark_expired_at TEXT,
    -- A JSON object: the columns whose present values at the source cannot be read, and why. The last known values
    -- are kept.
    unreadable    TEXT,
    -- When its findings must be evaluated.
    judge_at      TEXT,
    UNIQUE (source, external_id)
) STRICT;

-- Makes the cost of a sweep proportional to what is due.
CREATE INDEX token_due ON token (due_at, id) WHERE due_at IS NOT NULL;
CREATE INDEX token_issuer ON token (issuer_key) WHERE issuer_key IS NOT NULL;
CREATE INDEX token_judge ON token (judge_at) WHERE judge_at IS NOT NULL;
-- With the id, because many tokens may expire at the same midnight and a page must not read them all.
CREATE INDEX token_expires ON token (expires_at, id) WHERE expires_at IS NOT NULL;
-- Finds marks set while the clock was ahead.
CREATE INDEX token_expired ON token (expires_at) WHERE status = 'expired';
CREATE INDEX token_gone ON token (unlisted_since) WHERE status = 'gone';
-- For pages of tokens, the latest first.
CREATE INDEX token_created ON token (created_at, id);
CREATE INDEX token_account ON token (LOWER(account));
CREATE INDEX token_mark_expired ON token (source, mark_expired_at) WHERE mark_expired_at IS NOT NULL;

-- The other owners of `token.co_owners`, to find their tokens.
CREATE TABLE token_owner (
    token_id  BLOB NOT NULL,
    -- The address in lower case.
    owner_key TEXT NOT NULL,
    PRIMARY KEY (token_id, owner_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX token_owner_key ON token_owner (owner_key);

-- The notices that one sweep planned; a sweep that plans nothing leaves no row.
CREATE TABLE plan (
    id         BLOB NOT NULL PRIMARY KEY,
    created_at TEXT NOT NULL,
    -- 'open' while a sweep works on it; one found open later was left by a sweep that died.
    state      TEXT NOT NULL CHECK (state IN ('open', 'released', 'held', 'discarded')),
    mails      INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX plan_unsettled ON plan (state) WHERE state IN ('open', 'held');

CREATE TABLE mail (
    id            BLOB NOT NULL PRIMARY KEY,
    recipient     TEXT NOT NULL,
    recipient_key TEXT NOT NULL,
    -- open: still accepts notices; waiting: frozen, for its next attempt; claimed: leased by `holder`;
    -- sending: being sent; unknown: may have been accepted, will be sent again.
    state         TEXT NOT NULL CHECK (state IN
        ('open', 'waiting', 'claimed', 'sending', 'unknown', 'sent', 'failed', 'cancelled')),
    created_at    TEXT NOT NULL,
    next_at       TEXT NOT NULL,
    holder        BLOB,
    lease_until   TEXT,
    attempts      INTEGER NOT NULL DEFAULT 0,
    -- Attempts with an unknown outcome.
    unknowns      INTEGER NOT NULL DEFAULT 0,
    first_tried_at TEXT,
    sent_at       TEXT,
    -- The plan that last added notices; the mail cannot be claimed while this plan is open.
    plan_id       BLOB,
    reason        TEXT
) STRICT;
CREATE UNIQUE INDEX mail_open ON mail (recipient_key) WHERE state = 'open';
CREATE INDEX mail_next ON mail (next_at) WHERE state IN ('open', 'waiting', 'unknown');
CREATE INDEX mail_leased ON mail (lease_until) WHERE state IN ('claimed', 'sending');

-- Ledger and outbox in one. The id is a hash of the key (subject, generation, secret_version, topic,
-- step, channel, recipient), so the primary key prevents a second notice.
CREATE TABLE notice (
    id            BLOB NOT NULL PRIMARY KEY,
    token_id      BLOB,
    -- What it is about if not a token, or the name of a token that an operator removed.
    subject       TEXT,
    generation    TEXT NOT NULL,
    -- The secret whose expiry it is about; 1 for other topics.
    secret_version INTEGER NOT NULL DEFAULT 1,
    topic         TEXT NOT NULL,
    step          INTEGER,
    recipient     TEXT NOT NULL,
    recipient_key TEXT NOT NULL,
    basis         TEXT NOT NULL,
    send_at       TEXT NOT NULL,
    planned_at    TEXT NOT NULL,
    plan_id       BLOB,
    -- The mail that carries the notice; from then on it shares the state of the mail.
    mail_id       BLOB,
    -- One in the account is 'sent' once it is planned.
    state         TEXT NOT NULL CHECK (state IN ('planned', 'sent', 'cancelled', 'suppressed', 'failed')),
    -- Its plan waits for an operator.
    held          INTEGER NOT NULL DEFAULT 0 CHECK (state = 'planned' OR NOT held),
    reason        TEXT,
    channel       TEXT NOT NULL DEFAULT 'mail' CHECK (channel IN ('mail', 'account')),
    -- When its recipient read it in their account.
    read_at       TEXT,
    title         TEXT,
    detail        TEXT
) STRICT;
CREATE INDEX notice_open ON notice (send_at) WHERE state = 'planned' AND NOT held AND mail_id IS NULL;
CREATE INDEX notice_open_of ON notice (recipient_key, send_at) WHERE state = 'planned' AND NOT held AND mail_id IS NULL;
-- For listings, newest first.
CREATE INDEX notice_planned ON notice (planned_at);
CREATE INDEX notice_other ON notice (planned_at) WHERE token_id IS NULL OR subject IS NOT NULL;
CREATE INDEX notice_held ON notice (plan_id) WHERE held;
-- What a person finds in their account, newest first.
CREATE INDEX notice_account ON notice (recipient_key, planned_at) WHERE channel = 'account';
CREATE INDEX notice_token ON notice (token_id) WHERE token_id IS NOT NULL;
CREATE INDEX notice_mail ON notice (mail_id) WHERE mail_id IS NOT NULL;

-- Addresses that a mail server refused; one that accepts a mail is deleted.
CREATE TABLE address (
    key           TEXT NOT NULL PRIMARY KEY,
    domain        TEXT NOT NULL,
    -- The enhanced status code of the last refusal.
    code          TEXT NOT NULL,
    is_doubtful   INTEGER NOT NULL,
    reason        TEXT NOT NULL,
    refused_since TEXT NOT NULL,
    refused_at    TEXT NOT NULL,
    -- Passes of delivery with this code since `refused_since`.
    passes        INTEGER NOT NULL,
    -- When the refusals sufficed to take the address for dead.
    dead_since    TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE directory (
    name              TEXT NOT NULL PRIMARY KEY,
    kind              TEXT NOT NULL,
    last_sync_at      TEXT,
    last_good_sync_at TEXT,
    error             TEXT,
    -- Consecutive failed attempts, and the time of the first.
    failures          INTEGER NOT NULL DEFAULT 0,
    failing_since     TEXT,
    -- The upstream asked to wait until then.
    deferred_until    TEXT,
    -- People in the last complete listing.
    people            INTEGER NOT NULL DEFAULT 0,
    -- The allowed groups with their numbers of people, as JSON.
    groups            TEXT,
    -- Where the next incremental listing continues, and the query for which that holds.
    cursor            TEXT,
    query_digest      TEXT,
    -- Why people may be missing from the last listing, though it counts.
    gaps              TEXT,
    -- Why and since when changes wait for an operator, their fingerprint, and the decision on them.
    held              TEXT,
    held_at           TEXT,
    held_changes      TEXT,
    decision          TEXT CHECK (decision IN ('released', 'rejected'))
) STRICT, WITHOUT ROWID;

CREATE TABLE identity (
    directory   TEXT NOT NULL,
    -- The address by which tokens name the person, in lower case, for comparison.
    email_key   TEXT NOT NULL,
    email       TEXT NOT NULL,
    -- The account that the person was matched to for good, if the directory has ids.
    account_id  TEXT,
    -- Whether an operator named this account.
    account_chosen INTEGER NOT NULL DEFAULT 0,
    name        TEXT,
    status      TEXT NOT NULL CHECK (status IN ('active', 'disabled', 'deleted', 'out_of_group', 'unknown')),
    -- The last clear status; it differs from the status while that is unknown.
    known_status TEXT NOT NULL CHECK (known_status IN ('active', 'disabled', 'deleted', 'out_of_group', 'unknown')),
    reason      TEXT,
    evidence    TEXT NOT NULL,
    -- Whether a lookup of the account by its id gave or confirmed the evidence.
    checked_by_id INTEGER NOT NULL DEFAULT 0,
    since       TEXT,
    -- When the directory first gave this evidence; NULL if it has not reported anything yet.
    observed_at TEXT,
    -- A loss that awaits confirmation, or that an operator rejected.
    candidate   TEXT CHECK (candidate IN ('disabled', 'deleted', 'out_of_group')),
    candidate_since TEXT,
    candidate_evidence TEXT,
    PRIMARY KEY (directory, email_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX identity_lost ON identity (email_key) WHERE status IN ('disabled', 'deleted', 'out_of_group');
-- For the status of one person at all directories.
CREATE INDEX identity_email ON identity (email_key);

CREATE TABLE finding (
    id          BLOB NOT NULL PRIMARY KEY,
    -- NULL for a finding about the source.
    token_id    BLOB,
    source      TEXT NOT NULL,
    kind        TEXT NOT NULL,
    severity    TEXT NOT NULL,
    since       TEXT NOT NULL,
    evidence    TEXT NOT NULL,
    -- The directory that reports the loss of access; NULL for other kinds.
    directory   TEXT,
    -- 'acknowledged' counts as open again after acknowledged_until, swept or not.
    state       TEXT NOT NULL CHECK (state IN ('open', 'acknowledged', 'resolved')),
    acknowledged_until TEXT CHECK (acknowledged_until IS NOT NULL OR state <> 'acknowledged'),
    resolved_at TEXT,
    -- When the policy revokes the token, as announced; NULL if it does not.
    revoke_at   TEXT
) STRICT;
CREATE UNIQUE INDEX finding_open ON finding (token_id, kind) WHERE state <> 'resolved';
CREATE UNIQUE INDEX finding_of_source ON finding (source, kind) WHERE token_id IS NULL AND state <> 'resolved';
CREATE INDEX finding_kind ON finding (kind, source) WHERE state <> 'resolved';
-- Finds findings opened while the clock was ahead.
CREATE INDEX finding_since ON finding (since) WHERE state <> 'resolved';
CREATE INDEX finding_token ON finding (token_id) WHERE token_id IS NOT NULL;
CREATE INDEX finding_resolved ON finding (resolved_at) WHERE state = 'resolved';
CREATE INDEX finding_revoke ON finding (revoke_at) WHERE revoke_at IS NOT NULL;

CREATE TABLE run (
    id         BLOB NOT NULL PRIMARY KEY,
    started_at TEXT NOT NULL,
    ended_at   TEXT,
    outcome    TEXT,
    report     TEXT
) STRICT;
CREATE INDEX run_started ON run (started_at);

CREATE TABLE lease (
    name    TEXT NOT NULL PRIMARY KEY,
    -- Also after it gave the lease back.
    holder  BLOB NOT NULL,
    until   TEXT NOT NULL,
    -- How often another process took it.
    changes INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- The daemons that use this store; `id` is what a lease has as its holder.
CREATE TABLE replica (
    id            BLOB NOT NULL PRIMARY KEY,
    host          TEXT NOT NULL,
    version       TEXT NOT NULL,
    -- The fingerprint of its configuration.
    configuration TEXT NOT NULL,
    started_at    TEXT NOT NULL,
    -- By its own clock.
    seen_at       TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Accounts of the token service.
CREATE TABLE service_account (
    -- The name in lower case.
    key        TEXT NOT NULL PRIMARY KEY,
    name       TEXT NOT NULL,
    -- NULL for the limit of the policy, 0 for no limit.
    max_tokens INTEGER,
    created_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Users of the token service.
CREATE TABLE service_user (
    -- The address in lower case, or the name of a machine user.
    key            TEXT NOT NULL PRIMARY KEY,
    -- NULL for a machine user.
    address        TEXT,
    name           TEXT,
    is_super       INTEGER NOT NULL,
    is_sso         INTEGER NOT NULL,
    -- The owners of a machine user, one a line.
    owners         TEXT,
    created_at     TEXT NOT NULL,
    disabled_at    TEXT,
    -- Since when a directory reports that they lost access.
    lost_access_at TEXT,
    version        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX service_user_lost ON service_user (lost_access_at) WHERE lost_access_at IS NOT NULL;

CREATE TABLE service_role (
    user_key    TEXT NOT NULL,
    account_key TEXT NOT NULL,
    role        TEXT NOT NULL,
    PRIMARY KEY (user_key, account_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX service_role_account ON service_role (account_key);

-- What lapsed verifies tokens by that it issued. Those of its own kinds (session, access, refresh, feed) have no row in
-- `token`.
CREATE TABLE credential (
    id                BLOB NOT NULL PRIMARY KEY,
    public_id         TEXT NOT NULL UNIQUE,
    kind              TEXT NOT NULL,
    issuer_key        TEXT NOT NULL,
    account_key       TEXT,
    role              TEXT,
    -- Separated by blanks.
    scopes            TEXT NOT NULL,
    networks          TEXT NOT NULL,
    created_at        TEXT NOT NULL,
    not_before        TEXT,
    expires_at        TEXT,
    state             TEXT NOT NULL CHECK (state IN ('active', 'disabled', 'locked', 'revoked')),
    -- Digests are in hexadecimal.
    digest            TEXT NOT NULL,
    secret_number     INTEGER NOT NULL,
    secret_created_at TEXT NOT NULL,
    secret_used_at    TEXT,
    -- The secret before the last regeneration.
    old_digest        TEXT,
    old_number        INTEGER,
    old_created_at    TEXT,
    old_used_at       TEXT,
    old_valid_until   TEXT CHECK ((old_valid_until IS NOT NULL) = (old_digest IS NOT NULL)),
    -- The credential that it was exchanged for.
    parent            BLOB,
    -- The number of the secret that was exchanged.
    parent_secret     INTEGER CHECK ((parent_secret IS NOT NULL) = (parent IS NOT NULL)),
    version           INTEGER NOT NULL,
    -- When the text of the current secret was handed over; NULL if that may have failed.
    shown_at          TEXT
) STRICT;
CREATE INDEX credential_issuer ON credential (issuer_key);
-- For the limits, which count what has not ended.
CREATE INDEX credential_account ON credential (account_key) WHERE account_key IS NOT NULL AND state <> 'revoked';
CREATE INDEX credential_parent ON credential (parent) WHERE parent IS NOT NULL;
-- Finds old secrets that are still used shortly before they end.
CREATE INDEX credential_old ON credential (old_valid_until) WHERE old_valid_until IS NOT NULL;
CREATE INDEX credential_internal ON credential (expires_at) WHERE kind IN ('session', 'access', 'refresh', 'feed');

-- What changed that verification depends on. Whoever keeps copies in memory reads it.
CREATE TABLE change (
    id   INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL CHECK (kind IN ('credential', 'user', 'everything')),
    -- The id of the credential or the key of the user.
    key  TEXT NOT NULL
) STRICT;

-- Uses of a token by hour.
CREATE TABLE token_use (
    token_id BLOB NOT NULL,
    -- The beginning of the hour.
    hour     TEXT NOT NULL,
    ok       INTEGER NOT NULL,
    -- With the right secret.
    refused  INTEGER NOT NULL,
    PRIMARY KEY (token_id, hour)
) STRICT, WITHOUT ROWID;
CREATE INDEX token_use_hour ON token_use (hour);

-- The last addresses that used a token, and the last ones that were refused.
CREATE TABLE token_address (
    token_id   BLOB NOT NULL,
    is_refused INTEGER NOT NULL,
    address    TEXT NOT NULL,
    first_at   TEXT NOT NULL,
    last_at    TEXT NOT NULL,
    PRIMARY KEY (token_id, is_refused, address)
) STRICT, WITHOUT ROWID;
-- Finds new addresses.
CREATE INDEX token_address_new ON token_address (first_at) WHERE NOT is_refused;

-- Answers to requests that may be repeated. Backups and moved stores lack them.
CREATE TABLE idempotency (
    -- Digests are in hexadecimal.
    key_digest    TEXT NOT NULL PRIMARY KEY,
    body_digest   TEXT NOT NULL,
    token_id      BLOB,
    secret_number INTEGER,
    -- The answer, encrypted with a key that only the caller can make.
    sealed        TEXT,
    created_at    TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_created ON idempotency (created_at);

-- Links by which people sign in, kept for an hour. Backups and moved stores lack them.
CREATE TABLE sign_in_link (
    -- Digests are in hexadecimal.
    digest     TEXT NOT NULL PRIMARY KEY,
    user_key   TEXT NOT NULL,
    -- Of the cookie of the browser that asked; NULL for a link of the command line.
    browser    TEXT,
    -- What that browser shows, for whoever opens the link in another.
    number     TEXT,
    -- Wrong numbers.
    failures   INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    used_at    TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX sign_in_link_user ON sign_in_link (user_key, created_at);
CREATE INDEX sign_in_link_created ON sign_in_link (created_at);

-- How people want to be notified.
CREATE TABLE preference (
    address_key TEXT NOT NULL PRIMARY KEY,
    address     TEXT NOT NULL,
    -- NULL as configured; a list such as `7d 1d`, empty for none.
    steps       TEXT,
    channel     TEXT CHECK (channel IN ('mail', 'account')),
    language    TEXT,
    timezone    TEXT,
    -- The time of the daily mail, such as `09:00`.
    digest_time TEXT,
    version     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Append-only audit trail: who did what, when and why.
CREATE TABLE audit (
    id      BLOB NOT NULL PRIMARY KEY,
    at      TEXT NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    reason  TEXT
) STRICT;
CREATE INDEX audit_at ON audit (at);

-- A notice with its delivery state: its own, or that of the mail that carries it.
CREATE VIEW ledger AS
SELECT n.id, n.token_id, n.subject, n.generation, n.secret_version, n.topic, n.step, n.recipient, n.recipient_key,
       n.basis, n.send_at, n.planned_at, n.mail_id, n.title, n.held, n.channel, n.read_at,
       CASE WHEN n.state <> 'planned' THEN n.state
            WHEN m.state IS NULL OR m.state IN ('open', 'waiting', 'claimed') THEN 'planned'
            ELSE m.state END AS state,
       CASE WHEN n.held THEN 'held' ELSE COALESCE(n.reason, m.reason) END AS reason,
       COALESCE(m.attempts, 0) AS attempts, m.state AS mail_state, m.next_at,
       CASE n.state WHEN 'planned' THEN m.sent_at WHEN 'sent' THEN n.planned_at END AS sent_at
FROM notice n LEFT JOIN mail m ON m.id = n.mail_id;
