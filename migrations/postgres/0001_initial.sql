-- Keys that lapsed also compares and sorts in the program have COLLATE "C", which is byte order.

-- Key-value settings of the store, such as the hash of the planning policy in force.
CREATE TABLE meta (
    key   TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE source (
    name              TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    kind              TEXT NOT NULL,
    -- Fingerprint of the last good listing; an identical one is not read again.
    fingerprint       TEXT,
    last_sync_at      TIMESTAMPTZ,
    last_good_sync_at TIMESTAMPTZ,
    -- Tokens stored of the last complete listing or, after a partial one, tokens known to exist.
    tokens            BIGINT NOT NULL DEFAULT 0,
    -- Records in the last complete listing, with those that are not stored; 0 before the first.
    listed            BIGINT NOT NULL DEFAULT 0,
    error             TEXT,
    -- Consecutive failed attempts, and the time of the first.
    failures          BIGINT NOT NULL DEFAULT 0,
    failing_since     TIMESTAMPTZ,
    -- The upstream asked to wait until then.
    deferred_until    TIMESTAMPTZ,
    -- The longest life that the source allows, in seconds; NULL with evidence means unlimited.
    max_life          BIGINT,
    max_life_evidence TEXT,
    -- A JSON array: the columns that could mostly be read in the last good listing.
    readable_columns  TEXT,
    -- Its new name, once an operator has renamed it; the row then only reserves the old one.
    renamed_to        TEXT
);

-- Administrators of accounts, as reported by the sources.
CREATE TABLE source_admin (
    source  TEXT COLLATE "C" NOT NULL,
    -- In lower case, for comparison.
    account TEXT COLLATE "C" NOT NULL,
    address TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (source, account, address)
);

CREATE TABLE token (
    id            UUID NOT NULL PRIMARY KEY,
    source        TEXT COLLATE "C" NOT NULL,
    external_id   TEXT COLLATE "C" NOT NULL,
    name          TEXT NOT NULL,
    description   TEXT,
    issuer        TEXT,
    -- The issuer's address in lower case, for comparison.
    issuer_key    TEXT COLLATE "C",
    -- The addresses of the other owners, one a line.
    co_owners     TEXT,
    issuer_name   TEXT,
    -- Evidence that the issuer no longer exists at the source.
    issuer_gone   TEXT,
    account       TEXT,
    role          TEXT,
    scope         TEXT,
    created_at    TIMESTAMPTZ,
    expiry        TEXT NOT NULL CHECK (expiry IN ('never', 'at', 'unknown')),
    expires_at    TIMESTAMPTZ CHECK ((expires_at IS NOT NULL) = (expiry = 'at')),
    -- The date, if the source reports a plain date: expires_at is then its start or end in the source's time zone.
    expiry_day    TEXT CHECK (expiry_day IS NULL OR expiry = 'at'),
    expiry_origin TEXT CHECK (expiry_origin IN ('source', 'computed', 'policy')),
    -- Our policy set the expiry because the source reports none.
    expiry_unreported BOOLEAN NOT NULL DEFAULT FALSE,
    -- The number of the current secret; 1 if the source does not count secrets.
    secret_version BIGINT NOT NULL DEFAULT 1,
    -- 'expired' is only a mark; the status now follows from expires_at and the clock.
    status        TEXT NOT NULL CHECK (status IN ('active', 'expired', 'disabled', 'revoked', 'gone')),
    last_used_at  TIMESTAMPTZ,
    -- Whether the source reports when the token was used.
    reports_use   BOOLEAN NOT NULL,
    first_seen_at TIMESTAMPTZ NOT NULL,
    life_from     TIMESTAMPTZ,
    -- The tightest step planned for the current expiry, in seconds.
    planned_step  BIGINT,
    due_at        TIMESTAMPTZ,
    -- Since when it is missing in the complete listings of its source; NULL while it is listed.
    unlisted_since TIMESTAMPTZ,
    -- When lapsed revoked it at its source; listings requested earlier do not show that yet.
    revoked_at    TIMESTAMPTZ,
    -- When its source, if it wants that, is to be notified of the expiry.
    mark_expired_at TIMESTAMPTZ,
    -- A JSON object: the columns whose present values at the source cannot be read, and why. The last known values
    -- are kept.
    unreadable    TEXT,
    -- When its findings must be evaluated.
    judge_at      TIMESTAMPTZ,
    UNIQUE (source, external_id)
);

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
    token_id  UUID NOT NULL,
    -- The address in lower case.
    owner_key TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (token_id, owner_key)
);
CREATE INDEX token_owner_key ON token_owner (owner_key);

