### The mails: subjects, sentences, and the phrases that they consist of.

## Counts

tokens = { $count ->
    [one] { $count } token
   *[other] { $count } tokens
}

more-tokens = { $count ->
    [one] { $count } more token
   *[other] { $count } more tokens
}

more-sources = { $count ->
    [one] { $count } more source
   *[other] { $count } more sources
}

open-findings = { $count ->
    [one] { $count } open finding
   *[other] { $count } open findings
}

alerts = { $count ->
    [one] { $count } alert
   *[other] { $count } alerts
}

# $title is a section, a kind of finding, or a source; $count says how many there are: Expired: 3 tokens
titled = { $title }: { $count }

## Around every mail

unreachable-title = Addresses that cannot be reached
unreachable-fix = Please correct these addresses at the source of their tokens. If one works again:
unreachable-fix-by = Please correct these addresses at the source of their tokens. If one works again, run { $command }.

more-at = More: { $url }
questions = Questions: { $contact }

# $why is one of the reasons below.
footer-why = You get this because { $why }.
footer-check = To check that this mail is genuine, run this command where lapsed runs:
footer-check-source = To check that this mail is genuine, compare it with { $source }, or run this command where lapsed runs:
footer-secrets = We never ask for tokens or passwords. Never send them by mail.

why-test = an operator sent a test to your address
why-sign-in = somebody asked to sign in with your address
why-issuer = { $tokens ->
    [one] you issued this token
    [some] you issued some of these tokens
   *[all] you issued these tokens
}
why-owner = { $tokens ->
    [one] you own this token
    [some] you own some of these tokens
   *[all] you own these tokens
}
# $accounts are names; without any, $count is 0.
why-account-admin = { $count ->
    [0] you are an admin of the account
    [one] you are an admin of account { $accounts }
   *[other] you are an admin of accounts { $accounts }
}
why-admin = you are an administrator of lapsed
# The last of several names.
others = others
# Two reasons.
why-both = { $first }, and { $second }

written-on = This mail was written on { $written }.

## Facts about a token

fact-source = Source
fact-account = Account
fact-role = Role
fact-scope = Scope
fact-description = About
fact-issuer = Issuer
fact-owners = Co-owners
fact-expires = Expires
fact-expired = Expired
# The date of a policy.
fact-due = Due
fact-revoked = Revoked
fact-revoked-by = By
fact-last-use = Last use
fact-old-until = Old until
fact-used-from = Used from
fact-id = Id

# An expiry that is no date.
no-expiry = { $expiry ->
    [never] never
   *[unknown] unknown
}

## Last use

never-used = never
use-not-reported = not reported by its source

advice = { $advice ->
    [replace-now] replace it now
    [replace-in-time] replace it in time
    [replace] replace it
    [find-user] find out who uses it
    [ask] ask whether it is still needed
    [let-expire] let it expire
    [nothing] nothing needs it
    [revoke] revoke it now
    [delete] delete it
   *[unneeded] probably no longer needed
}

# $ago is a time: used 4 minutes ago: replace it now
used-recently = used { $ago }: { $advice }
used-last = last used { $ago }: { $advice }
used-not = never used: { $advice }
used-by = { $callers }: { $advice }

# $phrase is one of the first three of these phrases.
last-use = It was { $phrase }.
# $phrase is the fourth of them.
last-use-by = { $phrase }.
last-use-unknown = Its source does not report when it was last used.

# For long lists.
short-use = { $unit ->
    [minutes] used { $count }m ago
    [hours] used { $count }h ago
    [days] used { $count }d ago
   *[never] unused
}

calls-per-hour = { $count ->
    [one] { $count } call an hour still use it
   *[other] { $count } calls an hour still use it
}
calls-lately = { $count ->
    [one] { $count } call in the last 24 hours still used it
   *[other] { $count } calls in the last 24 hours still used it
}
calls-from = { $calls }, from { $addresses }

## Why the issuer does not get a mail

issuer-unreadable = its source names an issuer that could not be read ({ $reason })
issuer-missing = the token has no issuer on record
issuer-lost-access = { $issuer } lost access ({ $evidence })
issuer-refused = mail to { $issuer } is refused ({ $reason })
owner-lost-access = { $owner } lost access

