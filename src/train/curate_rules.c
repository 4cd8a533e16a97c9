/* curate_rules.c: does this read like a text, in the wanted script and language?
 * Source: Rae et al. 2021 ("Gopher"), appendix A1.1, for the strict rules. */
#include "train/curate.h"

#include <stdlib.h>

#define SCRIPT_SHARE 0.8
#define GRAM 5

void words_free(words *w) {
    mem_free(w->hash);
    mem_free(w->from);
    mem_free(w->len);
    *w = (words){0};
}

static bool alone(uint32_t cp) { return (cp >= 0x2E80 && cp < 0xA000) || (cp >= 0x0E00 && cp < 0x0F00) || (cp >= 0x20000 && cp < 0x30000); }

static bool in_word(uint32_t cp) {
    if (cp < 0x80) return (cp >= '0' && cp <= '9') || ((cp | 32) >= 'a' && (cp | 32) <= 'z');
    return cp >= 0xC0 && cp != UTF8_BAD && !(cp >= 0x2000 && cp < 0x2070) && !(cp >= 0x3000 && cp < 0x3010) && cp != 0xFEFF && cp != 0xD7 && cp != 0xF7;
}

static mote_status put_word(words *w, uint64_t hash, size_t from, size_t end, mote_error *err) {
    TRY(mem_grow(&w->hash, &w->cap, w->n + 1, sizeof *w->hash, UINT32_MAX, err));
    TRY(mem_grow(&w->from, &w->cap_from, w->n + 1, sizeof *w->from, UINT32_MAX, err));
    TRY(mem_grow(&w->len, &w->cap_len, w->n + 1, sizeof *w->len, UINT32_MAX, err));
    w->hash[w->n] = hash ^ hash >> 29;
    w->from[w->n] = (uint32_t)from;
    w->len[w->n++] = (uint32_t)(end - from);
    return MOTE_OK;
}

mote_status words_of(words *w, str text, mote_error *err) {
    const uint64_t start = 0xcbf29ce484222325u;
    uint64_t h = start;
    size_t from = 0;
    bool inside = false;
    w->n = 0;
    if (text.n > UINT32_MAX) FAIL(err, MOTE_E_LIMIT, "a document of %zu bytes", text.n);
    for (size_t i = 0; i < text.n;) {
        uint32_t cp;
        size_t n = utf8_decode(text.p + i, text.n - i, &cp);
        bool word = in_word(cp), single = word && alone(cp);
        if (inside && (!word || single)) {
            TRY(put_word(w, h, from, i, err));
            inside = false;
        }
        if (word && !inside) from = i, h = start;
        if (word) {
            if (cp >= 'A' && cp <= 'Z') cp |= 32;
            h = (h ^ cp) * 0x100000001b3u;
            inside = true;
        }
        i += n;
        if (single) {
            TRY(put_word(w, h, from, i, err));
            inside = false;
        }
    }
    return inside ? put_word(w, h, from, text.n, err) : MOTE_OK;
}

uint64_t words_gram(const words *w, size_t at, size_t n) {
    uint64_t h = 0x9E3779B97F4A7C15u;
    for (size_t i = 0; i < n; i++) h = (h ^ w->hash[at + i]) * 0xff51afd7ed558ccdu, h ^= h >> 32;
    return h;
}

/* ---- scripts and languages ---- */

static const struct script {
    const char *name;
    uint32_t spans[4][2];
} scripts[] = {
    {"latin", {{'A', 0x24F}, {0x1E00, 0x1EFF}}},   {"greek", {{0x370, 0x3FF}, {0x1F00, 0x1FFF}}}, {"cyrillic", {{0x400, 0x52F}}},
    {"hebrew", {{0x590, 0x5FF}}},                  {"arabic", {{0x600, 0x6FF}, {0x750, 0x77F}}}, {"devanagari", {{0x900, 0x97F}}},
    {"thai", {{0xE00, 0xE7F}}},                    {"hangul", {{0x1100, 0x11FF}, {0xAC00, 0xD7AF}}},
    {"kana", {{0x3040, 0x30FF}}},                  {"han", {{0x4E00, 0x9FFF}, {0x3400, 0x4DBF}, {0x20000, 0x2FFFF}}},
};