-- The notices that one sweep planned; a sweep that plans nothing leaves no row.
CREATE TABLE plan (
    id         UUID NOT NULL PRIMARY KEY,
    created_at TIMESTAMPTZ NOT NULL,
    -- 'open' while a sweep works on it; one found open later was left by a sweep that died.
    state      TEXT NOT NULL CHECK (state IN ('open', 'released', 'held', 'discarded')),
    mails      BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX plan_unsettled ON plan (state) WHERE state IN ('open', 'held');

CREATE TABLE mail (
    id            UUID NOT NULL PRIMARY KEY,
    recipient     TEXT NOT NULL,
    recipient_key TEXT COLLATE "C" NOT NULL,
    -- open: still accepts notices; waiting: frozen, for its next attempt; claimed: leased by `holder`;
    -- sending: being sent; unknown: may have been accepted, will be sent again.
    state         TEXT NOT NULL CHECK (state IN
        ('open', 'waiting', 'claimed', 'sending', 'unknown', 'sent', 'failed', 'cancelled')),
    created_at    TIMESTAMPTZ NOT NULL,
    next_at       TIMESTAMPTZ NOT NULL,
    holder        UUID,
    lease_until   TIMESTAMPTZ,
    attempts      BIGINT NOT NULL DEFAULT 0,
    -- Attempts with an unknown outcome.
    unknowns      BIGINT NOT NULL DEFAULT 0,
    first_tried_at TIMESTAMPTZ,
    sent_at       TIMESTAMPTZ,
    -- The plan that last added notices; the mail cannot be claimed while this plan is open.
    plan_id       UUID,
    reason        TEXT
);
CREATE UNIQUE INDEX mail_open ON mail (recipient_key) WHERE state = 'open';
CREATE INDEX mail_next ON mail (next_at) WHERE state IN ('open', 'waiting', 'unknown');
CREATE INDEX mail_leased ON mail (lease_until) WHERE state IN ('claimed', 'sending');

-- Ledger and outbox in one. The id is a hash of the key (subject, generation, secret_version, topic,
-- step, channel, recipient), so the primary key prevents a second notice.
CREATE TABLE notice (
    id            UUID NOT NULL PRIMARY KEY,
    token_id      UUID,
    subject       TEXT,
    generation    TIMESTAMPTZ NOT NULL,
    -- The secret whose expiry it is about; 1 for other topics.
    secret_version BIGINT NOT NULL DEFAULT 1,
    topic         TEXT NOT NULL,
    step          BIGINT,
    recipient     TEXT NOT NULL,
    recipient_key TEXT COLLATE "C" NOT NULL,
    basis         TEXT NOT NULL,
    send_at       TIMESTAMPTZ NOT NULL,
    planned_at    TIMESTAMPTZ NOT NULL,
    plan_id       UUID,
    -- The mail that carries the notice; from then on it shares the state of the mail.
    mail_id       UUID,
    -- One in the account is 'sent' once it is planned.
    state         TEXT NOT NULL CHECK (state IN ('planned', 'sent', 'cancelled', 'suppressed', 'failed')),
    -- Its plan waits for an operator.
    held          BOOLEAN NOT NULL DEFAULT FALSE CHECK (state = 'planned' OR NOT held),
    reason        TEXT,
    channel       TEXT NOT NULL DEFAULT 'mail' CHECK (channel IN ('mail', 'account')),
    -- When its recipient read it in their account.
    read_at       TIMESTAMPTZ,
    title         TEXT,
    detail        TEXT
);
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
    key           TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    domain        TEXT NOT NULL,
    -- The enhanced status code of the last refusal.
    code          TEXT NOT NULL,
    is_doubtful   BOOLEAN NOT NULL,
    reason        TEXT NOT NULL,
    refused_since TIMESTAMPTZ NOT NULL,
    refused_at    TIMESTAMPTZ NOT NULL,
    -- Passes of delivery with this code since `refused_since`.
    passes        BIGINT NOT NULL,
    -- When the refusals sufficed to take the address for dead.
    dead_since    TIMESTAMPTZ
);

