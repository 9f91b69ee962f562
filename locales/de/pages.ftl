# Der Rahmen jeder Seite.
skip-link = Zum Inhalt springen
menu-label = Seiten
menu = { $page ->
    [overview] Übersicht
    [tokens] Tokens
    [notices] Nachrichten
    [forecast] Vorschau
    [findings] Befunde
    [people] Personen
    [sources] Quellen
    [directories] Verzeichnisse
    [audit] Protokoll
   *[preferences] Einstellungen
}
menu-tokens-ending = { $count ->
    [one] { $count } Token endet innerhalb von 7 Tagen
   *[other] { $count } Tokens enden innerhalb von 7 Tagen
}
menu-notices-unread = { $count ->
    [one] { $count } ungelesene Nachricht
   *[other] { $count } ungelesene Nachrichten
}
role-super = Oberste Administration
account-switch = Konto
account-switch-button = Wechseln
sign-out = Abmelden
foot-zone = Zeiten gelten in { $zone }; der Titel jeder Zeit nennt UTC.
theme-label = Farben
theme-auto = Wie das System
theme-light = Hell
theme-dark = Dunkel
cancel = Abbrechen
copy = Kopieren
copied = Kopiert
copy-by-hand = Markiert; mit Strg+C kopieren
next-page = Nächste Seite
new-token = Neues Token

# Fehler.
error-title = { $error ->
    [not-found] Seite nicht gefunden
    [forbidden] Nicht erlaubt
    [cross-site] Formular abgelehnt
    [refused] Nicht ausgeführt
    [method] Hier nicht möglich
    [unavailable] Nicht verfügbar
    [bad-request] Anfrage nicht verstanden
   *[internal] Interner Fehler
}
error-text = { $error ->
    [not-found] Hier ist nichts, oder Sie dürfen es nicht sehen.
    [forbidden] Sie dürfen das nicht.
    [cross-site] Das Formular kommt von einer Seite einer anderen Website, daher wurde nichts geändert. Öffnen Sie die Seite hier und senden Sie das Formular erneut.
    [refused] Es wurde nichts geändert.
    [method] Diese Seite nimmt eine solche Anfrage nicht an.
    [unavailable] lapsed erreicht seine Datenbank nicht. Versuchen Sie es gleich noch einmal.
    [bad-request] Die Anfrage ist nicht lesbar. Öffnen Sie die Seite erneut über das Menü.
   *[internal] Etwas ist schiefgegangen. Das Protokoll von lapsed nennt die Einzelheiten.
}
error-home = Zur Übersicht
error-request = Anfrage { $id }

# Anzahlen, Zeiten und Daten.
count-more = { $count }+

# Anmelden.
sign-in-title = Anmelden
sign-in-again = Melden Sie sich dafür erneut an: Ein Geheimnis wird nur gezeigt, wenn die Anmeldung weniger als eine Stunde zurückliegt.
sign-in-lead = Geben Sie Ihre Adresse ein. Sie erhalten eine Mail mit einem Link, der Sie anmeldet.
sign-in-address = Mailadresse
sign-in-address-invalid = Das ist keine Mailadresse. Schreiben Sie sie als name@example.org.
sign-in-button = Link senden
sign-in-by-operator = Bitten Sie die Administration um einen Link: Der Befehl „lapsed user link“ gibt einen aus.
sign-in-sent-title = Sehen Sie in Ihre Mail
sign-in-sent = Falls sich jemand mit dieser Adresse anmelden darf, ist eine Mail mit einem Link unterwegs.
sign-in-sent-time = Der Link gilt einmal, innerhalb von { $minutes } Minuten, in diesem Browser.
sign-in-sent-number = Wenn Sie ihn in einem anderen Browser oder auf einem anderen Gerät öffnen, fragt er nach dieser Zahl:
sign-in-other = Weiteren Link anfordern
sign-in-link-title = Anmelden
sign-in-link-lead = Der Link gilt. Fahren Sie fort, um sich anzumelden.
sign-in-link-button = Anmelden
sign-in-ended-title = Dieser Link gilt nicht
sign-in-ended = Er wurde benutzt, ist abgelaufen oder wurde durch einen anderen ersetzt. Fordern Sie einen neuen an.
sign-in-number-lead = Der Link wurde in einem anderen Browser angefordert. Geben Sie die Zahl ein, die er zeigt.
sign-in-number = Zahl
sign-in-number-wrong = Das ist nicht die Zahl. Nach drei falschen Zahlen endet der Link.

