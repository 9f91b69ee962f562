### Die Mails: Betreffzeilen, Sätze und die Wendungen, aus denen sie bestehen.

## Anzahlen

tokens = { $count ->
    [one] { $count } Token
   *[other] { $count } Token
}

more-tokens = { $count ->
    [one] { $count } weiteres Token
   *[other] { $count } weitere Token
}

more-sources = { $count ->
    [one] { $count } weitere Quelle
   *[other] { $count } weitere Quellen
}

open-findings = { $count ->
    [one] { $count } offener Befund
   *[other] { $count } offene Befunde
}

alerts = { $count ->
    [one] { $count } Alarm
   *[other] { $count } Alarme
}

# $title ist ein Abschnitt, eine Art von Befund oder eine Quelle; $count sagt, wie viele es sind: Abgelaufen: 3 Token
titled = { $title }: { $count }

## Um jede Mail

unreachable-title = Adressen, die nicht erreichbar sind
unreachable-fix = Bitte berichtigen Sie diese Adressen in der Quelle ihrer Token. Wenn eine wieder erreichbar ist:
unreachable-fix-by = Bitte berichtigen Sie diese Adressen in der Quelle ihrer Token. Wenn eine wieder erreichbar ist, führen Sie { $command } aus.

more-at = Mehr dazu: { $url }
questions = Fragen: { $contact }

# $why ist einer der Gründe unten.
footer-why = Sie erhalten diese Mail, weil { $why }.
footer-check = Um zu prüfen, ob diese Mail echt ist, führen Sie dort, wo lapsed läuft, diesen Befehl aus:
footer-check-source = Um zu prüfen, ob diese Mail echt ist, vergleichen Sie sie mit { $source }, oder führen Sie dort, wo lapsed läuft, diesen Befehl aus:
footer-secrets = Wir fragen nie nach Token oder Passwörtern. Senden Sie diese nie per Mail.

why-test = ein Test an Ihre Adresse gesendet wurde
why-sign-in = sich jemand mit Ihrer Adresse anmelden möchte
why-issuer = { $tokens ->
    [one] Sie dieses Token ausgestellt haben
    [some] Sie einige dieser Token ausgestellt haben
   *[all] Sie diese Token ausgestellt haben
}
why-owner = { $tokens ->
    [one] Ihnen dieses Token gehört
    [some] Ihnen einige dieser Token gehören
   *[all] Ihnen diese Token gehören
}
# $accounts sind Namen; ohne Namen ist $count 0.
why-account-admin = { $count ->
    [0] Sie das Konto verwalten
    [one] Sie das Konto { $accounts } verwalten
   *[other] Sie die Konten { $accounts } verwalten
}
why-admin = Sie lapsed verwalten
# Der letzte von mehreren Namen.
others = weitere
# Zwei Gründe.
why-both = { $first } und { $second }

written-on = Diese Mail wurde am { $written } geschrieben.

## Angaben zu einem Token

fact-source = Quelle
fact-account = Konto
fact-role = Rolle
fact-scope = Umfang
fact-description = Zweck
fact-issuer = Aussteller
fact-owners = Mitinhaber
fact-expires = Läuft ab
fact-expired = Abgelaufen
# Das Datum einer Richtlinie.
fact-due = Fällig
fact-revoked = Widerrufen
fact-revoked-by = Durch
fact-last-use = Genutzt
fact-old-until = Altes bis
fact-used-from = Genutzt von
fact-id = Kennung

# Ein Ablauf, der kein Datum ist.
no-expiry = { $expiry ->
    [never] nie
   *[unknown] unbekannt
}

## Letzte Nutzung

never-used = nie
use-not-reported = von der Quelle nicht gemeldet

advice = { $advice ->
    [replace-now] bitte jetzt ersetzen
    [replace-in-time] bitte rechtzeitig ersetzen
    [replace] bitte ersetzen
    [find-user] bitte klären, wer es nutzt
    [ask] bitte klären, ob es noch gebraucht wird
    [let-expire] lassen Sie es ablaufen
    [nothing] nichts braucht es
    [revoke] bitte jetzt widerrufen
    [delete] bitte löschen
   *[unneeded] vermutlich nicht mehr gebraucht
}

