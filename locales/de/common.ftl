### Zeiten und Zahlen, in Mails und auf Seiten.

# Steht zwischen Gruppen aus drei Ziffern: 1.204
digit-group = .

## Tage

# Sa.
weekday = { $weekday ->
    [1] Mo.
    [2] Di.
    [3] Mi.
    [4] Do.
    [5] Fr.
    [6] Sa.
   *[7] So.
}

# Nov.
month = { $month ->
    [1] Jan.
    [2] Feb.
    [3] März
    [4] Apr.
    [5] Mai
    [6] Juni
    [7] Juli
    [8] Aug.
    [9] Sep.
    [10] Okt.
    [11] Nov.
   *[12] Dez.
}

# Sa., 28. Nov. 2026
day = { $weekday }, { $day }. { $month } { $year }

# Sa., 28. Nov., im laufenden Jahr
short-day = { $weekday }, { $day }. { $month }

## Uhrzeiten

# Sa., 28. Nov. 2026 um 10:00 Uhr CET
day-and-clock = { $day } um { $clock } Uhr { $zone }

# 09:00 UTC
clock-and-zone = { $clock } { $zone }

# Eine Zeit in der Zone der lesenden Person und dieselbe in UTC: Sa., 28. Nov. 2026 um 10:00 Uhr CET (09:00 UTC)
with-utc = { $time } ({ $utc })

## Zeitspannen

# 7 Tage
time-left = { $unit ->
    [days] { $count ->
        [one] { $count } Tag
       *[other] { $count } Tage
    }
    [hours] { $count ->
        [one] { $count } Stunde
       *[other] { $count } Stunden
    }
    [minutes] { $count ->
        [one] { $count } Minute
       *[other] { $count } Minuten
    }
    [part-of-a-day] weniger als ein Tag
   *[seconds] weniger als eine Minute
}

# Es endet in 7 Tagen.
time-in = { $unit ->
    [days] { $count ->
        [one] in { $count } Tag
       *[other] in { $count } Tagen
    }
    [hours] { $count ->
        [one] in { $count } Stunde
       *[other] in { $count } Stunden
    }
    [minutes] { $count ->
        [one] in { $count } Minute
       *[other] in { $count } Minuten
    }
    [part-of-a-day] in weniger als einem Tag
   *[seconds] in weniger als einer Minute
}

# Es endet innerhalb von 7 Tagen.
time-within = { $unit ->
    [days] { $count ->
        [one] innerhalb eines Tages
       *[other] innerhalb von { $count } Tagen
    }
    [hours] { $count ->
        [one] innerhalb einer Stunde
       *[other] innerhalb von { $count } Stunden
    }
    [minutes] { $count ->
        [one] innerhalb einer Minute
       *[other] innerhalb von { $count } Minuten
    }
    [part-of-a-day] innerhalb von weniger als einem Tag
   *[seconds] innerhalb einer Minute
}

# vor 7 Tagen
time-ago = { $unit ->
    [years] { $count ->
        [one] vor { $count } Jahr
       *[other] vor { $count } Jahren
    }
    [months] { $count ->
        [one] vor { $count } Monat
       *[other] vor { $count } Monaten
    }
    [weeks] { $count ->
        [one] vor { $count } Woche
       *[other] vor { $count } Wochen
    }
    [days] { $count ->
        [one] vor { $count } Tag
       *[other] vor { $count } Tagen
    }
    [hours] { $count ->
        [one] vor { $count } Stunde
       *[other] vor { $count } Stunden
    }
    [minutes] { $count ->
        [one] vor { $count } Minute
       *[other] vor { $count } Minuten
    }
    [part-of-a-day] vor weniger als einem Tag
   *[seconds] gerade eben
}