# Übersicht.
overview-title = Übersicht
overview-ending = Diese Ihrer Tokens enden innerhalb von 7 Tagen.
overview-ends = Endet
overview-used = Zuletzt benutzt
overview-nothing = In den nächsten 7 Tagen endet keines Ihrer Tokens.
overview-next = Als Nächstes:
overview-findings = Befunde zu Ihren Tokens
overview-tokens = Tokens anzeigen

# Die Tokens.
tokens-title = Meine Tokens
tokens-all-title = Alle Tokens
tokens-whose = Wessen Tokens
tokens-own = Meine
tokens-all = Alle
tokens-cards = Anzahl der Tokens nach Status
tokens-none = Hier sind keine Tokens.
tokens-none-filtered = Kein Token entspricht diesen Filtern.
filter-value = { $status ->
    [active] Aktiv
    [ending] Endet innerhalb von 7 Tagen
    [never] Endet nie
    [expired] Abgelaufen
    [disabled] Deaktiviert
   *[deleted] Gelöscht
}
filter-q = Name beginnt mit
filter-status = Status
filter-sort = Sortieren nach
filter-any = Alle
filter-more = Weitere Filter
filter-issued-by = Ausgestellt von
filter-account = Konto
filter-role = Rolle
filter-source = Quelle
filter-kind = Art
filter-finding = Befund
filter-button = Filtern
filter-clear = Filter löschen
sort-value = { $sort ->
    [expires] Ablauf, nächster zuerst
    [used] Letzter Gebrauch, neuester zuerst
    [created] Erstellung, neueste zuerst
   *[name] Name
}
column-name = Name
column-status = Status
column-expires = Läuft ab
column-used = Zuletzt benutzt
column-issuer = Aussteller
column-account = Konto
column-source = Quelle
column-role = Rolle
column-day = Tag
column-ok = Angenommen
column-refused = Abgelehnt
column-address = Adresse
column-first = Zuerst
column-last = Zuletzt
column-secret = Geheimnis
column-valid-until = Gültig bis
column-recipient = Empfänger
column-topic = Thema
column-at = Wann
column-state = Zustand
column-actor = Wer
column-action = Was
column-reason = Warum
column-subject = Woran
used-never = Nie benutzt
used-unknown = Die Quelle meldet es nicht
expiry-never = Nie
expiry-unknown = Unbekannt
token-status = { $status ->
    [active] Aktiv
    [ending] Endet bald
    [expired] Abgelaufen
    [disabled] Deaktiviert
    [locked] Von der Administration deaktiviert
    [revoked] Widerrufen
   *[gone] Bei der Quelle verschwunden
}

# Ein Token.
token-never-shown = Das Geheimnis dieses Tokens wurde vielleicht nie übergeben. Erneuern Sie es, falls niemand es hat.
token-regenerate = Erneuern
token-edit = Bearbeiten
token-disable = Deaktivieren
token-enable = Aktivieren
token-revoke = Widerrufen
token-manage = Bei { $source } verwalten
token-foreign = Dieses Token ist aus der Quelle { $source }. lapsed beobachtet es und kann es nicht ändern.
token-created = Erstellt
token-not-before = Gilt ab
token-owners = Besitzer
token-scopes = Scopes
token-scopes-all = Nicht durch Scopes begrenzt
token-external-id = Id bei der Quelle
token-id = Id
token-use = Gebrauch in den letzten 30 Tagen
token-use-ok = { $count ->
    [one] { $count } angenommener Aufruf
   *[other] { $count } angenommene Aufrufe
}
token-use-refused = { $count ->
    [one] { $count } abgelehnter Aufruf
   *[other] { $count } abgelehnte Aufrufe
}
token-use-title = Angenommene und abgelehnte Aufrufe nach Tag
token-use-table = Als Tabelle
token-addresses = Adressen, die es benutzt haben
token-addresses-refused = Adressen, die abgelehnt wurden
token-secrets = Geheimnisse
secret-current = So lange wie das Token
token-findings = Befunde
finding-since = Seit
token-notices = Nachrichten
token-audit = Protokoll
done = { $act ->
    [edited] Die Änderungen sind gespeichert. Das Geheimnis bleibt.
    [disabled] Das Token ist deaktiviert. Es gilt ab der nächsten Anfrage nicht mehr.
    [enabled] Das Token gilt wieder.
   *[revoked] Das Token ist widerrufen. Es gilt ab der nächsten Anfrage nicht mehr.
}