instead-of-issuer = The issuer does not get this mail: { $reason }. Please take care of the token.
instead-of-issuer-note = the issuer does not get this mail: { $reason }

## What to do

what-to-do = What to do
make-token = Make a new token where this one was made ({ $source }).
make-token-at = Make a new token where this one was made ({ $source }): { $page }
make-token-if-needed = If it is still needed, make a new token where this one was made ({ $source }).
make-token-if-needed-at = If it is still needed, make a new token where this one was made ({ $source }): { $page }
how-to = How to: { $url }
replace-token = Replace the old one wherever it is used.
replace-token-past = Replace the old one wherever it was used.
delete-token = Delete the old one at its source.
not-needed-policy = If it is no longer needed, delete it: it does not expire by itself.

## expiring

expiring-subject = Token { $name } expires { $when } ({ $day })
expiring-subject-policy = Token { $name } must be replaced { $within } ({ $day })
expiring = { $yours ->
    [true] Your token
   *[false] Token
} { $name } stops working { $when }, on { $at }.
expiring-policy = { $yours ->
    [true] Your token
   *[false] Token
} { $name } must be replaced { $within }, by { $at }. This date comes from our policy: at { $source } the token has no expiry, so it works until it is deleted.
expiring-outdated = { $source } says an expiry that could not be read; this date is the last one that lapsed could read.
expiring-not-needed = If it is no longer needed, delete it or let it expire.

## expired

expired-subject = Token { $name } expired on { $day }
expired-subject-policy = Token { $name } had to be replaced by { $day }
expired = { $yours ->
    [true] Your token
   *[false] Token
} { $name } expired { $ago }, on { $at }.
expired-rejected = Programs that still use it are now rejected.
expired-policy = { $yours ->
    [true] Your token
   *[false] Token
} { $name } had to be replaced by { $at }, { $ago }. This date comes from our policy: at { $source } the token has no expiry, so it still works.
expired-outdated = { $source } says an expiry that could not be read; this date is the last one that lapsed could read. The token may work longer.
expired-late = This mail is late: a warning was due on { $due } but could not be delivered before the token expired. We are sorry.
expired-not-needed = If it is no longer needed, there is nothing to do.

## revoked

revoked-subject = Token { $name } was revoked on { $day }
revoked = { $yours ->
    [true] Your token
   *[false] Token
} { $name } was revoked at { $source } by { $by } on { $at }. Programs that still use it are now rejected.
revoked-reason = Reason: { $reason }
revoked-no-reason = No reason was given.
revoked-final = A revoked token cannot be restored. If this was a mistake, ask { $by }.

## old_secret

old-secret-subject = The old secret of token { $name } is still used and ends { $when }
old-secret-subject-over = The old secret of token { $name } was still used when it ended
old-secret = { $yours ->
    [true] Your token
   *[false] Token
} { $name } has a new secret, but something still uses the old one. The old secret works until { $at }, { $left } from now. From then on, what uses it is rejected.
old-secret-over = { $yours ->
    [true] Your token
   *[false] Token
} { $name } has a new secret, but something still uses the old one. The old secret ended on { $at }, and what uses it is rejected now.
unknown-address = an unknown address
old-secret-find = Find the programs that still use the old secret.
old-secret-find-at = Find the programs that still use the old secret: the token was last used from { $addresses }.
see-page = See { $page }
old-secret-put = Put the new secret there. It was shown when the token was regenerated.
old-secret-ends = The old secret ends by itself.
old-secret-lost = If no one has the new secret any more, regenerate the token again: that ends the old secret at once, so have its users ready. If you do not know who uses it, end it now:

## alert

alert-end = lapsed continues with everything else. This mail was written on { $written }; the command below lists earlier mails.

## sign_in

sign-in-subject = Your link to sign in to lapsed
sign-in = Somebody, probably you, asked to sign in with your address. This link signs you in, once, until { $until }:
sign-in-not-you = If it was not you, ignore this mail. Do not pass the link on.

## test

test-subject = Test mail from lapsed
test = An operator ran lapsed send-test with your address. If you can read this, notices about API tokens will reach you.
test-nothing-to-do = You do not have to do anything. This mail was written on { $written }.