CREATE TABLE directory (
    name              TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    kind              TEXT NOT NULL,
    last_sync_at      TIMESTAMPTZ,
    last_good_sync_at TIMESTAMPTZ,
    error             TEXT,
    -- Consecutive failed attempts, and the time of the first.
    failures          BIGINT NOT NULL DEFAULT 0,
    failing_since     TIMESTAMPTZ,
    -- The upstream asked to wait until then.
    deferred_until    TIMESTAMPTZ,
    -- People in the last complete listing.
    people            BIGINT NOT NULL DEFAULT 0,
    -- The allowed groups with their numbers of people, as JSON.
    groups            TEXT,
    -- Where the next incremental listing continues, and the query for which that holds.
    cursor            TEXT,
    query_digest      TEXT,
    -- Why people may be missing from the last listing, though it counts.
    gaps              TEXT,
    -- Why and since when changes wait for an operator, their fingerprint, and the decision on them.
    held              TEXT,
    held_at           TIMESTAMPTZ,
    held_changes      TEXT,
    decision          TEXT CHECK (decision IN ('released', 'rejected'))
);

CREATE TABLE identity (
    directory   TEXT COLLATE "C" NOT NULL,
    -- The address by which tokens name the person, in lower case, for comparison.
    email_key   TEXT COLLATE "C" NOT NULL,
    email       TEXT NOT NULL,
    -- The account that the person was matched to for good, if the directory has ids.
    account_id  TEXT,
    -- Whether an operator named this account.
    account_chosen BOOLEAN NOT NULL DEFAULT FALSE,
    name        TEXT,
    status      TEXT NOT NULL CHECK (status IN ('active', 'disabled', 'deleted', 'out_of_group', 'unknown')),
    -- The last clear status; it differs from the status while that is unknown.
    known_status TEXT NOT NULL CHECK (known_status IN ('active', 'disabled', 'deleted', 'out_of_group', 'unknown')),
    reason      TEXT,
    evidence    TEXT NOT NULL,
    -- Whether a lookup of the account by its id gave or confirmed the evidence.
    checked_by_id BOOLEAN NOT NULL DEFAULT FALSE,
    since       TIMESTAMPTZ,
    -- When the directory first gave this evidence; NULL if it has not reported anything yet.
    observed_at TIMESTAMPTZ,
    -- A loss that awaits confirmation, or that an operator rejected.
    candidate   TEXT CHECK (candidate IN ('disabled', 'deleted', 'out_of_group')),
    candidate_since TIMESTAMPTZ,
    candidate_evidence TEXT,
    PRIMARY KEY (directory, email_key)
);
CREATE INDEX identity_lost ON identity (email_key) WHERE status IN ('disabled', 'deleted', 'out_of_group');
-- For the status of one person at all directories.
CREATE INDEX identity_email ON identity (email_key);

CREATE TABLE finding (
    id          UUID NOT NULL PRIMARY KEY,
    -- NULL for a finding about the source.
    token_id    UUID,
    source      TEXT COLLATE "C" NOT NULL,
    kind        TEXT COLLATE "C" NOT NULL,
    severity    TEXT NOT NULL,
    since       TIMESTAMPTZ NOT NULL,
    evidence    TEXT NOT NULL,
    -- The directory that reports the loss of access; NULL for other kinds.
    directory   TEXT COLLATE "C",
    -- 'acknowledged' counts as open again after acknowledged_until, swept or not.
    state       TEXT NOT NULL CHECK (state IN ('open', 'acknowledged', 'resolved')),
    acknowledged_until TIMESTAMPTZ CHECK (acknowledged_until IS NOT NULL OR state <> 'acknowledged'),
    resolved_at TIMESTAMPTZ,
    -- When the policy revokes the token, as announced; NULL if it does not.
    revoke_at   TIMESTAMPTZ
);
CREATE UNIQUE INDEX finding_open ON finding (token_id, kind) WHERE state <> 'resolved';
CREATE UNIQUE INDEX finding_of_source ON finding (source, kind) WHERE token_id IS NULL AND state <> 'resolved';
CREATE INDEX finding_kind ON finding (kind, source) WHERE state <> 'resolved';
-- Finds findings opened while the clock was ahead.
CREATE INDEX finding_since ON finding (since) WHERE state <> 'resolved';
CREATE INDEX finding_token ON finding (token_id) WHERE token_id IS NOT NULL;
CREATE INDEX finding_resolved ON finding (resolved_at) WHERE state = 'resolved';
CREATE INDEX finding_revoke ON finding (revoke_at) WHERE revoke_at IS NOT NULL;