# Befunde, Nachrichten.
finding-kind = { $kind ->
    [sso_revoked] Aussteller ohne Zugang
    [orphaned] Aussteller ist weg
    [never_expires] Läuft nie ab
    [too_long] Lebt zu lange
    [unused] Unbenutzt
    [source_allows_unlimited] Quelle erlaubt unbegrenzte Tokens
    [unconfigured] Quelle ist nicht konfiguriert
    [replica_drift] Replikate unterscheiden sich
    [unreadable] Nicht lesbar
    [unknown_expiry] Unbekannter Ablauf
    [old_secret_in_use] Altes Geheimnis in Gebrauch
    [new_place] Von einem neuen Ort benutzt
   *[bounced] Mail kam zurück
}
finding-severity = { $severity ->
    [medium] mittel
    [high] hoch
   *[critical] kritisch
}
notice-topic = { $topic ->
    [expiry] Ablauf
    [sso_revoked] Verlorener Zugang
    [revoked] Widerrufen
    [old_secret] Altes Geheimnis
    [unreachable] Unerreichbarer Empfänger
    [summary] Zusammenfassung
   *[alert] Warnung
}
notice-state = { $state ->
    [planned] geplant
    [sending] wird gesendet
    [sent] gesendet
    [unknown] unbekannt
    [failed] fehlgeschlagen
    [cancelled] hinfällig
   *[suppressed] nicht gesendet
}

# Nachrichten.
notices-title = Nachrichten
notices-lead = Worüber Sie benachrichtigt wurden. Eine Nachricht bleibt ungelesen, bis Sie sie als gelesen markieren.
notices-none = Sie haben keine Nachrichten.
notices-read-all = Alle als gelesen markieren
notices-read-one = Als gelesen markieren
notices-unread = Ungelesen
notices-read = Gelesen
notice-step = Warnung { $span } vor dem Ende
notice-text = { $topic ->
    [expiry] Es endet
    [sso_revoked] Wer es ausgestellt hat, hat keinen Zugang mehr
    [revoked] Es wurde widerrufen
    [old_secret] Sein altes Geheimnis wird noch benutzt
    [unreachable] Die Adresse einer anderen Person funktioniert nicht
    [summary] Zusammenfassung der Befunde
   *[alert] Alarm
}

# Die Befunde.
findings-title = Befunde
findings-open = Offen
findings-all = Alle, auch erledigte
findings-none = Alles ist in Ordnung.
findings-none-filtered = Kein Befund entspricht diesen Filtern.
findings-acknowledge = Hinnehmen
findings-acknowledged = Der Befund ist hingenommen. Nach Ablauf der Zeit ist er wieder offen.
findings-revoke-at = Die Richtlinie widerruft das Token:
finding-state = { $state ->
    [open] offen
    [acknowledged] hingenommen
   *[resolved] erledigt
}
finding-acknowledge-title = Hinnehmen: { $name }
acknowledge-lead = Sie nehmen den Befund für eine Zeit hin. Danach ist er wieder offen, falls er nicht erledigt ist.
acknowledge-no-revoke = Die Richtlinie widerruft das Token dann nicht mehr:
acknowledge-until = Bis zum Ende des Tages

# Die Vorschau.
forecast-title = Vorschau
forecast-caption = Wie viele Tokens an jedem Tag von 13 Wochen enden
forecast-week = Woche ab
forecast-day = { $day }: { $count ->
    [0] kein Token endet
    [one] { $count } Token endet
   *[other] { $count } Tokens enden
}
forecast-peak = Die meisten Tokens enden am { $day }: { $count }
forecast-cut = Es sind zu viele Tokens, um sie zu zählen; an späteren Tagen fehlen welche.
forecast-before = 13 Wochen früher
forecast-after = 13 Wochen später
forecast-list = Was in diesen Wochen endet
forecast-list-day = Was am { $day } endet
forecast-whole = Alle diese Wochen zeigen
forecast-warning = Nächste Warnung
forecast-no-warning = Keine
forecast-told = Wer es erfährt
forecast-none = Hier endet nichts.