## digest and revoked_access: summary and subject

# The parts of a summary; only the first of the parts has the noun, in $tokens.
# 2 tokens of people without access, 3 expired, 9 expire within 7 days
part-without-access = { $tokens } of people without access
part-revoked = { $tokens } revoked
part-expired = { $tokens } expired
part-expiring = { $count ->
    [one] { $tokens } expires { $within }
   *[other] { $tokens } expire { $within }
}
# $summary is such a list.
first-token = { $summary }, first { $name } on { $day }

one-lost-access = { $owners ->
    [one] This token still works, but its issuer lost access
   *[several] This token still works, but its owners lost access
}
issuer-of-several-lost-access = { $tokens } still work, but their issuer lost access
issuers-lost-access = { $count ->
    [one] { $tokens } still work, but their { $count } issuer lost access
   *[other] { $tokens } still work, but their { $count } issuers lost access
}
subject-lost-access = { $owners ->
    [one] Token { $name } still works, but its issuer lost access
   *[several] Token { $name } still works, but its owners lost access
}
subject-ending = { $owners ->
    [one] Token { $name } will be revoked { $when }: its issuer lost access
   *[several] Token { $name } will be revoked { $when }: its owners lost access
}
subject-endings = { $tokens } of people without access, the first will be revoked { $when }

## digest and revoked_access: notes

next-expires = The next one expires on { $next }.
late-note = { $count ->
    [one] { $count } warning could not be delivered in time; the first was due on { $due }.
   *[other] { $count } warnings could not be delivered in time; the first was due on { $due }.
}
# $which is one, all or some.
policy-note = { $which ->
    [one] One of these dates is set by our policy: such a token works after its date until it is deleted.
    [all] These dates are set by our policy: such a token works after its date until it is deleted.
   *[some] { $count } of these dates are set by our policy: such a token works after its date until it is deleted.
}
outdated-note = { $which ->
    [one] One of these dates is the last one that lapsed could read: its source says another, which could not be read.
   *[some] { $count } of these dates are the last ones that lapsed could read: their sources say others, which could not be read.
}
skipped-issuers = Issuers who do not get this mail:

## digest and revoked_access: lists

section-title = { $section ->
    [without-access] Issuer lost access
    [revoked] Revoked
    [expired] Expired
   *[expiring] Expiring
}
no-issuer = no issuer
no-access-since = No access since { $since }: { $evidence }
# A day and the zone of the times below it.
day-with-offset = { $day } ({ $offset })

row-never-expires = never expires
row-expiry-unknown = expiry unknown
row-expires-on = expires on { $day }
row-ends-on = { $row }, revoked on { $day }
row-account = account { $name }
row-role = role { $name }
row-scope = scope { $name }
row-issuer = issued by { $name }
row-id = id { $name }
row-finding = finding { $id }
row-outdated = its source says an expiry that could not be read; this date is the last one that lapsed could read
row-policy = a date set by our policy: the token works after it
row-late = the warning was due on { $due } and could not be delivered in time
row-revoked-by = revoked by { $by }
row-revoked-because = revoked by { $by }: { $reason }
row-ends = lapsed revokes it on { $at }

not-listed = { $count }, not listed here
count-on-day = { $count } on { $day }
count-later = { $count } on later days
more-sources-command = and at { $sources }: { $command }

ending-title = What lapsed will do
ending-tokens = { $which ->
    [only] this token
    [one] one of these tokens
    [all] these tokens
   *[some] { $count } of these tokens
}
ending = lapsed revokes { $tokens } { $when }, on { $at }
ending-first = lapsed revokes { $tokens } the first { $when }, on { $at }
ending-kept = { $ending }. A token is kept if its issuer has access again by then, or if you acknowledge its finding:
ending-ids = To list the IDs of the findings:

digest-findings = Findings: { $total }
digest-alerts = Other problems
digest-revoked = Make a new token for each one that is still needed, and replace the old one with it. They cannot be restored.
digest-replace = Make a new token for each one that is still in use, replace the old one with it, and delete the old one at its source.
digest-rest = Let the others expire.
digest-rest-policy = Delete the others too, or let those with an expiry expire.