/* Words that hardly a sentence does without, and the other languages hardly have. */
static const struct language {
    const char *name, *words;
} languages[] = {
    {"en", "the of and to that is was with for it as be by this are from his at which have they you an had what were"},
    {"de", "der die und das ist nicht ein eine zu den mit sich auf von dem auch wie wird bei nach aus oder sind ich"},
    {"fr", "le les des et une est que dans qui pour pas sur avec ce il au du plus par sont cette mais nous vous"},
    {"es", "el los las una que y en por con para como del al pero sus este entre cuando muy sin sobre todo hay fue"},
    {"it", "il che di la un una per non sono con come della nel dei gli alla anche pi\xC3\xB9 ma questo del ha essere si"},
    {"pt", "o os uma que do da em para com n\xC3\xA3o dos das mas ao pelo s\xC3\xA3o foi tem mais seu sua quando muito ser"},
    {"nl", "de het een en van is dat op te zijn voor met niet die aan er ook als maar bij naar werd door heeft"},
};

static const struct script *find_script(const char *name) {
    for (size_t i = 0; i < COUNT_OF(scripts); i++)
        if (strcmp(scripts[i].name, name) == 0) return &scripts[i];
    return NULL;
}

static const struct language *find_language(const char *name) {
    for (size_t i = 0; i < COUNT_OF(languages); i++)
        if (strcmp(languages[i].name, name) == 0) return &languages[i];
    return NULL;
}

mote_status curate_check(const mote_data_options *o, mote_error *err) {
    if (o->script && !find_script(o->script))
        FAIL(err, MOTE_E_USAGE, "unknown script '%.40s'; latin, greek, cyrillic, hebrew, arabic, devanagari, thai, hangul, kana, han", o->script);
    if (o->language && !find_language(o->language)) FAIL(err, MOTE_E_USAGE, "unknown language '%.40s'; en, de, fr, es, it, pt, nl", o->language);
    if (!(o->near >= 0 && o->near <= 1)) FAIL(err, MOTE_E_RANGE, "a similarity of %g; expected 0 to 1", o->near);
    if ((o->order == MOTE_DATA_BY_LOSS || o->max_loss > 0) && !o->model) FAIL(err, MOTE_E_USAGE, "the loss needs a model to measure it with");
    return MOTE_OK;
}

static bool script_fits(const struct script *s, str text) {
    size_t in = 0, all = 0;
    for (size_t i = 0; i < text.n;) {
        uint32_t cp;
        i += utf8_decode(text.p + i, text.n - i, &cp);
        if (!in_word(cp) || (cp >= '0' && cp <= '9')) continue;
        all++;
        for (size_t k = 0; k < COUNT_OF(s->spans); k++) in += cp >= s->spans[k][0] && cp <= s->spans[k][1] && s->spans[k][1];
    }
    return (double)in >= SCRIPT_SHARE * (double)all;
}

/* How many of the text's words are among the language's common ones. */
static size_t common(const char *list, str text, const words *w) {
    size_t hits = 0;
    for (size_t i = 0; i < w->n; i++) {
        char word[24];
        if (w->len[i] > 20) continue;
        for (size_t k = 0; k < w->len[i]; k++) {
            char c = text.p[w->from[i] + k];
            word[k] = c >= 'A' && c <= 'Z' ? (char)(c | 32) : c;
        }
        word[w->len[i]] = 0;
        for (const char *p = list; (p = strstr(p, word)); p++) {
            if ((p != list && p[-1] != ' ') || (p[w->len[i]] && p[w->len[i]] != ' ')) continue;
            hits++;
            break;
        }
    }
    return hits;
}

static bool language_fits(const struct language *l, str text, const words *w) {
    size_t wanted = common(l->words, text, w);
    for (size_t i = 0; i < COUNT_OF(languages); i++)
        if (&languages[i] != l && common(languages[i].words, text, w) > wanted) return false;
    return wanted * 50 >= w->n;
}

/* ---- repetition ---- */