# Personen.
people-title = Personen
people-person = Person
people-machine = Maschinennutzer
people-tokens = Tokens
people-decide = Zugang
people-show-tokens = Zeigen
person-status = { $status ->
    [active] Aktiv
    [disabled] Gesperrt
   *[lost] Zugang verloren
}
people-disable = Sperren
people-enable = Entsperren
people-done = { $act ->
    [enabled] Die Person ist entsperrt: Ihre Tokens gelten wieder.
   *[disabled] Die Person ist gesperrt: Sitzungen und Tokens enden bei der nächsten Anfrage.
}
people-disable-title = { $name } sperren
people-disable-lead = Alle Tokens und Sitzungen der Person enden bei der nächsten Anfrage, bis jemand sie entsperrt.
people-enable-title = { $name } entsperren
people-enable-lead = Die Tokens der Person gelten sofort wieder.
people-used = Diese Tokens wurden innerhalb von 7 Tagen benutzt. Was sie benutzt, steht still.
people-used-before = Diese Tokens wurden innerhalb von 7 Tagen benutzt.
people-used-none = Keines ihrer Tokens wurde innerhalb von 7 Tagen benutzt.
people-reason-missing = Nennen Sie einen Grund; das Protokoll bewahrt ihn auf.

# Quellen und Verzeichnisse.
sources-title = Quellen
sources-lead = Woher lapsed Tokens liest.
sources-none = lapsed hat noch keine Quelle gelesen.
sources-tokens = { $count ->
    [one] { $count } Token
   *[other] { $count } Tokens
}
sources-renamed = Sie heißt jetzt { $name }; dieser Eintrag hält nur den alten Namen frei.
directories-title = Verzeichnisse
directories-lead = Woher lapsed liest, wer Zugang hat.
directories-none = lapsed hat noch kein Verzeichnis gelesen.
directories-people = { $count ->
    [one] { $count } Person
   *[other] { $count } Personen
}
directories-gaps = Es fehlen vielleicht Personen: { $name }
directories-change = { $decision ->
    [released] Freigegeben; der nächste Abgleich übernimmt es: { $name }
    [rejected] Abgelehnt; der nächste Abgleich weist es zurück: { $name }
   *[none] Angehalten, bis jemand entscheidet: { $name }
}
upstream-state = { $state ->
    [ok] Funktioniert
    [failing] Schlägt fehl
    [never] Noch nicht gelesen
    [waiting] Wartet
    [held] Änderung angehalten
   *[renamed] Umbenannt
}
upstream-last-good = zuletzt gelesen
upstream-no-good = noch nie
upstream-failing-since = Fehlschläge seit
upstream-next = Nächster Versuch:
upstream-next-scheduled = Der nächste Versuch folgt dem Zeitplan.
upstream-fix = { $act ->
    [check] Was falsch ist und wie es sich beheben lässt, zeigt
    [forget] Den alten Namen gibt frei
    [look] Wer den Zugang verlöre, zeigt
    [release] Wenn es stimmt, hilft
   *[reject] Wenn es nicht stimmt, hilft
}

# Das Protokoll.
audit-title = Protokoll
audit-actor = Wer, beginnt mit
audit-action = Was, beginnt mit
audit-subject = Woran, beginnt mit
audit-since = Von
audit-until = Bis
audit-none = Noch wurde nichts getan.
audit-none-filtered = Nichts entspricht diesen Filtern.