# $ago ist eine Zeit: vor 4 Minuten genutzt: bitte jetzt ersetzen
used-recently = { $ago } genutzt: { $advice }
used-last = zuletzt { $ago } genutzt: { $advice }
used-not = nie genutzt: { $advice }
used-by = { $callers }: { $advice }

# $phrase ist eine der ersten drei dieser Wendungen.
last-use = Es wurde { $phrase }.
# $phrase ist die vierte davon.
last-use-by = { $phrase }.
last-use-unknown = Die Quelle meldet nicht, wann es zuletzt genutzt wurde.

# Für lange Listen.
short-use = { $unit ->
    [minutes] vor { $count } min genutzt
    [hours] vor { $count } h genutzt
    [days] vor { $count } T. genutzt
   *[never] ungenutzt
}

calls-per-hour = { $count ->
    [one] { $count } Aufruf je Stunde nutzt es noch
   *[other] { $count } Aufrufe je Stunde nutzen es noch
}
calls-lately = { $count ->
    [one] { $count } Aufruf in den letzten 24 Stunden hat es noch genutzt
   *[other] { $count } Aufrufe in den letzten 24 Stunden haben es noch genutzt
}
calls-from = { $calls }, von { $addresses }

## Warum der Aussteller keine Mail erhält

issuer-unreadable = die Quelle nennt einen Aussteller, der nicht lesbar ist ({ $reason })
issuer-missing = zu dem Token ist kein Aussteller bekannt
issuer-lost-access = { $issuer } hat keinen Zugang mehr ({ $evidence })
issuer-refused = Mail an { $issuer } wird abgelehnt ({ $reason })
owner-lost-access = { $owner } hat keinen Zugang mehr

instead-of-issuer = Der Aussteller erhält diese Mail nicht: { $reason }. Bitte kümmern Sie sich um das Token.
instead-of-issuer-note = der Aussteller erhält diese Mail nicht: { $reason }

## Was zu tun ist

what-to-do = Was zu tun ist
make-token = Erstellen Sie ein neues Token dort, wo dieses erstellt wurde ({ $source }).
make-token-at = Erstellen Sie ein neues Token dort, wo dieses erstellt wurde ({ $source }): { $page }
make-token-if-needed = Wenn es noch gebraucht wird, erstellen Sie ein neues Token dort, wo dieses erstellt wurde ({ $source }).
make-token-if-needed-at = Wenn es noch gebraucht wird, erstellen Sie ein neues Token dort, wo dieses erstellt wurde ({ $source }): { $page }
how-to = Anleitung: { $url }
replace-token = Ersetzen Sie das alte überall, wo es genutzt wird.
replace-token-past = Ersetzen Sie das alte überall, wo es genutzt wurde.
delete-token = Löschen Sie das alte in seiner Quelle.
not-needed-policy = Wenn es nicht mehr gebraucht wird, löschen Sie es: von selbst läuft es nicht ab.

## expiring

expiring-subject = Token { $name } läuft { $when } ab ({ $day })
expiring-subject-policy = Token { $name } muss { $within } ersetzt werden ({ $day })
expiring = { $yours ->
    [true] Ihr Token
   *[false] Das Token
} { $name } läuft { $when } ab, am { $at }.
expiring-policy = { $yours ->
    [true] Ihr Token
   *[false] Das Token
} { $name } muss { $within } ersetzt werden, bis { $at }. Dieses Datum folgt aus unserer Richtlinie: bei { $source } hat das Token kein Ablaufdatum, es gilt also, bis es gelöscht wird.
expiring-outdated = { $source } nennt ein Ablaufdatum, das nicht lesbar ist; dieses Datum ist das letzte, das lapsed lesen konnte.
expiring-not-needed = Wenn es nicht mehr gebraucht wird, löschen Sie es oder lassen Sie es ablaufen.

