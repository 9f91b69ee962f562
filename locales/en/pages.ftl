# The frame of every page.
skip-link = Skip to the content
menu-label = Pages
menu = { $page ->
    [overview] Overview
    [tokens] Tokens
    [notices] Notices
    [forecast] Forecast
    [findings] Findings
    [people] People
    [sources] Sources
    [directories] Directories
    [audit] Audit
   *[preferences] Preferences
}
menu-tokens-ending = { $count ->
    [one] { $count } token ends within 7 days
   *[other] { $count } tokens end within 7 days
}
menu-notices-unread = { $count ->
    [one] { $count } unread notice
   *[other] { $count } unread notices
}
role-super = Super administrator
account-switch = Account
account-switch-button = Switch
sign-out = Sign out
foot-zone = Times are in { $zone }; the title of each has UTC.
theme-label = Colors
theme-auto = As the system
theme-light = Light
theme-dark = Dark
cancel = Cancel
copy = Copy
copied = Copied
copy-by-hand = Selected; press Ctrl+C to copy
next-page = Next page
new-token = New token

# Errors.
error-title = { $error ->
    [not-found] Page not found
    [forbidden] Not allowed
    [cross-site] Form refused
    [refused] Not done
    [method] Not possible here
    [unavailable] Not available
    [bad-request] Request not understood
   *[internal] Internal error
}
error-text = { $error ->
    [not-found] There is nothing here, or you may not see it.
    [forbidden] You may not do this.
    [cross-site] The form comes from a page of another site, so nothing was changed. Open the page here and send the form again.
    [refused] Nothing was changed.
    [method] This page does not accept such a request.
    [unavailable] lapsed cannot reach its store. Try again in a moment.
    [bad-request] The request cannot be read. Open the page again from the menu.
   *[internal] Something went wrong. The log of lapsed has the details.
}
error-home = Go to the overview
error-request = Request { $id }

# Counts, times and dates.
count-more = { $count }+

# Signing in.
sign-in-title = Sign in
sign-in-again = For this, sign in again: a secret is shown only to whoever has signed in within the last hour.
sign-in-lead = Enter your address. You get a mail with a link that signs you in.
sign-in-address = Mail address
sign-in-address-invalid = This is not a mail address. Write it as name@example.org.
sign-in-button = Send the link
sign-in-by-operator = Ask an administrator for a link: the command “lapsed user link” prints one.
sign-in-sent-title = Look into your mail
sign-in-sent = If somebody with this address may sign in, a mail with a link is on its way.
sign-in-sent-time = The link works once, within { $minutes } minutes, in this browser.
sign-in-sent-number = If you open it in another browser or on another device, it asks for this number:
sign-in-other = Request another link
sign-in-link-title = Sign in
sign-in-link-lead = The link is valid. Continue to sign in.
sign-in-link-button = Sign in
sign-in-ended-title = This link does not work
sign-in-ended = It was used, has ended, or was replaced by another. Request a new one.
sign-in-number-lead = The link was requested in another browser. Enter the number that it shows.
sign-in-number = Number
sign-in-number-wrong = This is not the number. After three wrong ones, the link ends.

# Overview.
overview-title = Overview
overview-ending = These tokens of yours end within 7 days.
overview-ends = Ends
overview-used = Last used
overview-nothing = Nothing of yours ends within the next 7 days.
overview-next = Next:
overview-findings = Findings about your tokens
overview-tokens = Show the tokens

