-- Rows as this version of lapsed writes them: at least one in every table.
INSERT INTO meta (key, value)
VALUES ('plan.policy', 'abc');
INSERT INTO source (name, kind, fingerprint, last_sync_at, last_good_sync_at, tokens, error)
VALUES ('exports', 'file', 'f1', '2026-11-21T08:00:00+00:00', '2026-11-21T08:00:00+00:00', 1, NULL);
INSERT INTO source_admin (source, account, address)
VALUES ('exports', 'acme', 'acme-admin@example.org');
INSERT INTO token (id, source, external_id, name, description, issuer, issuer_key, issuer_name, account, role, scope, created_at, expiry, expires_at, expiry_origin, secret_version, status, last_used_at, reports_use, first_seen_at, life_from, planned_step, due_at, unlisted_since, revoked_at)
VALUES ('01930000-0000-0000-0000-00000000000a', 'exports', 'ci-deploy', 'CI deploy', NULL, 'Ada@Example.org', 'ada@example.org', 'Ada', 'acme', 'editor', NULL, '2026-08-30T08:00:00+00:00', 'at', '2026-11-28T08:00:00+00:00', 'source', 2, 'active', '2026-11-21T07:59:00.5+00:00', TRUE, '2026-08-31T08:00:00+00:00', '2026-08-30T08:00:00+00:00', NULL, '2026-11-21T08:00:00+00:00', NULL, NULL);
INSERT INTO token_owner (token_id, owner_key)
VALUES ('01930000-0000-0000-0000-00000000000a', 'bob@example.org');
INSERT INTO plan (id, created_at, state, mails)
VALUES ('01930000-0000-0000-0000-00000000000b', '2026-11-21T08:00:00+00:00', 'held', 2);
INSERT INTO mail (id, recipient, recipient_key, state, created_at, next_at, holder, lease_until, attempts, unknowns, first_tried_at, sent_at, plan_id, reason)
VALUES ('01930000-0000-0000-0000-00000000000c', 'Ada@Example.org', 'ada@example.org', 'sent', '2026-11-21T08:00:00+00:00', '2026-11-21T08:00:00+00:00', '01930000-0000-0000-0000-00000000000d', NULL, 1, 0, '2026-11-21T08:00:01+00:00', '2026-11-21T08:00:01.25+00:00', '01930000-0000-0000-0000-00000000000b', '250 2.0.0 Ok');
INSERT INTO notice (id, token_id, subject, generation, secret_version, topic, step, recipient, recipient_key, basis, send_at, planned_at, plan_id, mail_id, state, held, reason, title, detail)
VALUES ('01930000-0000-0000-0000-00000000000e', '01930000-0000-0000-0000-00000000000a', NULL, '2026-11-28T08:00:00+00:00', 2, 'expiry', 604800, 'Ada@Example.org', 'ada@example.org', 'issuer', '2026-11-21T08:00:00+00:00', '2026-11-21T08:00:00+00:00', '01930000-0000-0000-0000-00000000000b', '01930000-0000-0000-0000-00000000000c', 'planned', FALSE, NULL, NULL, NULL);
INSERT INTO address (key, domain, code, is_doubtful, reason, refused_since, refused_at, passes, dead_since)
VALUES ('gone@example.org', 'example.org', '5.1.1', FALSE, '550 5.1.1 no such user', '2026-11-01T08:00:00+00:00', '2026-11-01T08:00:00+00:00', 1, '2026-11-01T08:00:00+00:00');
INSERT INTO directory (name, kind, last_sync_at, last_good_sync_at, error, failures, failing_since, deferred_until, people, groups, cursor, query_digest, held, held_at, held_changes, decision)
VALUES ('hr', 'file', '2026-11-21T08:00:00+00:00', '2026-11-21T08:00:00+00:00', NULL, 0, NULL, NULL, 1, '[]', 'f2', 'a1', '4 of 10', '2026-11-21T08:00:00+00:00', 'h1', 'released');
INSERT INTO identity (directory, email_key, email, account_id, name, status, known_status, reason, evidence, checked_by_id, since, observed_at, candidate, candidate_since, candidate_evidence)
VALUES ('hr', 'ada@example.org', 'Ada@Example.org', 'a-1', 'Ada', 'unknown', 'disabled', 'absent', 'status "disabled" in people.csv, line 2', TRUE, '2026-11-20T00:00:00+00:00', '2026-11-21T08:00:00+00:00', 'deleted', '2026-11-21T08:00:00+00:00', '404 for its id');
INSERT INTO finding (id, token_id, source, kind, severity, since, evidence, directory, state, resolved_at, revoke_at)
VALUES ('01930000-0000-0000-0000-00000000000f', '01930000-0000-0000-0000-00000000000a', 'exports', 'sso_revoked', 'high', '2026-11-20T00:00:00+00:00', 'hr says status "disabled" in people.csv, line 2', 'hr', 'open', NULL, '2026-11-24T08:00:00+00:00');
INSERT INTO run (id, started_at, ended_at, outcome, report)
VALUES ('01930000-0000-0000-0000-000000000010', '2026-11-21T08:00:00+00:00', '2026-11-21T08:00:02+00:00', 'ok', '{}');
INSERT INTO lease (name, holder, until)
VALUES ('sweep', '01930000-0000-0000-0000-00000000000d', '2026-11-21T08:00:30+00:00');
INSERT INTO replica (id, host, version, configuration, started_at, seen_at)
VALUES ('01930000-0000-0000-0000-000000000012', 'lapsed-0', '0.1.0', '0123456789ab', '2026-11-21T08:00:00+00:00', '2026-11-21T08:00:00+00:00');
INSERT INTO audit (id, at, actor, action, subject, reason)
VALUES ('01930000-0000-0000-0000-000000000011', '2026-11-21T08:00:00+00:00', 'root', 'release', 'plan', NULL);
INSERT INTO service_account (key, name, max_tokens, created_at)
VALUES ('acme', 'Acme', 50, '2026-11-21T08:00:00+00:00');
INSERT INTO service_user (key, address, name, is_super, is_sso, owners, created_at, disabled_at, lost_access_at, version)
VALUES ('ada@example.org', 'Ada@Example.org', 'Ada', FALSE, TRUE, NULL, '2026-11-21T08:00:00+00:00', NULL, NULL, 1),
       ('deploy-bot', NULL, NULL, FALSE, FALSE, 'Ada@Example.org
bob@example.org', '2026-11-21T08:00:00+00:00', '2026-11-21T08:00:00+00:00', NULL, 2);
INSERT INTO service_role (user_key, account_key, role)
VALUES ('ada@example.org', 'acme', 'engineer');
INSERT INTO credential (id, public_id, kind, issuer_key, account_key, role, scopes, networks, created_at, not_before, expires_at, state, digest, secret_number, secret_created_at, secret_used_at, old_digest, old_number, old_created_at, old_used_at, old_valid_until, parent, version, shown_at)
VALUES ('01930000-0000-0000-0000-000000000013', 'lp3fK9x2QwAb', 'api', 'ada@example.org', 'acme', 'viewer', 'app:read', '192.0.2.0/24', '2026-11-21T08:00:00+00:00', NULL, '2026-12-21T08:00:00+00:00', 'active', 'abababababababababababababababababababababababababababababababab', 2, '2026-11-21T08:00:00+00:00', '2026-11-21T08:00:00+00:00', 'abababababababababababababababababababababababababababababababab', 1, '2026-11-21T08:00:00+00:00', NULL, '2026-11-22T08:00:00+00:00', NULL, 3, NULL);
INSERT INTO change (kind, key)
VALUES ('user', 'ada@example.org');
INSERT INTO token_use (token_id, hour, ok, refused)
VALUES ('01930000-0000-0000-0000-000000000013', '2026-11-21T08:00:00+00:00', 3, 1);
INSERT INTO token_address (token_id, is_refused, address, first_at, last_at)
VALUES ('01930000-0000-0000-0000-000000000013', FALSE, '192.0.2.7', '2026-11-21T08:00:00+00:00', '2026-11-21T08:00:00+00:00');
INSERT INTO idempotency (key_digest, body_digest, token_id, secret_number, sealed, created_at)
VALUES ('abababababababababababababababababababababababababababababababab', 'abababababababababababababababababababababababababababababababab', '01930000-0000-0000-0000-000000000013', 2, 'c2VhbGVk', '2026-11-21T08:00:00+00:00');
INSERT INTO sign_in_link (digest, user_key, browser, number, failures, created_at, expires_at, used_at)
VALUES ('abababababababababababababababababababababababababababababababab', 'ada@example.org', 'cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd', '123456', 0, '2026-11-21T08:00:00+00:00', '2026-11-21T08:15:00+00:00', NULL);
INSERT INTO preference (address_key, address, steps, channel, language, timezone, digest_time, version)
VALUES ('ada@example.org', 'Ada@Example.org', '7d 1d', 'account', 'en', 'Europe/Berlin', '09:00', 1);