## expired

expired-subject = Token { $name } ist am { $day } abgelaufen
expired-subject-policy = Token { $name } war bis { $day } zu ersetzen
expired = { $yours ->
    [true] Ihr Token
   *[false] Das Token
} { $name } ist { $ago } abgelaufen, am { $at }.
expired-rejected = Programme, die es noch nutzen, werden jetzt abgewiesen.
expired-policy = { $yours ->
    [true] Ihr Token
   *[false] Das Token
} { $name } war bis { $at } zu ersetzen; das war { $ago }. Dieses Datum folgt aus unserer Richtlinie: bei { $source } hat das Token kein Ablaufdatum, es gilt also weiter.
expired-outdated = { $source } nennt ein Ablaufdatum, das nicht lesbar ist; dieses Datum ist das letzte, das lapsed lesen konnte. Das Token gilt vielleicht länger.
expired-late = Diese Mail kommt zu spät: eine Warnung war am { $due } fällig, konnte aber nicht zugestellt werden, bevor das Token ablief. Wir bitten um Entschuldigung.
expired-not-needed = Wenn es nicht mehr gebraucht wird, ist nichts zu tun.

## revoked

revoked-subject = Token { $name } wurde am { $day } widerrufen
revoked = { $yours ->
    [true] Ihr Token
   *[false] Das Token
} { $name } wurde bei { $source } von { $by } am { $at } widerrufen. Programme, die es noch nutzen, werden jetzt abgewiesen.
revoked-reason = Grund: { $reason }
revoked-no-reason = Es wurde kein Grund angegeben.
revoked-final = Ein widerrufenes Token kann nicht wiederhergestellt werden. Wenn das ein Versehen war, fragen Sie { $by }.

## old_secret

old-secret-subject = Das alte Secret von Token { $name } wird noch genutzt und endet { $when }
old-secret-subject-over = Das alte Secret von Token { $name } wurde noch genutzt, als es endete
old-secret = { $yours ->
    [true] Ihr Token
   *[false] Das Token
} { $name } hat ein neues Secret, aber etwas nutzt noch das alte. Das alte Secret gilt bis { $at }, also noch { $left }. Danach wird abgewiesen, was es nutzt.
old-secret-over = { $yours ->
    [true] Ihr Token
   *[false] Das Token
} { $name } hat ein neues Secret, aber etwas nutzt noch das alte. Das alte Secret endete am { $at }, und was es nutzt, wird jetzt abgewiesen.
unknown-address = einer unbekannten Adresse
old-secret-find = Finden Sie die Programme, die noch das alte Secret nutzen.
old-secret-find-at = Finden Sie die Programme, die noch das alte Secret nutzen: das Token wurde zuletzt von { $addresses } genutzt.
see-page = Siehe { $page }
old-secret-put = Tragen Sie dort das neue Secret ein. Es wurde angezeigt, als das Token erneuert wurde.
old-secret-ends = Das alte Secret endet von selbst.
old-secret-lost = Wenn niemand mehr das neue Secret hat, erneuern Sie das Token noch einmal: damit endet das alte Secret sofort, halten Sie also alle bereit, die es nutzen. Wenn Sie nicht wissen, wer es nutzt, beenden Sie es jetzt:

## alert

alert-end = lapsed macht mit allem anderen weiter. Diese Mail wurde am { $written } geschrieben; der Befehl unten zeigt frühere Mails.

## sign_in

sign-in-subject = Ihr Link zur Anmeldung bei lapsed
sign-in = Jemand, vermutlich Sie, möchte sich mit Ihrer Adresse anmelden. Dieser Link meldet Sie an, einmal, bis { $until }:
sign-in-not-you = Wenn Sie das nicht waren, beachten Sie diese Mail nicht. Geben Sie den Link nicht weiter.

## test

