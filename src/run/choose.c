/* choose.c: labels and spans by their probabilities.
 *
 * Everything is a continuation of one prefix, which is computed once; each candidate is fed behind it and cut off again. Spans that begin at the
 * same word are one feed: the logits after each token tell how likely the next word is, and how likely the end. A span is never likelier than
 * its first token, so beginnings are tried in that order until none can win any more: the result is that of trying all. Several fields are filled by a
 * beam search over their spans. */
#include "run/choosing.h"

#include "run/eval_tasks.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>

enum { WORDS_MAX = 16 /* of a span */, BEAM = 3 /* fillings of the fields that are followed */, SPAN_TOKENS_MAX = 96, LABEL_BYTES_MAX = 256 };
static const char nothing[] = "N/A"; /* the text that says nothing */
static const char *const asked_for[] = {"Category", "Topic"}; /* how a label is asked for: how well one word does is chance, so they share the vote */

typedef struct chooser {
    mote_session *s;
    size_t seq;
    size_t n_prefix;
    float *first; /* [n_vocab] logits behind the prefix */
    float *rows;  /* [SPAN_TOKENS_MAX, n_vocab] */
    tok_ids colon; /* what every piece stands behind */
} chooser;

static void chooser_close(chooser *c) {
    mem_free(c->first);
    mem_free(c->rows);
    tok_ids_free(&c->colon);
}

static mote_status chooser_open(chooser *c, mote_session *s, size_t seq, mote_error *err) {
    const tok_vocab *v; /* a model without a tokenizer says why */
    TRY(run_vocab(s->model, &v, err));
    *c = (chooser){.s = s, .seq = seq, .first = MEM_NEW_N(float, s->n_vocab), .rows = mem_calloc(SPAN_TOKENS_MAX, s->n_vocab * sizeof(float))};
    mote_status st = c->first && c->rows ? tok_encode(v, STR(":"), 0, &c->colon, err) : ERR(err, MOTE_E_MEMORY, "out of memory for logits");
    if (st != MOTE_OK) chooser_close(c);
    return st;
}

/* What a stranger wrote is text and never a control token. */
static mote_status encode(const chooser *c, str text, tok_ids *out, mote_error *err) { return run_encode_prompt(c->s->model, text, 0, out, err); }

/* The ids of a piece of text as it stands behind the prefix's colon: some tokenizers put a space before whatever comes first. */
static mote_status encode_behind(const chooser *c, const char *p, size_t n, tok_ids *out, mote_error *err) {
    const tok_ids *colon = &c->colon;
    buf b;
    mote_status st;
    buf_init(&b, TOK_TEXT_BYTES_MAX);
    buf_putc(&b, ':');
    buf_put(&b, p, n);
    TRYG(st, buf_check(&b, "a piece of text", err));
    out->n = 0;
    TRYG(st, tok_encode(c->s->model->vocab, buf_str(&b), 0, out, err));
    if (out->n <= colon->n || memcmp(out->p, colon->p, colon->n * sizeof *out->p) != 0) FAILG(st, err, MOTE_E_UNSUPPORTED, "the tokenizer joins a colon with what follows");
    out->n -= colon->n;
    memmove(out->p, out->p + colon->n, out->n * sizeof *out->p);
out:
    buf_free(&b);
    return st;
}

static mote_status set_prefix(chooser *c, str text, mote_error *err) {
    size_t reused;
    tok_ids ids = {0};
    mote_status st;
    TRYG(st, encode(c, text, &ids, err));
    if (ids.n + SPAN_TOKENS_MAX > c->s->n_ctx)
        FAILG(st, err, MOTE_E_CONTEXT, "a text of %zu tokens, and room for an answer, do not fit the context of %zu", ids.n, c->s->n_ctx);
    TRYG(st, run_prompt(c->s, c->seq, ids.p, ids.n, &reused, err));
    const float *logits = run_logits(c->s, c->seq);
    if (!logits) FAILG(st, err, MOTE_E_OUTPUT, "there are no logits behind the text");
    memcpy(c->first, logits, c->s->n_vocab * sizeof *logits);
    c->n_prefix = ids.n;
out:
    tok_ids_free(&ids);
    return st;
}

