### Times and numbers, in mails and on pages.

# Stands between groups of three digits: 1,204
digit-group = ,

## Days

# Sat
weekday = { $weekday ->
    [1] Mon
    [2] Tue
    [3] Wed
    [4] Thu
    [5] Fri
    [6] Sat
   *[7] Sun
}

# Nov
month = { $month ->
    [1] Jan
    [2] Feb
    [3] Mar
    [4] Apr
    [5] May
    [6] Jun
    [7] Jul
    [8] Aug
    [9] Sep
    [10] Oct
    [11] Nov
   *[12] Dec
}

# Sat 28 Nov 2026
day = { $weekday } { $day } { $month } { $year }

# Sat 28 Nov, in the current year
short-day = { $weekday } { $day } { $month }

## Times of day

# Sat 28 Nov 2026 at 10:00 CET
day-and-clock = { $day } at { $clock } { $zone }

# 09:00 UTC
clock-and-zone = { $clock } { $zone }

# A time in the reader's zone and the same one in UTC: Sat 28 Nov 2026 at 10:00 CET (09:00 UTC)
with-utc = { $time } ({ $utc })

## Spans of time

# 7 days
time-left = { $unit ->
    [days] { $count ->
        [one] { $count } day
       *[other] { $count } days
    }
    [hours] { $count ->
        [one] { $count } hour
       *[other] { $count } hours
    }
    [minutes] { $count ->
        [one] { $count } minute
       *[other] { $count } minutes
    }
    [part-of-a-day] less than a day
   *[seconds] less than a minute
}

# It ends in 7 days.
time-in = { $unit ->
    [days] { $count ->
        [one] in { $count } day
       *[other] in { $count } days
    }
    [hours] { $count ->
        [one] in { $count } hour
       *[other] in { $count } hours
    }
    [minutes] { $count ->
        [one] in { $count } minute
       *[other] in { $count } minutes
    }
    [part-of-a-day] in less than a day
   *[seconds] in less than a minute
}

# It ends within 7 days.
time-within = { $unit ->
    [days] { $count ->
        [one] within { $count } day
       *[other] within { $count } days
    }
    [hours] { $count ->
        [one] within { $count } hour
       *[other] within { $count } hours
    }
    [minutes] { $count ->
        [one] within { $count } minute
       *[other] within { $count } minutes
    }
    [part-of-a-day] within less than a day
   *[seconds] within a minute
}

# 7 days ago
time-ago = { $unit ->
    [years] { $count ->
        [one] { $count } year ago
       *[other] { $count } years ago
    }
    [months] { $count ->
        [one] { $count } month ago
       *[other] { $count } months ago
    }
    [weeks] { $count ->
        [one] { $count } week ago
       *[other] { $count } weeks ago
    }
    [days] { $count ->
        [one] { $count } day ago
       *[other] { $count } days ago
    }
    [hours] { $count ->
        [one] { $count } hour ago
       *[other] { $count } hours ago
    }
    [minutes] { $count ->
        [one] { $count } minute ago
       *[other] { $count } minutes ago
    }
    [part-of-a-day] less than a day ago
   *[seconds] just now
}