# The tokens.
tokens-title = My tokens
tokens-all-title = All tokens
tokens-whose = Whose tokens
tokens-own = Mine
tokens-all = All
tokens-cards = Number of tokens, by status
tokens-none = There are no tokens here.
tokens-none-filtered = No token matches these filters.
filter-value = { $status ->
    [active] Active
    [ending] Ends within 7 days
    [never] Never ends
    [expired] Expired
    [disabled] Disabled
   *[deleted] Deleted
}
filter-q = Name begins with
filter-status = Status
filter-sort = Sort by
filter-any = Any
filter-more = More filters
filter-issued-by = Issued by
filter-account = Account
filter-role = Role
filter-source = Source
filter-kind = Kind
filter-finding = Finding
filter-button = Filter
filter-clear = Clear the filters
sort-value = { $sort ->
    [expires] Expiry, next first
    [used] Last use, latest first
    [created] Creation, latest first
   *[name] Name
}
column-name = Name
column-status = Status
column-expires = Expires
column-used = Last used
column-issuer = Issuer
column-account = Account
column-source = Source
column-role = Role
column-day = Day
column-ok = Accepted
column-refused = Refused
column-address = Address
column-first = First
column-last = Last
column-secret = Secret
column-valid-until = Valid until
column-recipient = Recipient
column-topic = About
column-at = When
column-state = State
column-actor = Who
column-action = What
column-reason = Why
column-subject = On what
used-never = Never used
used-unknown = The source does not report it
expiry-never = Never
expiry-unknown = Unknown
token-status = { $status ->
    [active] Active
    [ending] Ends soon
    [expired] Expired
    [disabled] Disabled
    [locked] Disabled by an administrator
    [revoked] Revoked
   *[gone] Gone from its source
}

# One token.
token-never-shown = The secret of this token may never have been handed over. Regenerate it if nobody has it.
token-regenerate = Regenerate
token-edit = Edit
token-disable = Disable
token-enable = Enable
token-revoke = Revoke
token-manage = Manage at { $source }
token-foreign = This token is of the source { $source }. lapsed watches it and cannot change it.
token-created = Created
token-not-before = Works from
token-owners = Owners
token-scopes = Scopes
token-scopes-all = Not limited by scope
token-external-id = Id at the source
token-id = Id
token-use = Use in the last 30 days
token-use-ok = { $count ->
    [one] { $count } accepted call
   *[other] { $count } accepted calls
}
token-use-refused = { $count ->
    [one] { $count } refused call
   *[other] { $count } refused calls
}
token-use-title = Accepted and refused calls by day
token-use-table = As a table
token-addresses = Addresses that used it
token-addresses-refused = Addresses that were refused
token-secrets = Secrets
secret-current = As long as the token
token-findings = Findings
finding-since = Since
token-notices = Notices
token-audit = Audit
done = { $act ->
    [edited] The changes are saved. The secret stays.
    [disabled] The token is disabled. It stops working at the next request.
    [enabled] The token works again.
   *[revoked] The token is revoked. It stops working at the next request.
}

# Findings, notices.
finding-kind = { $kind ->
    [sso_revoked] Issuer lost access
    [orphaned] Issuer is gone
    [never_expires] Never expires
    [too_long] Lives too long
    [unused] Unused
    [source_allows_unlimited] Source allows unlimited tokens
    [unconfigured] Source is not configured
    [replica_drift] Replicas differ
    [unreadable] Cannot be read
    [unknown_expiry] Unknown expiry
    [old_secret_in_use] Old secret in use
    [new_place] Used from a new place
   *[bounced] Mail bounced
}
finding-severity = { $severity ->
    [medium] medium
    [high] high
   *[critical] critical
}
notice-topic = { $topic ->
    [expiry] Expiry
    [sso_revoked] Lost access
    [revoked] Revoked
    [old_secret] Old secret
    [unreachable] Unreachable recipient
    [summary] Summary
   *[alert] Alert
}
notice-state = { $state ->
    [planned] planned
    [sending] being sent
    [sent] sent
    [unknown] unknown
    [failed] failed
    [cancelled] cancelled
   *[suppressed] not sent
}

# Notices.
notices-title = Notices
notices-lead = What you were notified of. A notice stays unread until you mark it.
notices-none = You have no notices.
notices-read-all = Mark all as read
notices-read-one = Mark as read
notices-unread = Unread
notices-read = Read
notice-step = Warning { $span } before it ends
notice-text = { $topic ->
    [expiry] It ends
    [sso_revoked] Its issuer lost access
    [revoked] It was revoked
    [old_secret] Its old secret is still used
    [unreachable] The address of another recipient does not work
    [summary] Summary of findings
   *[alert] Alert
}

