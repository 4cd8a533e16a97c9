/* jinja_time.c: strftime without locale, time zone or environment: C's conversions in English, with glibc's
 * flags (-, 0, _, ^) because templates use "%-d". */
#include "chat/jinja_int.h"

#include <stdio.h>

static const char *const days[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
static const char *const months[] = {"January", "February", "March", "April", "May", "June", "July",
                                     "August", "September", "October", "November", "December"};

/* Day of the week (0 = Sunday) and of the year (0 = 1 January) from the date alone. */
static int weekday(int y, int m, int d) {
    static const int t[] = {0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4};
    y -= m < 3;
    return (y + y / 4 - y / 100 + y / 400 + t[m - 1] + d) % 7;
}

static bool leap(int y) { return (y % 4 == 0 && y % 100 != 0) || y % 400 == 0; }

static int year_day(int y, int m, int d) {
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    return before[m - 1] + (m > 2 && leap(y)) + d - 1;
}

/* ISO 8601 week number and its year. */
static int iso_week(int y, int yday, int wday, int *iso_year) {
    int monday = (wday + 6) % 7, week = (yday - monday + 10) / 7;
    *iso_year = y;
    if (week < 1) {
        *iso_year = y - 1;
        int days_before = 365 + leap(y - 1);
        return iso_week(y - 1, yday + days_before, wday, iso_year);
    }
    int last = 365 + leap(y) - 1, jan1_next = (wday + (last + 1 - yday)) % 7; /* weekday of the next 1 January */
    if (week == 53 && jan1_next >= 1 && jan1_next <= 4) {
        *iso_year = y + 1;
        return 1;
    }
    return week;
}

static void number(char *out, size_t cap, long long v, int width, char pad, char flag) {
    if (flag == '-') width = 0;
    if (flag == '_') pad = ' ';
    if (flag == '0') pad = '0';
    (void)snprintf(out, cap, pad == '0' ? "%0*lld" : "%*lld", width, v);
}

/* Seconds since 1970 of the date taken as UTC. */
static long long epoch(const struct tm *t) {
    long long y = t->tm_year + 1900, m = t->tm_mon + 1;
    y -= m <= 2;
    long long era = y / 400, yoe = y - era * 400, doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + t->tm_mday - 1;
    long long doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    return ((era * 146097 + doe - 719468) * 24 + t->tm_hour) * 3600 + t->tm_min * 60 + t->tm_sec;
}

/* A conversion that stands for others. */
static const char *compound(char c) {
    switch (c) {
    case 'c': return "%a %b %e %H:%M:%S %Y";
    case 'D':
    case 'x': return "%m/%d/%y";
    case 'F': return "%Y-%m-%d";
    case 'R': return "%H:%M";
    case 'r': return "%I:%M:%S %p";
    case 'T':
    case 'X': return "%H:%M:%S";
    default: return NULL;
    }
}

/* One conversion into out; false when c is none. */
static bool convert(const struct tm *t, char c, char flag, char *out, size_t cap) {
    int y = t->tm_year + 1900, m = t->tm_mon + 1, d = t->tm_mday, h12 = (t->tm_hour + 11) % 12 + 1, iso_year;
    int wd = weekday(y, m, d), yd = year_day(y, m, d);
    int week = iso_week(y, yd, wd, &iso_year);
    switch (c) {
    case 'Y': number(out, cap, y, 4, '0', flag); return true;
    case 'C': number(out, cap, y / 100, 2, '0', flag); return true;
    case 'y': number(out, cap, y % 100, 2, '0', flag); return true;
    case 'G': number(out, cap, iso_year, 4, '0', flag); return true;
    case 'g': number(out, cap, iso_year % 100, 2, '0', flag); return true;
    case 'm': number(out, cap, m, 2, '0', flag); return true;
    case 'd': number(out, cap, d, 2, '0', flag); return true;
    case 'e': number(out, cap, d, 2, ' ', flag); return true;
    case 'H': number(out, cap, t->tm_hour, 2, '0', flag); return true;
    case 'k': number(out, cap, t->tm_hour, 2, ' ', flag); return true;
    case 'I': number(out, cap, h12, 2, '0', flag); return true;
    case 'l': number(out, cap, h12, 2, ' ', flag); return true;
    case 'M': number(out, cap, t->tm_min, 2, '0', flag); return true;
    case 'S': number(out, cap, t->tm_sec, 2, '0', flag); return true;
    case 'f': number(out, cap, 0, 6, '0', 0); return true;
    case 'j': number(out, cap, yd + 1, 3, '0', flag); return true;
    case 'u': number(out, cap, wd ? wd : 7, 1, '0', flag); return true;
    case 'w': number(out, cap, wd, 1, '0', flag); return true;
    case 'U': number(out, cap, (yd + 7 - wd) / 7, 2, '0', flag); return true;
    case 'W': number(out, cap, (yd + 7 - (wd + 6) % 7) / 7, 2, '0', flag); return true;
    case 'V': number(out, cap, week, 2, '0', flag); return true;
    case 's': number(out, cap, epoch(t), 1, '0', flag); return true;
    case 'A': (void)snprintf(out, cap, "%s", days[wd]); return true;
    case 'a': (void)snprintf(out, cap, "%.3s", days[wd]); return true;
    case 'B': (void)snprintf(out, cap, "%s", months[m - 1]); return true;
    case 'b':
    case 'h': (void)snprintf(out, cap, "%.3s", months[m - 1]); return true;
    case 'p': (void)snprintf(out, cap, "%s", t->tm_hour < 12 ? "AM" : "PM"); return true;
    case 'P': (void)snprintf(out, cap, "%s", t->tm_hour < 12 ? "am" : "pm"); return true;
    case 'n': (void)snprintf(out, cap, "\n"); return true;
    case 't': (void)snprintf(out, cap, "\t"); return true;
    case '%': (void)snprintf(out, cap, "%%"); return true;
    case 'Z':
    case 'z': out[0] = 0; return true; /* the time has no zone, as Python's datetime.now() */
    default: return false;
    }
}

static void format_time(jbuild *b, str f, const struct tm *t, bool content) {
    for (size_t i = 0; i < f.n; i++) {
        char c = f.p[i], flag = 0, one[64];
        if (c != '%' || i + 1 == f.n) {
            jinja_build_put(b, &c, 1, content);
            continue;
        }
        size_t k = i + 1;
        if (k + 1 < f.n && strchr("-_0^#", f.p[k])) flag = f.p[k++];
        const char *whole = compound(f.p[k]);
        if (whole) format_time(b, str_of(whole), t, content);
        else if (convert(t, f.p[k], flag, one, sizeof one)) {
            for (char *p = one; flag == '^' && *p; p++)
                if (*p >= 'a' && *p <= 'z') *p = (char)(*p - 32);
            jinja_build_put(b, one, strlen(one), content);
        } else jinja_build_put(b, f.p + i, k - i + 1, content);
        i = k;
    }
}

mote_status jinja_strftime(jvm *vm, const jstr *fmt, const struct tm *t, jval *out) {
    jbuild b;
    struct tm now = *t;
    jinja_build_init(&b, vm);
    if (now.tm_mon < 0 || now.tm_mon > 11 || now.tm_year < -1900) RAISE(vm, "the current time is out of range");
    format_time(&b, jview_of(fmt), &now, jinja_str_any_content(fmt));
    return jinja_build_done(&b, out);
}