static int by_value(const void *a, const void *b) {
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

/* The share of the words' letters that stand in sequences of GRAM words which came before. */
static double repeated_share(const words *w) {
    if (w->n < 2 * GRAM) return 0;
    size_t n = w->n - GRAM + 1, cap = 1, seen_to = 0;
    while (cap < 2 * n) cap *= 2;
    uint64_t *set = MEM_NEW_N(uint64_t, cap);
    if (!set) return 0;
    double again = 0, all = 0;
    for (size_t i = 0; i < w->n; i++) all += w->len[i];
    for (size_t i = 0; i < n; i++) {
        uint64_t h = words_gram(w, i, GRAM) | 1;
        size_t at = h & (cap - 1);
        while (set[at] && set[at] != h) at = (at + 1) & (cap - 1);
        if (set[at] == h) {
            for (size_t k = MAX(i, seen_to); k < i + GRAM; k++) again += w->len[k];
            seen_to = i + GRAM;
        }
        set[at] = h;
    }
    mem_free(set);
    return all > 0 ? again / all : 0;
}

/* The share of lines that occur twice or more. */
static double repeated_lines(str text) {
    size_t n = 0, cap = 1, again = 0;
    for (size_t i = 0; i < text.n; i++) cap += text.p[i] == '\n';
    uint64_t *lines = MEM_NEW_N(uint64_t, cap);
    if (!lines) return 0;
    for (size_t i = 0; i < text.n;) {
        size_t end = MIN(str_find(text, STR("\n"), i), text.n);
        if (end > i + 1) lines[n++] = str_hash(str_sub(text, i, end - i));
        i = end + 1;
    }
    qsort(lines, n, sizeof *lines, by_value);
    for (size_t i = 1; i < n; i++) again += lines[i] == lines[i - 1];
    mem_free(lines);
    return n ? (double)again / (double)n : 0;
}

/* ---- quality ---- */

typedef struct counts {
    size_t chars, letters, symbols, lines, bullets, ellipses;
    double word_len;    /* mean, in characters */
    size_t lettered;    /* words with a letter */
} counts;

static counts count(str text, const words *w) {
    counts c = {0};
    bool begin = true;
    for (size_t i = 0; i < text.n;) {
        uint32_t cp;
        size_t n = utf8_decode(text.p + i, text.n - i, &cp);
        c.chars += cp != ' ' && cp != '\n' && cp != '\t' && cp != '\r';
        c.letters += in_word(cp);
        c.symbols += cp == '#' || cp == 0x2026 || (cp == '.' && text.n - i > 2 && text.p[i + 1] == '.' && text.p[i + 2] == '.');
        if (begin && cp != ' ' && cp != '\t') {
            c.lines++;
            c.bullets += cp == '-' || cp == '*' || cp == 0x2022;
            begin = false;
        }
        if (cp == '\n') {
            c.ellipses += i >= 3 && (memcmp(text.p + i - 3, "...", 3) == 0 || memcmp(text.p + i - 3, "\xE2\x80\xA6", 3) == 0);
            begin = true;
        }
        i += n;
    }
    size_t chars = 0;
    for (size_t i = 0; i < w->n; i++) {
        bool lettered = false;
        for (size_t k = 0; k < w->len[i]; k++) {
            unsigned char b = (unsigned char)text.p[w->from[i] + k];
            lettered |= b < '0' || b > '9';
            chars += (b & 0xC0) != 0x80;
        }
        c.lettered += lettered;
    }
    c.word_len = w->n ? (double)chars / (double)w->n : 0;
    return c;
}

static bool reads_like_text(const mote_data_options *o, str text, const words *w) {
    if (o->quality == MOTE_DATA_ANY) return true;
    counts c = count(text, w);
    double n = (double)w->n;
    if ((double)c.letters < 0.4 * (double)c.chars || c.word_len > 25) return false;
    if (o->quality == MOTE_DATA_GENTLE) return true;
    return n >= 50 && c.word_len >= 3 && c.word_len <= 10 && (double)c.symbols <= 0.1 * n && (double)c.bullets <= 0.9 * (double)c.lines &&
           (double)c.ellipses <= 0.3 * (double)c.lines && (double)c.lettered >= 0.8 * n && common("the be to of and that have with", text, w) >= 2;
}

mote_data_reason curate_judge(const mote_data_options *o, str text, const words *w) {
    bool gopher = o->quality == MOTE_DATA_GOPHER;
    if (w->n < (o->min_words ? o->min_words : 8)) return MOTE_DATA_SHORT;
    if (o->max_words && w->n > o->max_words) return MOTE_DATA_LONG;
    if (o->script && !script_fits(find_script(o->script), text)) return MOTE_DATA_SCRIPT;
    if (o->language && !language_fits(find_language(o->language), text, w)) return MOTE_DATA_LANGUAGE;
    if (!reads_like_text(o, text, w)) return MOTE_DATA_QUALITY;
    double most = o->max_repetition > 0 ? o->max_repetition : gopher ? 0.15 : 0.3;
    if (o->quality != MOTE_DATA_ANY && repeated_share(w) > most) return MOTE_DATA_REPEATS;
    if (gopher && repeated_lines(text) > 0.3) return MOTE_DATA_REPEATS;
    return MOTE_DATA_REASONS;
}