test-subject = Testmail von lapsed
test = Jemand hat lapsed send-test mit Ihrer Adresse ausgeführt. Wenn Sie dies lesen können, erreichen Sie Hinweise zu API-Token.
test-nothing-to-do = Sie brauchen nichts zu tun. Diese Mail wurde am { $written } geschrieben.

## digest und revoked_access: Zusammenfassung und Betreff

# Die Teile einer Zusammenfassung; nur der erste der Teile hat das Hauptwort, in $tokens.
# 2 Token von Personen ohne Zugang, 3 abgelaufen, 9 laufen innerhalb von 7 Tagen ab
part-without-access = { $tokens } von Personen ohne Zugang
part-revoked = { $tokens } widerrufen
part-expired = { $tokens } abgelaufen
part-expiring = { $count ->
    [one] { $tokens } läuft { $within } ab
   *[other] { $tokens } laufen { $within } ab
}
# $summary ist eine solche Liste.
first-token = { $summary }, zuerst { $name } am { $day }

one-lost-access = { $owners ->
    [one] Dieses Token gilt noch, aber sein Aussteller hat keinen Zugang mehr
   *[several] Dieses Token gilt noch, aber seine Inhaber haben keinen Zugang mehr
}
issuer-of-several-lost-access = { $tokens } gelten noch, aber ihr Aussteller hat keinen Zugang mehr
issuers-lost-access = { $count ->
    [one] { $tokens } gelten noch, aber ihr { $count } Aussteller hat keinen Zugang mehr
   *[other] { $tokens } gelten noch, aber ihre { $count } Aussteller haben keinen Zugang mehr
}
subject-lost-access = { $owners ->
    [one] Token { $name } gilt noch, aber sein Aussteller hat keinen Zugang mehr
   *[several] Token { $name } gilt noch, aber seine Inhaber haben keinen Zugang mehr
}
subject-ending = { $owners ->
    [one] Token { $name } wird { $when } widerrufen: sein Aussteller hat keinen Zugang mehr
   *[several] Token { $name } wird { $when } widerrufen: seine Inhaber haben keinen Zugang mehr
}
subject-endings = { $tokens } von Personen ohne Zugang, das erste wird { $when } widerrufen

## digest und revoked_access: Hinweise

next-expires = Das nächste läuft am { $next } ab.
late-note = { $count ->
    [one] { $count } Warnung konnte nicht rechtzeitig zugestellt werden; die erste war am { $due } fällig.
   *[other] { $count } Warnungen konnten nicht rechtzeitig zugestellt werden; die erste war am { $due } fällig.
}
# $which ist one, all oder some.
policy-note = { $which ->
    [one] Eines dieser Daten folgt aus unserer Richtlinie: ein solches Token gilt nach seinem Datum weiter, bis es gelöscht wird.
    [all] Diese Daten folgen aus unserer Richtlinie: ein solches Token gilt nach seinem Datum weiter, bis es gelöscht wird.
   *[some] { $count } dieser Daten folgen aus unserer Richtlinie: ein solches Token gilt nach seinem Datum weiter, bis es gelöscht wird.
}
outdated-note = { $which ->
    [one] Eines dieser Daten ist das letzte, das lapsed lesen konnte: die Quelle nennt ein anderes, das nicht lesbar ist.
   *[some] { $count } dieser Daten sind die letzten, die lapsed lesen konnte: die Quellen nennen andere, die nicht lesbar sind.
}
skipped-issuers = Aussteller, die diese Mail nicht erhalten:

## digest und revoked_access: Listen

section-title = { $section ->
    [without-access] Aussteller ohne Zugang
    [revoked] Widerrufen
    [expired] Abgelaufen
   *[expiring] Läuft ab
}
no-issuer = kein Aussteller
no-access-since = Kein Zugang seit { $since }: { $evidence }
# Ein Tag und die Zone der Zeiten darunter.
day-with-offset = { $day } ({ $offset })