CREATE TABLE run (
    id         UUID NOT NULL PRIMARY KEY,
    started_at TIMESTAMPTZ NOT NULL,
    ended_at   TIMESTAMPTZ,
    outcome    TEXT,
    report     TEXT
);
CREATE INDEX run_started ON run (started_at);

CREATE TABLE lease (
    name    TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    -- Also after it gave the lease back.
    holder  UUID NOT NULL,
    until   TIMESTAMPTZ NOT NULL,
    -- How often another process took it.
    changes BIGINT NOT NULL DEFAULT 0
);

-- The daemons that use this store; `id` is what a lease has as its holder.
CREATE TABLE replica (
    id            UUID NOT NULL PRIMARY KEY,
    host          TEXT NOT NULL,
    version       TEXT NOT NULL,
    -- The fingerprint of its configuration.
    configuration TEXT NOT NULL,
    started_at    TIMESTAMPTZ NOT NULL,
    -- By its own clock.
    seen_at       TIMESTAMPTZ NOT NULL
);

-- Accounts of the token service.
CREATE TABLE service_account (
    -- The name in lower case.
    key        TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name       TEXT NOT NULL,
    -- NULL for the limit of the policy, 0 for no limit.
    max_tokens BIGINT,
    created_at TIMESTAMPTZ NOT NULL
);

-- Users of the token service.
CREATE TABLE service_user (
    -- The address in lower case, or the name of a machine user.
    key            TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    -- NULL for a machine user.
    address        TEXT,
    name           TEXT,
    is_super       BOOLEAN NOT NULL,
    is_sso         BOOLEAN NOT NULL,
    -- The owners of a machine user, one a line.
    owners         TEXT,
    created_at     TIMESTAMPTZ NOT NULL,
    disabled_at    TIMESTAMPTZ,
    -- Since when a directory reports that they lost access.
    lost_access_at TIMESTAMPTZ,
    version        BIGINT NOT NULL
);
CREATE INDEX service_user_lost ON service_user (lost_access_at) WHERE lost_access_at IS NOT NULL;

CREATE TABLE service_role (
    user_key    TEXT COLLATE "C" NOT NULL,
    account_key TEXT COLLATE "C" NOT NULL,
    role        TEXT NOT NULL,
    PRIMARY KEY (user_key, account_key)
);
CREATE INDEX service_role_account ON service_role (account_key);

-- What lapsed verifies tokens by that it issued. Those of its own kinds (session, access, refresh, feed) have no row in
-- `token`.
CREATE TABLE credential (
    id                UUID NOT NULL PRIMARY KEY,
    public_id         TEXT COLLATE "C" NOT NULL UNIQUE,
    kind              TEXT NOT NULL,
    issuer_key        TEXT COLLATE "C" NOT NULL,
    account_key       TEXT COLLATE "C",
    role              TEXT,
    -- Separated by blanks.
    scopes            TEXT NOT NULL,
    networks          TEXT NOT NULL,
    created_at        TIMESTAMPTZ NOT NULL,
    not_before        TIMESTAMPTZ,
    expires_at        TIMESTAMPTZ,
    state             TEXT NOT NULL CHECK (state IN ('active', 'disabled', 'locked', 'revoked')),
    -- Digests are in hexadecimal.
    digest            TEXT NOT NULL,
    secret_number     BIGINT NOT NULL,
    secret_created_at TIMESTAMPTZ NOT NULL,
    secret_used_at    TIMESTAMPTZ,
    -- The secret before the last regeneration.
    old_digest        TEXT,
    old_number        BIGINT,
    old_created_at    TIMESTAMPTZ,
    old_used_at       TIMESTAMPTZ,
    old_valid_until   TIMESTAMPTZ CHECK ((old_valid_until IS NOT NULL) = (old_digest IS NOT NULL)),
    -- The credential that it was exchanged for.
    parent            UUID,
    -- The number of the secret that was exchanged.
    parent_secret     BIGINT CHECK ((parent_secret IS NOT NULL) = (parent IS NOT NULL)),
    version           BIGINT NOT NULL,
    -- When the text of the current secret was handed over; NULL if that may have failed.
    shown_at          TIMESTAMPTZ
);
CREATE INDEX credential_issuer ON credential (issuer_key);
-- For the limits, which count what has not ended.
CREATE INDEX credential_account ON credential (account_key) WHERE account_key IS NOT NULL AND state <> 'revoked';
CREATE INDEX credential_parent ON credential (parent) WHERE parent IS NOT NULL;
-- Finds old secrets that are still used shortly before they end.
CREATE INDEX credential_old ON credential (old_valid_until) WHERE old_valid_until IS NOT NULL;
CREATE INDEX credential_internal ON credential (expires_at) WHERE kind IN ('session', 'access', 'refresh', 'feed');