static double log_p(const chooser *c, const float *row, int32_t id) {
    eval_likelihood l;
    eval_score_rows(row, c->s->n_vocab, &id, 1, &l);
    return l.sum;
}

/* c->rows: the logits behind each of the n ids, which follow the prefix. */
static mote_status try_ids(chooser *c, const int32_t *ids, size_t n, mote_error *err) {
    TRY(run_truncate(c->s, c->seq, c->n_prefix, err));
    return run_feed_all(c->s, &(run_feed){.seq = c->seq, .ids = ids, .n = n, .all = c->rows}, 1, err);
}

/* ---- labels ---- */

static mote_status label_log_p(chooser *c, const char *label, double *out, mote_error *err) {
    tok_ids ids = {0};
    char text[LABEL_BYTES_MAX];
    const int n = snprintf(text, sizeof text, " %s", label);
    mote_status st;
    if (n >= LABEL_BYTES_MAX) FAIL(err, MOTE_E_USAGE, "a label of %d bytes: expected less than %d", n - 1, LABEL_BYTES_MAX - 1);
    TRYG(st, encode_behind(c, text, (size_t)n, &ids, err));
    if (ids.n > SPAN_TOKENS_MAX) FAILG(st, err, MOTE_E_USAGE, "a label of %zu tokens: expected 1 to %d", ids.n, SPAN_TOKENS_MAX);
    *out = log_p(c, c->first, ids.p[0]);
    if (ids.n > 1) TRYG(st, try_ids(c, ids.p, ids.n - 1, err));
    for (size_t i = 1; i < ids.n; i++) *out += log_p(c, c->rows + (i - 1) * c->s->n_vocab, ids.p[i]);
out:
    tok_ids_free(&ids);
    return st;
}

/* Adds sign × log P(label | text, what is asked for) to each. */
static mote_status add_labels(chooser *c, const char *what, str text, const char *const *labels, size_t n, double sign, double *sum, mote_error *err) {
    buf b;
    buf_init(&b, TOK_TEXT_BYTES_MAX);
    buf_printf(&b, "Text: %.*s\n%s:", STR_ARG(text), what);
    mote_status st = buf_check(&b, "a text", err);
    if (st == MOTE_OK) st = set_prefix(c, buf_str(&b), err);
    for (size_t i = 0; i < n && st == MOTE_OK; i++) {
        double l = 0;
        st = label_log_p(c, labels[i], &l, err);
        if (st == MOTE_OK) sum[i] += sign * l;
    }
    buf_free(&b);
    return st;
}

mote_status choose_label(mote_session *s, size_t seq, str text, const char *const *labels, size_t n, double *probability, mote_error *err) {
    chooser c;
    TRY(chooser_open(&c, s, seq, err));
    for (size_t i = 0; i < n; i++) probability[i] = 0;
    mote_status st = MOTE_OK;
    for (size_t i = 0; i < 2 * COUNT_OF(asked_for) && st == MOTE_OK; i++) { /* first all of the text, which is then read once, then all of nothing */
        const bool of_text = i < COUNT_OF(asked_for);
        const double share = 1.0 / COUNT_OF(asked_for);
        st = add_labels(&c, asked_for[i % COUNT_OF(asked_for)], of_text ? text : STR(nothing), labels, n, of_text ? share : -share, probability, err);
    }
    chooser_close(&c);
    TRY(st);
    double top = probability[0], sum = 0;
    for (size_t i = 0; i < n; i++) top = fmax(top, probability[i]);
    for (size_t i = 0; i < n; i++) sum += probability[i] = exp(probability[i] - top);
    for (size_t i = 0; i < n; i++) probability[i] /= sum;
    if (!(sum >= 1)) FAIL(err, MOTE_E_OUTPUT, "the model gives a log-likelihood that is not a number");
    return MOTE_OK;
}