row-never-expires = läuft nie ab
row-expiry-unknown = Ablauf unbekannt
row-expires-on = läuft am { $day } ab
row-ends-on = { $row }, wird am { $day } widerrufen
row-account = Konto { $name }
row-role = Rolle { $name }
row-scope = Umfang { $name }
row-issuer = ausgestellt von { $name }
row-id = Kennung { $name }
row-finding = Befund { $id }
row-outdated = die Quelle nennt ein Ablaufdatum, das nicht lesbar ist; dieses Datum ist das letzte, das lapsed lesen konnte
row-policy = ein Datum aus unserer Richtlinie: das Token gilt danach weiter
row-late = die Warnung war am { $due } fällig und konnte nicht rechtzeitig zugestellt werden
row-revoked-by = widerrufen von { $by }
row-revoked-because = widerrufen von { $by }: { $reason }
row-ends = lapsed widerruft es am { $at }

not-listed = { $count }, hier nicht aufgeführt
count-on-day = { $count } am { $day }
count-later = { $count } an späteren Tagen
more-sources-command = und bei { $sources }: { $command }

ending-title = Was lapsed tun wird
ending-tokens = { $which ->
    [only] dieses Token
    [one] eines dieser Token
    [all] diese Token
   *[some] { $count } dieser Token
}
ending = lapsed widerruft { $tokens } { $when }, am { $at }
ending-first = lapsed widerruft { $tokens }, das erste { $when }, am { $at }
ending-kept = { $ending }. Ein Token bleibt bestehen, wenn sein Aussteller bis dahin wieder Zugang hat oder wenn Sie seinen Befund akzeptieren:
ending-ids = So finden Sie die Kennungen der Befunde:

digest-findings = Befunde: { $total }
digest-alerts = Andere Probleme
digest-revoked = Erstellen Sie für jedes Token, das noch gebraucht wird, ein neues, und ersetzen Sie das alte damit. Wiederhergestellt werden können sie nicht.
digest-replace = Erstellen Sie für jedes Token, das noch genutzt wird, ein neues, ersetzen Sie das alte damit, und löschen Sie das alte in seiner Quelle.
digest-rest = Lassen Sie die übrigen ablaufen.
digest-rest-policy = Löschen Sie auch die übrigen, oder lassen Sie die mit einem Ablaufdatum ablaufen.

without-access = { $summary }. Wer ein solches Token hat, kann es noch nutzen.
without-access-find = Klären Sie, was das Token noch nutzt. Die letzte Nutzung gibt einen Hinweis.
without-access-replace = Ersetzen Sie es dort durch ein Token einer Person, die Zugang hat.
without-access-revoke = Widerrufen Sie das alte Token in seiner Quelle.
without-access-wrong = Wenn die Person noch Zugang haben soll, berichtigen Sie das im Verzeichnis; dieser Befund schließt sich dann von selbst.

## summary

summary = { $total } am { $written }. Ein Befund schließt sich von selbst, wenn seine Ursache behoben ist.
# $kinds ist eine Liste: 12 offene Befunde: 5 ohne Ablauf, 4 ungenutzt
summary-subject = { $total }: { $kinds }
more-kinds = { $count ->
    [one] { $count } weitere Art
   *[other] { $count } weitere Arten
}
by-source = { $advice } Nach Quelle: { $sources }.
source-count = { $source } { $count }
more = { $count } weitere
more-findings = { $more }, hier nicht aufgeführt. Alle:
as-a-table = Als Tabelle:
acknowledge-title = Einen Befund akzeptieren
acknowledge = Wenn ein Befund eine Zeit lang hinnehmbar ist, sagen Sie warum und bis wann; bis dahin steht er nicht mehr hier:

severity = { $severity ->
    [critical] kritisch
    [high] hoch
   *[medium] mittel
}
row-finding-since = { $severity }, seit { $day }
row-last-used = zuletzt { $ago } genutzt

findings-count = { $kind ->
    [source_allows_unlimited] { $count ->
        [one] { $count } Quelle
       *[other] { $count } Quellen
    }
    [unconfigured] { $count ->
        [one] { $count } Quelle
       *[other] { $count } Quellen
    }
    [replica_drift] { $count ->
        [one] { $count } Befund
       *[other] { $count } Befunde
    }
    [unknown_expiry] { $count ->
        [one] { $count } Befund
       *[other] { $count } Befunde
    }
   *[other] { $count ->
        [one] { $count } Token
       *[other] { $count } Token
    }
}