# The findings.
findings-title = Findings
findings-open = Open
findings-all = All, with those that are settled
findings-none = Nothing is wrong.
findings-none-filtered = No finding matches these filters.
findings-acknowledge = Acknowledge
findings-acknowledged = The finding is acknowledged. It opens again when the time is over.
findings-revoke-at = The policy revokes the token:
finding-state = { $state ->
    [open] open
    [acknowledged] acknowledged
   *[resolved] resolved
}
finding-acknowledge-title = Acknowledge: { $name }
acknowledge-lead = You accept the finding for a time. It then opens again, unless it is resolved.
acknowledge-no-revoke = The policy then no longer revokes the token:
acknowledge-until = Until the end of

# The forecast.
forecast-title = Forecast
forecast-caption = How many tokens end on each day of 13 weeks
forecast-week = Week of
forecast-day = { $day }: { $count ->
    [0] no token ends
    [one] { $count } token ends
   *[other] { $count } tokens end
}
forecast-peak = Most tokens end on { $day }: { $count }
forecast-cut = There are too many tokens to count; later days lack some.
forecast-before = 13 weeks earlier
forecast-after = 13 weeks later
forecast-list = What ends in these weeks
forecast-list-day = What ends on { $day }
forecast-whole = Show all these weeks
forecast-warning = Next warning
forecast-no-warning = None
forecast-told = Who is told
forecast-none = Nothing ends here.

# People.
people-title = People
people-person = Person
people-machine = Machine user
people-tokens = Tokens
people-decide = Access
people-show-tokens = Show
person-status = { $status ->
    [active] Active
    [disabled] Disabled
   *[lost] Lost access
}
people-disable = Disable
people-enable = Enable
people-done = { $act ->
    [enabled] They are enabled: their tokens work again.
   *[disabled] They are disabled: their sessions and tokens stop at the next request.
}
people-disable-title = Disable { $name }
people-disable-lead = All their tokens and sessions stop at the next request, until somebody enables them again.
people-enable-title = Enable { $name }
people-enable-lead = Their tokens work again at once.
people-used = These tokens were used within 7 days. What uses them stops.
people-used-before = These tokens were used within 7 days.
people-used-none = No token of theirs was used within 7 days.
people-reason-missing = Give a reason; the audit trail keeps it.

# Sources and directories.
sources-title = Sources
sources-lead = Where lapsed reads tokens.
sources-none = lapsed has not read a source yet.
sources-tokens = { $count ->
    [one] { $count } token
   *[other] { $count } tokens
}
sources-renamed = It is now called { $name }; this entry only keeps the old name.
directories-title = Directories
directories-lead = Where lapsed reads who has access.
directories-none = lapsed has not read a directory yet.
directories-people = { $count ->
    [one] { $count } person
   *[other] { $count } people
}
directories-gaps = People may be missing: { $name }
directories-change = { $decision ->
    [released] Released; the next sync accepts it: { $name }
    [rejected] Rejected; the next sync rejects it: { $name }
   *[none] Held until somebody decides: { $name }
}
upstream-state = { $state ->
    [ok] Works
    [failing] Fails
    [never] Not read yet
    [waiting] Waits
    [held] Change held
   *[renamed] Renamed
}
upstream-last-good = last read
upstream-no-good = never
upstream-failing-since = It fails since
upstream-next = Next attempt:
upstream-next-scheduled = The next attempt is as scheduled.
upstream-fix = { $act ->
    [check] To see what is wrong and how to set it right, run
    [forget] To free the old name, run
    [look] To see who would lose access, run
    [release] If it is right, run
   *[reject] If it is wrong, run
}

# The audit trail.
audit-title = Audit
audit-actor = Who, begins with
audit-action = What, begins with
audit-subject = On what, begins with
audit-since = From
audit-until = Until
audit-none = Nothing was done yet.
audit-none-filtered = Nothing matches these filters.