/* ---- spans ---- */

typedef struct word {
    size_t from, until; /* bytes of the text, without the punctuation around it */
    size_t line;
    bool taken;         /* by a field before */
} word;

/* Spans that begin at a word. */
typedef struct beginning {
    double log_p; /* of the first token: no span from here is likelier */
    size_t word;
    bool stale;               /* what follows has to be found anew: a word of them was taken */
    tok_ids ids;              /* of the longest of them */
    size_t ends[WORDS_MAX];   /* tokens of the one with 1, 2, … words; 0: its tokens are no beginning of ids */
    size_t n_ends;
} beginning;

typedef struct span_search {
    chooser *c;
    str text;
    word *words;
    beginning *starts;  /* [n_words] in the text's order */
    beginning **order;  /* [n_words] in that of log_p */
    size_t n_words;
    int32_t end_id; /* the line's end */
} span_search;

static bool is_punctuation(char ch, bool at_start) { return strchr(at_start ? "([{<\"'`,;:.!?*-" : ")]}>\"'`,;:.!?*-", ch) != NULL; }

static mote_status find_words(span_search *f, mote_error *err) {
    size_t cap = 0, line = 0;
    for (size_t i = 0; i < f->text.n;) {
        while (i < f->text.n && isspace((unsigned char)f->text.p[i])) line += f->text.p[i++] == '\n';
        size_t from = i;
        while (i < f->text.n && !isspace((unsigned char)f->text.p[i])) i++;
        size_t until = i;
        while (from < until && is_punctuation(f->text.p[from], true)) from++;
        while (from < until && is_punctuation(f->text.p[until - 1], false)) until--;
        if (from == until) continue;
        TRY(mem_grow(&f->words, &cap, f->n_words + 1, sizeof *f->words, f->text.n, err));
        f->words[f->n_words++] = (word){from, until, line, false};
    }
    return MOTE_OK;
}

/* The ids of " " and the text's bytes [from, until). */
static mote_status encode_piece(const span_search *f, size_t from, size_t until, tok_ids *out, mote_error *err) {
    buf b;
    buf_init(&b, TOK_TEXT_BYTES_MAX);
    buf_putc(&b, ' ');
    buf_put(&b, f->text.p + from, until - from);
    mote_status st = buf_check(&b, "a span", err);
    if (st == MOTE_OK) st = encode_behind(f->c, b.p, b.n, out, err);
    buf_free(&b);
    return st;
}

static mote_status find_spans(const span_search *f, beginning *b, mote_error *err) {
    const size_t first = b->word;
    tok_ids one = {0};
    mote_status st = MOTE_OK;
    size_t n = 1;
    while (n < WORDS_MAX && first + n < f->n_words && f->words[first + n].line == f->words[first].line && !f->words[first + n].taken) n++;
    if (f->words[first].taken) n = 0;
    for (b->n_ends = n; b->n_ends; b->n_ends--) { /* the longest that is short enough */
        TRYG(st, encode_piece(f, f->words[first].from, f->words[first + b->n_ends - 1].until, &b->ids, err));
        if (b->ids.n <= SPAN_TOKENS_MAX) break;
    }
    for (size_t k = 0; k < b->n_ends; k++) {
        TRYG(st, encode_piece(f, f->words[first].from, f->words[first + k].until, &one, err));
        bool begins = one.n && one.n <= b->ids.n && memcmp(one.p, b->ids.p, one.n * sizeof *one.p) == 0;
        b->ends[k] = begins ? one.n : 0;
    }
    b->stale = false;
out:
    tok_ids_free(&one);
    return st;
}