finding-title = { $kind ->
    [sso_revoked] Aussteller ohne Zugang
    [orphaned] Aussteller in der Quelle nicht mehr vorhanden
    [never_expires] Ohne Ablauf
    [too_long] Zu lange Laufzeit
    [unused] Ungenutzt
    [source_allows_unlimited] Quelle erlaubt eine zu lange Laufzeit
    [unconfigured] Quelle nicht mehr konfiguriert
    [replica_drift] Replikate mit verschiedener Konfiguration
    [unreadable] Zellen, die nicht lesbar sind
    [old_secret_in_use] Altes Secret noch in Nutzung
    [new_place] Aus einem neuen Netz genutzt
   *[unknown_expiry] Ablauf unbekannt
}

# Für den Betreff: 5 ohne Ablauf
finding-short = { $kind ->
    [sso_revoked] { $count } ohne Zugang
    [orphaned] { $count } verwaist
    [never_expires] { $count } ohne Ablauf
    [too_long] { $count } zu lang
    [unused] { $count } ungenutzt
    [source_allows_unlimited] { $count } zu Quellen
    [unconfigured] { $count } nicht mehr konfiguriert
    [replica_drift] { $count } zu Replikaten
    [unreadable] { $count } mit unlesbaren Zellen
    [old_secret_in_use] { $count } mit altem Secret in Nutzung
    [new_place] { $count } aus einem neuen Netz genutzt
   *[unknown_expiry] { $count } mit unbekanntem Ablauf
}

finding-advice = { $kind ->
    [sso_revoked] Klären Sie, was diese Token noch nutzt, ersetzen Sie sie durch Token einer Person, die Zugang hat, und widerrufen Sie die alten in ihrer Quelle.
    [orphaned] Niemand ist für sie verantwortlich. Ersetzen Sie die genutzten durch Token einer vorhandenen Person, und löschen Sie die alten in ihrer Quelle.
    [never_expires] Ersetzen Sie sie durch Token, die ablaufen. Wenn das nicht möglich ist, setzen Sie policy_ttl für ihre Quelle: damit erhalten sie ein Datum für eine Prüfung von Hand.
    [too_long] Ersetzen Sie sie durch Token, die nicht länger gelten als max_ttl in der Konfiguration.
    [unused] Fragen Sie die Aussteller, ob sie gebraucht werden. Löschen Sie die übrigen in ihrer Quelle.
    [source_allows_unlimited] Ändern Sie die genannte Einstellung, sodass neue Token nicht so lange gelten können.
    [unconfigured] Setzen Sie [[source]] wieder ein; oder behalten Sie die Geschichte unter einem neuen Namen mit `lapsed source rename`; oder entfernen Sie die Token mit `lapsed source forget`.
    [replica_drift] Geben Sie allen dieselbe Konfiguration, und starten Sie sie neu; `lapsed replica list` zeigt jedes Replikat.
    [unreadable] lapsed behält den letzten Wert, den es lesen konnte. Berichtigen Sie die Zelle in der Quelle, oder sagen Sie, wie sie zu lesen ist: mit timezone, date_format, never oder columns in [[source]].
    [old_secret_in_use] Tragen Sie das neue Secret dort ein, wo das alte genutzt wird: `lapsed token show` zeigt die Adressen. Das alte endet bald.
    [new_place] Fragen Sie den Aussteller, ob ihm die Adresse bekannt ist. Wenn nicht, erneuern Sie das Token mit --leaked.
   *[unknown_expiry] Niemand wird gewarnt, bevor solche Token ablaufen. Lassen Sie die Quelle expires_at angeben, oder setzen Sie policy_ttl für sie: damit erhalten sie ein Datum für eine Prüfung von Hand.
}