-- What changed that verification depends on. Whoever keeps copies in memory reads it.
CREATE SEQUENCE change_id;
CREATE TABLE change (
    id   BIGINT NOT NULL DEFAULT nextval('change_id') PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('credential', 'user', 'everything')),
    -- The id of the credential or the key of the user.
    key  TEXT COLLATE "C" NOT NULL
);

-- Uses of a token by hour.
CREATE TABLE token_use (
    token_id UUID NOT NULL,
    -- The beginning of the hour.
    hour     TIMESTAMPTZ NOT NULL,
    ok       BIGINT NOT NULL,
    -- With the right secret.
    refused  BIGINT NOT NULL,
    PRIMARY KEY (token_id, hour)
);
CREATE INDEX token_use_hour ON token_use (hour);

-- The last addresses that used a token, and the last ones that were refused.
CREATE TABLE token_address (
    token_id   UUID NOT NULL,
    is_refused BOOLEAN NOT NULL,
    address    TEXT COLLATE "C" NOT NULL,
    first_at   TIMESTAMPTZ NOT NULL,
    last_at    TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (token_id, is_refused, address)
);
-- Finds new addresses.
CREATE INDEX token_address_new ON token_address (first_at) WHERE NOT is_refused;

-- Answers to requests that may be repeated. Backups and moved stores lack them.
CREATE TABLE idempotency (
    -- Digests are in hexadecimal.
    key_digest    TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    body_digest   TEXT NOT NULL,
    token_id      UUID,
    secret_number BIGINT,
    -- The answer, encrypted with a key that only the caller can make.
    sealed        TEXT,
    created_at    TIMESTAMPTZ NOT NULL
);
CREATE INDEX idempotency_created ON idempotency (created_at);

-- Links by which people sign in, kept for an hour. Backups and moved stores lack them.
CREATE TABLE sign_in_link (
    -- Digests are in hexadecimal.
    digest     TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    user_key   TEXT COLLATE "C" NOT NULL,
    -- Of the cookie of the browser that asked; NULL for a link of the command line.
    browser    TEXT,
    -- What that browser shows, for whoever opens the link in another.
    number     TEXT,
    -- Wrong numbers.
    failures   BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    used_at    TIMESTAMPTZ
);
CREATE INDEX sign_in_link_user ON sign_in_link (user_key, created_at);
CREATE INDEX sign_in_link_created ON sign_in_link (created_at);

-- How people want to be notified.
CREATE TABLE preference (
    address_key TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    address     TEXT NOT NULL,
    -- NULL as configured; a list such as `7d 1d`, empty for none.
    steps       TEXT,
    channel     TEXT CHECK (channel IN ('mail', 'account')),
    language    TEXT,
    timezone    TEXT,
    -- The time of the daily mail, such as `09:00`.
    digest_time TEXT,
    version     BIGINT NOT NULL
);

-- Append-only audit trail: who did what, when and why.
CREATE TABLE audit (
    id      UUID NOT NULL PRIMARY KEY,
    at      TIMESTAMPTZ NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    reason  TEXT
);
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