/* The words of these spans are given to no other field; all others are free. */
static void take(span_search *f, const mote_span *spans, size_t n) {
    for (size_t i = 0; i < f->n_words; i++) {
        word *w = &f->words[i];
        bool taken = false;
        for (size_t j = 0; j < n; j++) taken |= w->from >= spans[j].from && w->until <= spans[j].from + spans[j].n;
        if (w->taken == taken) continue;
        w->taken = taken;
        for (size_t k = i < WORDS_MAX ? 0 : i - WORDS_MAX + 1; k <= i; k++) f->starts[k].stale = true;
    }
}

static int likelier(const void *a, const void *b) {
    const beginning *x = *(beginning *const *)a, *y = *(beginning *const *)b;
    return x->log_p < y->log_p ? 1 : x->log_p > y->log_p ? -1 : (x->word > y->word) - (x->word < y->word);
}

/* The likeliest spans of a field, the best first. */
typedef struct likeliest {
    mote_span at[BEAM];
    size_t n;
} likeliest;

/* What a span must exceed to be among them. */
static double least_of(const likeliest *l) { return l->n < BEAM ? (double)-INFINITY : l->at[BEAM - 1].log_p; }

static void put_span(likeliest *l, mote_span s) {
    size_t at = l->n < BEAM ? l->n++ : BEAM - 1;
    for (; at > 0 && l->at[at - 1].log_p < s.log_p; at--) l->at[at] = l->at[at - 1];
    l->at[at] = s;
}

/* Those of the spans that begin there which are among the likeliest. */
static mote_status try_beginning(const span_search *f, const beginning *b, likeliest *best, mote_error *err) {
    TRY(try_ids(f->c, b->ids.p, b->ids.n, err));
    double sum = b->log_p;
    const size_t n_vocab = f->c->s->n_vocab;
    for (size_t i = 0, k = 0; i < b->ids.n && sum > least_of(best); i++) {
        const float *row = f->c->rows + i * n_vocab;
        for (k = 0; k < b->n_ends; k++)
            if (b->ends[k] == i + 1) {
                double whole = sum + log_p(f->c, row, f->end_id);
                if (whole > least_of(best)) put_span(best, (mote_span){f->words[b->word].from, f->words[b->word + k].until - f->words[b->word].from, whole});
            }
        if (i + 1 < b->ids.n) sum += log_p(f->c, row, b->ids.p[i + 1]);
    }
    return MOTE_OK;
}

/* All beginnings behind the prefix that is set. */
static mote_status search(span_search *f, likeliest *best, mote_error *err) {
    best->n = 0;
    for (size_t i = 0; i < f->n_words; i++) {
        beginning *b = f->order[i] = &f->starts[i];
        if (b->stale) TRY(find_spans(f, b, err));
        b->log_p = b->n_ends && b->ids.n ? log_p(f->c, f->c->first, b->ids.p[0]) : (double)-INFINITY;
    }
    qsort(f->order, f->n_words, sizeof *f->order, likelier);
    for (size_t i = 0; i < f->n_words && f->order[i]->log_p > least_of(best); i++) TRY(try_beginning(f, f->order[i], best, err));
    return MOTE_OK;
}

static void search_close(span_search *f) {
    for (size_t i = 0; f->starts && i < f->n_words; i++) tok_ids_free(&f->starts[i].ids);
    mem_free(f->starts);
    mem_free(f->order);
    mem_free(f->words);
}

static mote_status search_open(span_search *f, mote_error *err) {
    TRY(find_words(f, err));
    f->starts = MEM_NEW_N(beginning, f->n_words + 1);
    f->order = MEM_NEW_N(beginning *, f->n_words + 1);
    if (!f->starts || !f->order) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu words", f->n_words);
    for (size_t i = 0; i < f->n_words; i++) f->starts[i] = (beginning){.word = i, .stale = true};
    return MOTE_OK;
}

