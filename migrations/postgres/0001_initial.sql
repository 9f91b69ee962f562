-- Keys that lapsed compares and sorts itself carry COLLATE "C": byte order, as in the program.

-- Small facts about the store itself: the planning policy in force, whether anything awaits judging.
CREATE TABLE meta (
    key   TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE source (
    name              TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    kind              TEXT NOT NULL,
    -- What the last good listing looked like from outside; the same again is not read again.
    fingerprint       TEXT,
    last_sync_at      TIMESTAMPTZ,
    last_good_sync_at TIMESTAMPTZ,
    -- How many tokens the last good listing held, or, after one that was not whole, are known.
    tokens            BIGINT NOT NULL DEFAULT 0,
    error             TEXT,
    -- Attempts that failed in a row, and since when.
    failures          BIGINT NOT NULL DEFAULT 0,
    failing_since     TIMESTAMPTZ,
    -- The other side asked not to be asked before.
    deferred_until    TIMESTAMPTZ,
    -- The longest life that it allows, in seconds; without it, and with where that stands, for ever.
    longest_life      BIGINT,
    life_evidence     TEXT
);

-- Administrators of accounts, as the sources tell.
CREATE TABLE source_admin (
    source  TEXT COLLATE "C" NOT NULL,
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
    -- The issuer's address as it is compared: in lower case.
    issuer_key    TEXT COLLATE "C",
    issuer_name   TEXT,
    -- How it is known that the issuer no longer exists at the source.
    issuer_gone   TEXT,
    account       TEXT,
    role          TEXT,
    scope         TEXT,
    created_at    TIMESTAMPTZ,
    expiry        TEXT NOT NULL CHECK (expiry IN ('never', 'at', 'unknown')),
    expires_at    TIMESTAMPTZ CHECK ((expires_at IS NOT NULL) = (expiry = 'at')),
    expiry_origin TEXT CHECK (expiry_origin IN ('source', 'computed', 'policy')),
    -- 'expired' is a mark; what a token is now follows from expires_at and the clock.
    status        TEXT NOT NULL CHECK (status IN ('active', 'expired', 'disabled', 'revoked', 'gone')),
    last_used_at  TIMESTAMPTZ,
    -- Whether the source tells of use at all.
    use_told      BOOLEAN NOT NULL,
    first_seen_at TIMESTAMPTZ NOT NULL,
    life_from     TIMESTAMPTZ,
    -- Seconds; the tightest step whose notices were planned for the present expiry.
    planned_step  BIGINT,
    due_at        TIMESTAMPTZ,
    gone_at       TIMESTAMPTZ,
    -- When lapsed ended it at its source: what was asked for before knows nothing of that.
    revoked_at    TIMESTAMPTZ,
    -- When its source, which wants to know, is to be told that it has expired.
    tell_at       timestamptz,
    -- When what is wrong with it must be looked at.
    judge_at      TIMESTAMPTZ,
    UNIQUE (source, external_id)
);

-- The one index that makes a sweep cost what is due.
CREATE INDEX token_due ON token (due_at, id) WHERE due_at IS NOT NULL;
CREATE INDEX token_issuer ON token (issuer_key) WHERE issuer_key IS NOT NULL;
CREATE INDEX token_judge ON token (judge_at) WHERE judge_at IS NOT NULL;
-- With the id, because many tokens may end at one midnight and a page must not read them all.
CREATE INDEX token_expires ON token (expires_at, id) WHERE expires_at IS NOT NULL;
-- Finds marks that a clock which jumped and came back has left behind.
CREATE INDEX token_expired ON token (expires_at) WHERE status = 'expired';
CREATE INDEX token_gone ON token (gone_at) WHERE gone_at IS NOT NULL;
CREATE INDEX token_untold ON token (source, tell_at) WHERE tell_at IS NOT NULL;

-- What one sweep planned; kept only where something was planned.
CREATE TABLE plan (
    id         UUID NOT NULL PRIMARY KEY,
    created_at TIMESTAMPTZ NOT NULL,
    -- 'open' while a sweep works on it; an open one found later is that of a sweep that died.
    state      TEXT NOT NULL CHECK (state IN ('open', 'released', 'held', 'discarded')),
    mails      BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX plan_unsettled ON plan (state) WHERE state IN ('open', 'held');

CREATE TABLE mail (
    id            UUID NOT NULL PRIMARY KEY,
    recipient     TEXT NOT NULL,
    recipient_key TEXT COLLATE "C" NOT NULL,
    -- open: may still take notices in; waiting: frozen, for its next attempt; claimed: in the hands
    -- of `holder`; sending: being sent; unknown: may have been taken, will be sent again.
    state         TEXT NOT NULL CHECK (state IN
        ('open', 'waiting', 'claimed', 'sending', 'unknown', 'sent', 'failed', 'cancelled')),
    created_at    TIMESTAMPTZ NOT NULL,
    next_at       TIMESTAMPTZ NOT NULL,
    holder        UUID,
    lease_until   TIMESTAMPTZ,
    attempts      BIGINT NOT NULL DEFAULT 0,
    -- How often it was left in doubt.
    unknowns      BIGINT NOT NULL DEFAULT 0,
    first_tried_at TIMESTAMPTZ,
    sent_at       TIMESTAMPTZ,
    -- The plan that opened it or put into it last; nobody may claim it while that is open.
    plan_id       UUID,
    reason        TEXT
);
CREATE UNIQUE INDEX mail_open ON mail (recipient_key) WHERE state = 'open';
CREATE INDEX mail_next ON mail (next_at) WHERE state IN ('open', 'waiting', 'unknown');
CREATE INDEX mail_leased ON mail (lease_until) WHERE state IN ('claimed', 'sending');

-- The ledger and the outbox at once. The id is a hash of the key (subject, generation, topic, step,
-- channel, recipient), so the primary key is what forbids a second notice.
CREATE TABLE notice (
    id            UUID NOT NULL PRIMARY KEY,
    token_id      UUID,
    subject       TEXT,
    generation    TIMESTAMPTZ NOT NULL,
    topic         TEXT NOT NULL,
    step          BIGINT,
    recipient     TEXT NOT NULL,
    recipient_key TEXT COLLATE "C" NOT NULL,
    ground        TEXT NOT NULL,
    send_at       TIMESTAMPTZ NOT NULL,
    planned_at    TIMESTAMPTZ NOT NULL,
    plan_id       UUID,
    -- Set when the notice joins a mail; from then on its fate is that of the mail.
    mail_id       UUID,
    state         TEXT NOT NULL CHECK (state IN ('planned', 'held', 'cancelled', 'suppressed', 'failed')),
    reason        TEXT,
    title         TEXT,
    detail        TEXT
);
CREATE INDEX notice_open ON notice (send_at) WHERE state = 'planned' AND mail_id IS NULL;
CREATE INDEX notice_open_of ON notice (recipient_key, send_at) WHERE state = 'planned' AND mail_id IS NULL;
-- Listings, the latest first.
CREATE INDEX notice_planned ON notice (planned_at);
CREATE INDEX notice_other ON notice (planned_at) WHERE token_id IS NULL;
CREATE INDEX notice_held ON notice (plan_id) WHERE state = 'held';
CREATE INDEX notice_token ON notice (token_id) WHERE token_id IS NOT NULL;
CREATE INDEX notice_mail ON notice (mail_id) WHERE mail_id IS NOT NULL;

-- Mailboxes that a server has refused as such.
CREATE TABLE address (
    key        TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    dead_since TIMESTAMPTZ NOT NULL,
    reason     TEXT NOT NULL
);

CREATE TABLE directory (
    name              TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    kind              TEXT NOT NULL,
    last_sync_at      TIMESTAMPTZ,
    last_good_sync_at TIMESTAMPTZ,
    error             TEXT,
    -- Attempts that failed in a row, and since when.
    failures          BIGINT NOT NULL DEFAULT 0,
    failing_since     TIMESTAMPTZ,
    -- The other side asked not to be asked before.
    deferred_until    TIMESTAMPTZ,
    -- How many people the last pull of everybody told of.
    people            BIGINT NOT NULL DEFAULT 0,
    -- The allowed groups with how many people were in each, as JSON.
    groups            TEXT,
    -- Where the next pull takes up, and what was asked for then: of something else nothing is known.
    cursor            TEXT,
    asked             TEXT,
    -- Why a pull waits for an operator, the losses in it that do, and his word on them.
    held              TEXT,
    held_at           TIMESTAMPTZ,
    held_turns  TEXT,
    verdict           TEXT CHECK (verdict IN ('released', 'rejected'))
);

CREATE TABLE identity (
    directory   TEXT COLLATE "C" NOT NULL,
    -- The address by which tokens name the person, as it is compared.
    email_key   TEXT COLLATE "C" NOT NULL,
    email       TEXT NOT NULL,
    -- The account that the person was matched to once and for all, where the directory has ids.
    account_id  TEXT,
    name        TEXT,
    status      TEXT NOT NULL CHECK (status IN ('active', 'disabled', 'deleted', 'out_of_group', 'unknown')),
    -- The last clear statement; it differs from the status while that is unknown.
    known_status TEXT NOT NULL CHECK (known_status IN ('active', 'disabled', 'deleted', 'out_of_group', 'unknown')),
    -- Why the status is what it is.
    reason      TEXT,
    evidence    TEXT NOT NULL,
    since       TIMESTAMPTZ,
    -- When the directory first gave that evidence; null where it has said nothing yet.
    observed_at TIMESTAMPTZ,
    -- A loss that awaits its confirmation, or that an operator rejected.
    candidate   TEXT CHECK (candidate IN ('disabled', 'deleted', 'out_of_group')),
    candidate_since TIMESTAMPTZ,
    candidate_evidence TEXT,
    PRIMARY KEY (directory, email_key)
);
CREATE INDEX identity_lost ON identity (email_key) WHERE status IN ('disabled', 'deleted', 'out_of_group');
-- What all directories say of one person.
CREATE INDEX identity_email ON identity (email_key);

CREATE TABLE finding (
    id          UUID NOT NULL PRIMARY KEY,
    -- Null where it is about the source.
    token_id    UUID,
    source      TEXT COLLATE "C" NOT NULL,
    kind        TEXT COLLATE "C" NOT NULL,
    severity    TEXT NOT NULL,
    since       TIMESTAMPTZ NOT NULL,
    evidence    TEXT NOT NULL,
    -- 'acknowledged' is open again when its time is over, swept or not.
    state       TEXT NOT NULL CHECK (state IN ('open', 'acknowledged', 'resolved')),
    acknowledged_until TIMESTAMPTZ CHECK (acknowledged_until IS NOT NULL OR state <> 'acknowledged'),
    resolved_at TIMESTAMPTZ,
    -- When its token is to be ended by the policy, as was announced; null where it is not.
    revoke_at   TIMESTAMPTZ
);
CREATE UNIQUE INDEX finding_open ON finding (token_id, kind) WHERE state <> 'resolved';
CREATE UNIQUE INDEX finding_of_source ON finding (source, kind) WHERE token_id IS NULL AND state <> 'resolved';
CREATE INDEX finding_kind ON finding (kind, source) WHERE state <> 'resolved';
-- Finds what a clock that jumped and came back has left behind.
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
    name   TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    holder UUID NOT NULL,
    until  TIMESTAMPTZ NOT NULL
);

-- Append only: who did what, when and why.
CREATE TABLE audit (
    id      UUID NOT NULL PRIMARY KEY,
    at      TIMESTAMPTZ NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    reason  TEXT
);
CREATE INDEX audit_at ON audit (at);

-- A notice with what became of it: its own state, or that of the mail that carries it.
CREATE VIEW ledger AS
SELECT n.id, n.token_id, n.subject, n.generation, n.topic, n.step, n.recipient, n.recipient_key,
       n.ground, n.send_at, n.planned_at, n.mail_id, n.title,
       CASE WHEN n.state = 'held' THEN 'planned'
            WHEN n.state <> 'planned' THEN n.state
            WHEN m.state IS NULL OR m.state IN ('open', 'waiting', 'claimed') THEN 'planned'
            ELSE m.state END AS state,
       CASE WHEN n.state = 'held' THEN 'held' ELSE COALESCE(n.reason, m.reason) END AS reason,
       COALESCE(m.attempts, 0) AS attempts, m.state AS mail_state, m.next_at,
       CASE WHEN n.state = 'planned' THEN m.sent_at END AS sent_at
FROM notice n LEFT JOIN mail m ON m.id = n.mail_id;
