/* eval_text.c: how near a text is to a reference. All figures lie between 0 and 1.
 * Sources: Popović 2015 (chrF), with n up to 6, β 2, white space left out; Lin 2004 (ROUGE), F measures without stemming; Rajpurkar et al.
 * 2016 (SQuAD's F1 over words, without articles and punctuation). */
#include "run/eval_int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ORDERS = 6, WORDS_MAX = 4096 };

static double f_measure(double precision, double recall, double beta) {
    double b = beta * beta;
    return precision + recall > 0 ? (1 + b) * precision * recall / (b * precision + recall) : 0;
}

/* ---- units: whole characters, or words, as views into a text ---- */
typedef struct units {
    str *p;
    size_t n;
} units;

static bool put_unit(units *u, str s) {
    size_t cap = u->n;
    if ((cap & (cap - 1)) == 0) { /* full at each power of two */
        str *more = mem_resize(u->p, cap ? 2 * cap : 1, sizeof *u->p);
        if (!more) return false;
        u->p = more;
    }
    u->p[u->n++] = s;
    return true;
}

static bool characters(str s, units *out) {
    while (s.n) {
        uint32_t cp;
        size_t k = utf8_decode(s.p, s.n, &cp);
        if (!py_is_space(cp) && !put_unit(out, str_sub(s, 0, k))) return false;
        s = str_sub(s, k, s.n - k);
    }
    return true;
}

static bool is_word_byte(char c, bool any_script) {
    return (any_script && (unsigned char)c >= 0x80) || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
}

/* Words of s, which is in small letters. ROUGE's are runs of a-z and 0-9 and nothing else, as the package rouge_score has it: on other scripts
 * chrF and F1 say more. F1's are SQuAD's: runs of letters of any script, without articles. */
static bool words(str s, bool f1, units *out) {
    for (size_t i = 0; i < s.n;) {
        while (i < s.n && !is_word_byte(s.p[i], f1)) i++;
        size_t from = i;
        while (i < s.n && is_word_byte(s.p[i], f1)) i++;
        str w = str_sub(s, from, i - from);
        if (!w.n || (f1 && (str_is(w, "a") || str_is(w, "an") || str_is(w, "the")))) continue;
        if (out->n < WORDS_MAX && !put_unit(out, w)) return false;
    }
    return true;
}

/* ---- n-grams, as sorted hashes ---- */
static int compare_hashes(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static size_t grams(const units *u, size_t order, uint64_t *out) {
    size_t n = u->n >= order ? u->n - order + 1 : 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t h = 14695981039346656037u; /* FNV-1a */
        for (size_t k = 0; k < order; k++) {
            for (size_t j = 0; j < u->p[i + k].n; j++) h = (h ^ (unsigned char)u->p[i + k].p[j]) * 1099511628211u;
            h = (h ^ 0x1f) * 1099511628211u; /* a border between units */
        }
        out[i] = h;
    }
    qsort(out, n, sizeof *out, compare_hashes);
    return n;
}

struct overlap {
    double precision, recall; /* 0 where a side has no n-grams */
    size_t n_got, n_want;
};

/* room: for the n-grams of both. */
static struct overlap compare(const units *got, const units *want, size_t order, uint64_t *room) {
    struct overlap o = {0};
    uint64_t *a = room, *b = room + got->n;
    size_t i = 0, j = 0, same = 0;
    o.n_got = grams(got, order, a);
    o.n_want = grams(want, order, b);
    while (i < o.n_got && j < o.n_want) {
        if (a[i] == b[j]) same++, i++, j++;
        else if (a[i] < b[j]) i++;
        else j++;
    }
    if (o.n_got) o.precision = (double)same / (double)o.n_got;
    if (o.n_want) o.recall = (double)same / (double)o.n_want;
    return o;
}

/* The longest common subsequence of words. room: 2 (want->n + 1) numbers. */
static size_t longest_common(const units *got, const units *want, size_t *room) {
    size_t *above = room, *row = room + want->n + 1;
    memset(room, 0, 2 * (want->n + 1) * sizeof *room);
    for (size_t i = 0; i < got->n; i++) {
        for (size_t j = 0; j < want->n; j++) row[j + 1] = str_eq(got->p[i], want->p[j]) ? above[j] + 1 : MAX(above[j + 1], row[j]);
        size_t *t = above;
        above = row;
        row = t;
    }
    return above[want->n];
}

static double chrf(const units *got, const units *want, uint64_t *room) {
    double precision = 0, recall = 0;
    size_t orders = 0;
    for (size_t n = 1; n <= ORDERS; n++) {
        struct overlap o = compare(got, want, n, room);
        if (!o.n_got || !o.n_want) continue;
        precision += o.precision;
        recall += o.recall;
        orders++;
    }
    return orders ? f_measure(precision / (double)orders, recall / (double)orders, 2) : 0;
}

static double gram_f(const units *got, const units *want, size_t n, uint64_t *room) {
    struct overlap o = compare(got, want, n, room);
    return f_measure(o.precision, o.recall, 1);
}