static const double NO_WORD_LEFT = -1e6; /* a filling with a field that has nothing is behind all that have something for each */
static const double SECOND_CHOICE = 1;   /* nats by which the other fields must gain: half a name is often as likely as the name, and the rest then a little likelier */

/* The first fields' spans, and how likely they are together. */
typedef struct filling {
    mote_span *spans; /* [n fields] */
    double log_p;
} filling;

static void put_filling(filling *to, size_t *n, const filling *before, size_t i, mote_span next, bool first) {
    const double sum = before->log_p + (next.n ? next.log_p : NO_WORD_LEFT) - (first ? 0 : SECOND_CHOICE);
    if (*n == BEAM && sum <= to[BEAM - 1].log_p) return;
    size_t at = *n < BEAM ? (*n)++ : BEAM - 1;
    mote_span *spans = to[at].spans;
    for (; at > 0 && to[at - 1].log_p < sum; at--) to[at] = to[at - 1];
    memcpy(spans, before->spans, i * sizeof *spans);
    spans[i] = next;
    to[at] = (filling){spans, sum};
}

/* The fields before with their spans, and what comes next. */
static mote_status ask(chooser *c, str text, const char *const *fields, size_t i, const mote_span *spans, mote_error *err) {
    buf b;
    buf_init(&b, TOK_TEXT_BYTES_MAX);
    buf_printf(&b, "Text: %.*s\n", STR_ARG(text));
    for (size_t k = 0; k < i; k++) buf_printf(&b, "%s: %.*s\n", fields[k], (int)spans[k].n, text.p + spans[k].from);
    buf_printf(&b, "%s:", fields[i]);
    mote_status st = buf_check(&b, "a text", err);
    if (st == MOTE_OK) st = set_prefix(c, buf_str(&b), err);
    buf_free(&b);
    return st;
}

/* Field by field, with the BEAM likeliest fillings so far: a first field may have taken what belongs to a later one. */
static mote_status fill(span_search *f, const char *const *fields, size_t n, filling *now, filling *next, mote_span *out, mote_error *err) {
    likeliest found;
    size_t n_now = 1;
    now[0].log_p = 0;
    for (size_t i = 0; i < n; i++) {
        size_t n_next = 0;
        for (size_t h = 0; h < n_now; h++) {
            take(f, now[h].spans, i);
            TRY(ask(f->c, f->text, fields, i, now[h].spans, err));
            TRY(search(f, &found, err));
            if (!found.n) put_span(&found, (mote_span){.log_p = (double)-INFINITY}); /* no word is left */
            for (size_t k = 0; k < found.n; k++) put_filling(next, &n_next, &now[h], i, found.at[k], k == 0);
        }
        for (size_t h = 0; h < BEAM; h++) {
            filling swapped = now[h];
            now[h] = next[h];
            next[h] = swapped;
        }
        n_now = n_next;
    }
    memcpy(out, now[0].spans, n * sizeof *out);
    return MOTE_OK;
}

mote_status choose_spans(mote_session *s, size_t seq, str text, const char *const *fields, size_t n, mote_span *out, mote_error *err) {
    chooser c;
    span_search f = {.c = &c, .text = text};
    tok_ids end = {0};
    filling all[2 * BEAM];
    mote_span *spans = mem_calloc(2 * BEAM * MAX(n, (size_t)1), sizeof *spans);
    mote_status st;
    if (!spans) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu fields", n);
    for (size_t i = 0; i < 2 * BEAM; i++) all[i] = (filling){spans + i * n, 0};
    st = chooser_open(&c, s, seq, err);
    if (st != MOTE_OK) {
        mem_free(spans);
        return st;
    }
    TRYG(st, search_open(&f, err));
    TRYG(st, encode_behind(&c, "\n", 1, &end, err));
    f.end_id = end.p[0];
    st = fill(&f, fields, n, all, all + BEAM, out, err);
out:
    mem_free(spans);
    tok_ids_free(&end);
    search_close(&f);
    chooser_close(&c);
    return st;
}