without-access = { $summary }. Anyone who has such a token can still use it.
without-access-find = Find out what still uses the token. Its last use is a hint.
without-access-replace = Replace it there with a token of a person who has access.
without-access-revoke = Revoke the old token at its source.
without-access-wrong = If the person should still have access, fix that in the directory; this finding then closes by itself.

## summary

summary = { $total } on { $written }. A finding closes by itself when its cause is gone.
# $kinds is a list: 12 open findings: 5 never expiring, 4 unused
summary-subject = { $total }: { $kinds }
more-kinds = { $count ->
    [one] { $count } more kind
   *[other] { $count } more kinds
}
by-source = { $advice } By source: { $sources }.
source-count = { $source } { $count }
more = { $count } more
more-findings = { $more }, not listed here. All of them:
as-a-table = As a table:
acknowledge-title = To acknowledge a finding
acknowledge = If a finding is acceptable for a while, say why and until when; until then it is not listed here:

severity = { $severity ->
    [critical] critical
    [high] high
   *[medium] medium
}
row-finding-since = { $severity }, since { $day }
row-last-used = last used { $ago }

findings-count = { $kind ->
    [source_allows_unlimited] { $count ->
        [one] { $count } source
       *[other] { $count } sources
    }
    [unconfigured] { $count ->
        [one] { $count } source
       *[other] { $count } sources
    }
    [replica_drift] { $count ->
        [one] { $count } finding
       *[other] { $count } findings
    }
    [unknown_expiry] { $count ->
        [one] { $count } finding
       *[other] { $count } findings
    }
   *[other] { $count ->
        [one] { $count } token
       *[other] { $count } tokens
    }
}

finding-title = { $kind ->
    [sso_revoked] Issuer lost access
    [orphaned] Issuer is gone from the source
    [never_expires] Never expiring
    [too_long] Too long a life
    [unused] Unused
    [source_allows_unlimited] Source allows too long a life
    [unconfigured] Source is no longer configured
    [replica_drift] Replicas have different configurations
    [unreadable] Cells that cannot be read
    [old_secret_in_use] Old secret still in use
    [new_place] Used from a new network
   *[unknown_expiry] No known expiry
}

# For the subject: 5 never expiring
finding-short = { $kind ->
    [sso_revoked] { $count } without access
    [orphaned] { $count } orphaned
    [never_expires] { $count } never expiring
    [too_long] { $count } too long
    [unused] { $count } unused
    [source_allows_unlimited] { $count } about sources
    [unconfigured] { $count } no longer configured
    [replica_drift] { $count } about replicas
    [unreadable] { $count } with unreadable cells
    [old_secret_in_use] { $count } with an old secret in use
    [new_place] { $count } used from a new network
   *[unknown_expiry] { $count } without a known expiry
}

finding-advice = { $kind ->
    [sso_revoked] Find out what still uses them, replace them with tokens of a person who has access, and revoke the old ones at their source.
    [orphaned] No one is responsible for them. Replace those in use with tokens of a current user, and delete the old ones at their source.
    [never_expires] Replace them with tokens that expire. If that is not possible, set policy_ttl for their source: it gives them a date for a manual check.
    [too_long] Replace them with tokens that live no longer than max_ttl in the configuration.
    [unused] Ask their issuers whether they are needed. Delete the others at their source.
    [source_allows_unlimited] Change the named setting, so that new tokens cannot live this long.
    [unconfigured] Put its [[source]] back; or keep its history under a new name with `lapsed source rename`; or remove its tokens with `lapsed source forget`.
    [replica_drift] Give all of them the same configuration, and restart them; `lapsed replica list` shows each.
    [unreadable] lapsed keeps the last value that it could read. Correct the cell at the source, or say how to read it: timezone, date_format, never or columns of the [[source]].
    [old_secret_in_use] Put the new secret where the old one is used: `lapsed token show` lists the addresses. The old one ends soon.
    [new_place] Ask the issuer whether they know the address. If not, regenerate the token with --leaked.
   *[unknown_expiry] No one is warned before such tokens expire. Let the source list expires_at, or set policy_ttl for it: it gives them a date for a manual check.
}