mote_status eval_text_scores(str got, str want, eval_scores *out, mote_error *err) {
    units u[6] = {0}; /* characters, words, words without articles; of both */
    buf small[2];
    uint64_t *room = NULL;
    bool ok = true;
    mote_status s = MOTE_OK;
    for (int i = 0; i < 2; i++) {
        str t = i ? want : got;
        buf_init(&small[i], (size_t)64 << 20);
        py_lower(&small[i], t);
        ok = ok && buf_check(&small[i], "a text", NULL) == MOTE_OK && characters(t, &u[i]) && words(buf_str(&small[i]), false, &u[2 + i]) &&
             words(buf_str(&small[i]), true, &u[4 + i]);
    }
    size_t most = MAX(u[0].n + u[1].n, 2 * (u[3].n + 1));
    if (ok) room = MEM_NEW_N(uint64_t, most ? most : 1);
    if (!room) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    out->chrf = chrf(&u[0], &u[1], room);
    out->rouge1 = gram_f(&u[2], &u[3], 1, room);
    out->rouge2 = gram_f(&u[2], &u[3], 2, room);
    out->f1 = u[4].n + u[5].n == 0 ? 1 : gram_f(&u[4], &u[5], 1, room);
    double common = (double)longest_common(&u[2], &u[3], (size_t *)(void *)room);
    out->rougeL = u[2].n && u[3].n ? f_measure(common / (double)u[2].n, common / (double)u[3].n, 1) : 0;
out:
    for (int i = 0; i < 6; i++) mem_free(u[i].p);
    for (int i = 0; i < 2; i++) buf_free(&small[i]);
    mem_free(room);
    return s;
}

/* ---- tasks ---- */
mote_status eval_judge_text(const eval_item *it, str answer, double *values, json_t *details, mote_error *err) {
    eval_scores sc;
    (void)details;
    TRY(eval_text_scores(py_strip(answer), it->answer, &sc, err));
    values[0] = sc.chrf;
    values[1] = sc.rouge1;
    values[2] = sc.rouge2;
    values[3] = sc.rougeL;
    values[4] = sc.f1;
    return MOTE_OK;
}

/* How many (path, value) pairs of a are in b too, and how many a has. */
static void count_fields(const json_t *a, const json_t *b, size_t *same, size_t *all, int depth) {
    const char *key;
    json_t *v;
    size_t i;
    if (depth > 16) return;
    if (json_is_object(a)) {
        json_object_foreach((json_t *)(uintptr_t)a, key, v) count_fields(v, json_object_get(b, key), same, all, depth + 1);
        return;
    }
    if (json_is_array(a)) {
        json_array_foreach(a, i, v) count_fields(v, json_array_get(b, i), same, all, depth + 1);
        return;
    }
    (*all)++;
    bool equal = json_equal(a, b);
    if (json_is_string(a) && json_is_string(b)) {
        str x = py_strip((str){json_string_value(a), json_string_length(a)}), y = py_strip((str){json_string_value(b), json_string_length(b)});
        equal = x.n == y.n && strncasecmp(x.p, y.p, x.n) == 0;
    } else if (json_is_number(a) && json_is_number(b)) equal = json_number_value(a) == json_number_value(b);
    *same += equal;
}

/* The first JSON object in a text: from a brace to the one that closes it. */
static json_t *find_object(str s) {
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] != '{') continue;
        int depth = 0;
        bool quoted = false;
        for (size_t j = i; j < s.n; j++) {
            char c = s.p[j];
            if (quoted && c == '\\') j++;
            else if (c == '"') quoted = !quoted;
            else if (!quoted && c == '{') depth++;
            else if (!quoted && c == '}' && --depth == 0) {
                json_t *v = NULL;
                return json_parse(&v, str_sub(s, i, j + 1 - i), "an answer", NULL) == MOTE_OK ? v : NULL;
            }
        }
        return NULL;
    }
    return NULL;
}

/* F1 over fields: right ones of those that were given, and of those that were wanted. */
mote_status eval_judge_extract(const eval_item *it, str answer, double *values, json_t *details, mote_error *err) {
    const json_t *want = json_object_get(it->doc, "expected");
    size_t right = 0, wanted = 0, given_right = 0, given = 0;
    json_t *got = find_object(answer);
    (void)details;
    (void)err;
    count_fields(want, got, &right, &wanted, 0);
    if (got) count_fields(got, want, &given_right, &given, 0);
    values[0] = given && wanted ? f_measure((double)given_right / (double)given, (double)right / (double)wanted, 1) : 0;
    values[1] = got && json_equal(got, want);
    values[2] = got != NULL;
    json_decref(got);
    return MOTE_OK;
}

/* The number that was hidden stands in the answer. */
mote_status eval_judge_needle(const eval_item *it, str answer, double *values, json_t *details, mote_error *err) {
    (void)details;
    (void)err;
    values[0] = 0;
    for (size_t i = 0; i + it->answer.n <= answer.n; i++)
        if (memcmp(answer.p + i, it->answer.p, it->answer.n) == 0) values[0] = 1;
    return MOTE_OK;
}