# Formulare.
form-errors = Etwas stimmt noch nicht
form-name = Name
form-name-hint = Was das Token benutzt, etwa ci-deploy
form-name-missing = Ein Token braucht einen Namen. Nennen Sie, was es benutzt, etwa ci-deploy.
form-description = Beschreibung
form-account = Konto
form-account-hint = Leer für ein Token außerhalb aller Konten
form-role = Rolle
form-role-default = Wie meine
form-scopes = Scopes
form-scopes-hint = Ohne Scopes ist das Token nicht durch sie begrenzt.
form-scopes-other = Weitere Scopes, durch Leerzeichen getrennt
form-networks = Erlaubte Netze
form-networks-hint = Leer: Es gilt von überall
form-network-invalid = „{ $name }“ ist kein Netz. Schreiben Sie es als 192.0.2.0/24 oder 2001:db8::/32.
form-kind = Art
form-expires = Ablauf
form-expires-until = { $span }, bis
form-expires-same = So lange wie bisher
form-expires-date = An einem Tag
form-date = Tag
form-date-invalid = Das ist kein Tag. Wählen Sie einen im Kalender, oder schreiben Sie ihn als 2027-01-31.
form-expires-invalid = Das ist keine Zeitspanne.
form-expires-max = Der späteste Ablauf ist
form-expires-never = Nie
form-expires-never-hint = Ein Token, das nie abläuft, bleibt gefährlich, wenn es in falsche Hände gerät.
form-reason = Grund, für das Protokoll
new-token-title = Neues Token
new-token-button = Token erstellen
made-title = { $name }: das Geheimnis
made-new = Das Token ist erstellt.
made-again = Das Token hat ein neues Geheimnis.
made-once = Das Geheimnis wird nur jetzt gezeigt. Kopieren Sie es dorthin, wo es gebraucht wird; niemand kann es noch einmal zeigen.
made-leave = Das Geheimnis wird nur hier gezeigt. Trotzdem verlassen?
made-token = Token, als Bearer
made-forms = In anderen Formen
made-access-key = Zugriffsschlüssel
made-secret-key = Geheimer Schlüssel
made-env = Umgebungsvariablen
made-expires = Es läuft ab:
made-old-until = Das alte Geheimnis gilt bis
made-saved = Ich habe es gespeichert
already-made-title = Schon erstellt
already-made = Dieses Formular wurde schon gesendet und hat dabei ein Token erstellt. Sein Geheimnis wird nicht noch einmal gezeigt.
already-made-show = Token anzeigen
already-made-lost = Das Geheimnis ist verloren: erneuern
callers-last = Zuletzt benutzt
callers-calls = { $count ->
    [one] { $count } Aufruf in den letzten 24 Stunden
   *[other] { $count } Aufrufe in den letzten 24 Stunden
}
callers-from = von
regenerate-title = { $name } erneuern
regenerate-lead = Das Token erhält ein neues Geheimnis. Alles, was das alte benutzt, braucht das neue, bevor das alte endet.
regenerate-overlap = Das alte Geheimnis gilt weiter für
regenerate-overlap-hint = Zeit, um das neue Geheimnis überall einzutragen
overlap-none = Es endet jetzt
regenerate-leaked = Das alte Geheimnis ist in falschen Händen: Es endet jetzt
regenerate-button = Neues Geheimnis erstellen
edit-title = { $name } bearbeiten
edit-lead = Das Geheimnis bleibt gleich, ebenso der Ablauf.
edit-button = Speichern
disable-title = { $name } deaktivieren
disable-lead = Das Token gilt ab der nächsten Anfrage nicht mehr, bis es wieder aktiviert wird.
disable-button = Deaktivieren
enable-title = { $name } aktivieren
enable-lead = Das Token gilt sofort wieder.
enable-button = Aktivieren
revoke-title = { $name } widerrufen
revoke-lead = Das Token gilt ab der nächsten Anfrage nicht mehr. Das lässt sich nicht rückgängig machen.
revoke-unsure = Nicht sicher?
revoke-disable = Vorerst deaktivieren
revoke-why = Grund
revoke-name = Es wurde innerhalb eines Tages benutzt. Geben Sie zur Bestätigung seinen Namen ein:
revoke-name-wrong = Das ist nicht der Name des Tokens.
revoke-button = { $name } widerrufen
reason-value = { $reason ->
    [unused] Nicht mehr benutzt
    [leaked] Das Geheimnis ist in falschen Händen
    [left] Besitzer ist gegangen
   *[other] Ein anderer Grund
}
preferences-title = Einstellungen
preferences-saved = Ihre Einstellungen sind gespeichert.
preferences-default = Wie eingerichtet
preferences-warnings = Warnungen, bevor ein Token endet
preferences-warnings-value = { $value ->
    [default] Wie eingerichtet
    [own] Zu eigenen Zeiten
   *[none] Keine
}
preferences-configured = Eingerichtet:
preferences-steps = Eigene Zeiten
preferences-steps-hint = Etwa 30d 7d 12h: Tage oder Stunden vor dem Ende
preferences-steps-missing = Nennen Sie mindestens eine Zeit, etwa 7d, oder wählen Sie keine Warnungen.
preferences-always = Die letzte Warnung zu einem Token, das innerhalb von 7 Tagen benutzt wurde, lässt sich nicht abschalten: Es würde ohne Ankündigung nicht mehr gelten.
preferences-channel = Wo
preferences-channel-value = { $channel ->
    [mail] Nur per Mail
   *[account] Nur hier
}
preferences-language = Sprache
preferences-timezone = Zeitzone
preferences-timezone-hint = Etwa Europe/Vienna; ohne Angabe gilt { $name }
preferences-timezone-wrong = „{ $name }“ ist keine Zeitzone. Schreiben Sie sie als Europe/Vienna.
preferences-digest = Mails eines Tages kommen um
preferences-digest-hint = Ohne Uhrzeit wie eingerichtet
preferences-digest-wrong = Das ist keine Uhrzeit. Schreiben Sie sie als 09:00.
sessions-title = Sitzungen
sessions-lead = Wo Sie angemeldet sind. Eine Sitzung endet nach 8 Stunden ohne Gebrauch von selbst.
sessions-since = Angemeldet
sessions-this = Diese
sessions-end = Beenden