# Forms.
form-errors = Something is not right yet
form-name = Name
form-name-hint = What uses the token, such as ci-deploy
form-name-missing = A token needs a name. Name what uses it, such as ci-deploy.
form-description = Description
form-account = Account
form-account-hint = Empty for a token outside all accounts
form-role = Role
form-role-default = As mine
form-scopes = Scopes
form-scopes-hint = Without any, the token is not limited by scope.
form-scopes-other = Other scopes, separated by blanks
form-networks = Allowed networks
form-networks-hint = Empty: it works from everywhere
form-network-invalid = “{ $name }” is not a network. Write it as 192.0.2.0/24 or 2001:db8::/32.
form-kind = Kind
form-expires = Expiry
form-expires-until = { $span }, until
form-expires-same = As long as before
form-expires-date = On a day
form-date = Day
form-date-invalid = This is not a day. Choose one from the calendar, or write it as 2027-01-31.
form-expires-invalid = This is not a length of time.
form-expires-max = The latest expiry is
form-expires-never = Never
form-expires-never-hint = A token that never expires stays dangerous if it leaks.
form-reason = Reason, for the audit
new-token-title = New token
new-token-button = Make the token
made-title = { $name }: the secret
made-new = The token is made.
made-again = The token has a new secret.
made-once = The secret is shown only now. Copy it to where it is used; nobody can show it again.
made-leave = The secret is shown only here. Leave anyway?
made-token = Token, as a bearer
made-forms = In other forms
made-access-key = Access key
made-secret-key = Secret key
made-env = Environment variables
made-expires = It expires:
made-old-until = The old secret works until
made-saved = I have saved it
already-made-title = Already made
already-made = This form was sent before, and made a token then. Its secret is not shown again.
already-made-show = Show the token
already-made-lost = The secret is lost: regenerate it
callers-last = Last used
callers-calls = { $count ->
    [one] { $count } call in the last 24 hours
   *[other] { $count } calls in the last 24 hours
}
callers-from = from
regenerate-title = Regenerate { $name }
regenerate-lead = The token gets a new secret. Everything that uses the old one needs the new one before the old one ends.
regenerate-overlap = The old secret works on for
regenerate-overlap-hint = Time to bring the new secret everywhere
overlap-none = It ends now
regenerate-leaked = The old secret leaked: it ends now
regenerate-button = Make a new secret
edit-title = Edit { $name }
edit-lead = The secret stays the same, and so does the expiry.
edit-button = Save
disable-title = Disable { $name }
disable-lead = The token stops working at the next request, until it is enabled again.
disable-button = Disable it
enable-title = Enable { $name }
enable-lead = The token works again at once.
enable-button = Enable it
revoke-title = Revoke { $name }
revoke-lead = The token stops working at the next request. This cannot be undone.
revoke-unsure = Not sure?
revoke-disable = Disable it for now
revoke-why = Reason
revoke-name = It was used within a day. To confirm, enter its name:
revoke-name-wrong = This is not the name of the token.
revoke-button = Revoke { $name }
reason-value = { $reason ->
    [unused] No longer used
    [leaked] Its secret leaked
    [left] Its owner left
   *[other] Another reason
}
preferences-title = Preferences
preferences-saved = Your preferences are saved.
preferences-default = As configured
preferences-warnings = Warnings before a token ends
preferences-warnings-value = { $value ->
    [default] As configured
    [own] At times of my own
   *[none] None
}
preferences-configured = Configured:
preferences-steps = Times of my own
preferences-steps-hint = Such as 30d 7d 12h: days or hours before the end
preferences-steps-missing = Name at least one time, such as 7d, or choose no warnings.
preferences-always = The last warning about a token that was used within 7 days cannot be switched off: it would stop working without notice.
preferences-channel = Where
preferences-channel-value = { $channel ->
    [mail] Only by mail
   *[account] Only here
}
preferences-language = Language
preferences-timezone = Time zone
preferences-timezone-hint = Such as Europe/Vienna; without one it is { $name }
preferences-timezone-wrong = “{ $name }” is not a time zone. Write it as Europe/Vienna.
preferences-digest = Mails of a day arrive at
preferences-digest-hint = Without a time, as configured
preferences-digest-wrong = This is not a time of day. Write it as 09:00.
sessions-title = Sessions
sessions-lead = Where you are signed in. A session ends by itself after 8 hours without use.
sessions-since = Signed in
sessions-this = This one
sessions-end = End it
