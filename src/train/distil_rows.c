/* distil_rows.c: the rows of a step: of texts, of sequences that a model made up, of a cache. See distil.h. */
#include "train/distil.h"

#include <string.h>

/* ---- sequences ---- */
mote_status distil_rows_add(distil_rows *r, const int32_t *ids, const bool *counts, size_t n, mote_error *err) {
    size_t at = r->n ? r->start[r->n] : 0, all;
    if (!ckd_add_size(&all, at, n)) FAIL(err, MOTE_E_LIMIT, "too many tokens");
    TRY(mem_grow(&r->ids, &r->cap_ids, all + 1, sizeof *r->ids, SIZE_MAX / 16, err));
    TRY(mem_grow(&r->counts, &r->cap_counts, all + 1, sizeof *r->counts, SIZE_MAX / 16, err));
    TRY(mem_grow(&r->start, &r->cap_start, r->n + 2, sizeof *r->start, SIZE_MAX / 16, err));
    memcpy(r->ids + at, ids, n * sizeof *ids);
    memcpy(r->counts + at, counts, n * sizeof *counts);
    if (n) r->counts[all - 1] = false; /* nothing follows the last */
    r->start[r->n] = at;
    r->start[++r->n] = all;
    return MOTE_OK;
}

void distil_rows_free(distil_rows *r) {
    mem_free(r->ids);
    mem_free(r->counts);
    mem_free(r->start);
    *r = (distil_rows){0};
}

mote_status distil_rows_read(distil_rows *r, const distil_cache *c, mote_error *err) {
    const distil_cache_info *info = distil_cache_about(c);
    size_t most = 1, records = 1, n, m;
    for (size_t i = 0; i < info->n_seqs; i++) {
        distil_cache_size(c, i, &n, &m);
        most = MAX(most, n);
        records = MAX(records, m);
    }
    mote_status s = MOTE_OK;
    int32_t *ids = MEM_NEW_N(int32_t, most);
    bool *counts = MEM_NEW_N(bool, most);
    uint32_t *top = mem_calloc(records, info->k * sizeof *top);
    float *logp = mem_calloc(records, info->k * sizeof *logp), *rest = MEM_NEW_N(float, records);
    if (!ids || !counts || !top || !logp || !rest) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < info->n_seqs; i++) { /* also checks every record once, before a run depends on it */
        distil_cache_size(c, i, &n, &m);
        TRYG(s, distil_cache_read(c, i, ids, counts, top, logp, rest, err));
        if (n && counts[n - 1]) FAILG(s, err, MOTE_E_FORMAT, "sequence %zu: what follows its last token is not there", i);
        TRYG(s, distil_rows_add(r, ids, counts, n, err));
    }
out:
    mem_free(ids);
    mem_free(counts);
    mem_free(top);
    mem_free(logp);
    mem_free(rest);
    return s;
}

mote_status distil_prompts(distil_rows *out, const data_batch *b, size_t most, mote_error *err) {
    for (size_t i = 0; i < b->seqs.n_seq; i++) {
        size_t from = b->seqs.start[i], to = b->seqs.start[i + 1], first = from;
        while (first < to && b->target[first] < 0) first++;
        if (to - from < 2 || first == to) continue;
        size_t n = first > from ? first - from + 1 : MIN((to - from) / 2, most);
        bool *none = MEM_NEW_N(bool, n);
        if (!none) FAIL(err, MOTE_E_MEMORY, "out of memory");
        mote_status s = distil_rows_add(out, b->ids + from, none, n, err);
        mem_free(none);
        TRY(s);
    }
    return MOTE_OK;
}

/* ---- the source ---- */
struct distil_source {
    distil_source_opts o;
    train_data of;
    train_source text;
    uint32_t *items;           /* [n_items] of the data that were chosen; n_items 0: all */
    size_t n_items, cap_items;
    uint64_t step;             /* drawn so far */
    /* sequences in use: o.rows, or what the student said */
    const distil_rows *rows;
    distil_rows said;
    size_t said_at;            /* sequences of `said` that were used */
    uint64_t epoch;
    size_t at;                 /* sequences of the epoch that were used */
    uint32_t *order;
    /* the step: sequences chosen[row_at[i] … row_at[i + 1]) share row i of this process */
    bool from_rows, from_said;
    uint32_t *chosen;
    size_t *row_at, n_rows, cap_chosen, cap_row_at;
    /* a part */
    int32_t *ids, *target, *pos;
    float *weights;
    uint32_t *start;
    bool *counts;
    distill_top top;
    uint32_t *top_ids;
    float *logp, *rest;
    size_t cap[11];
};

static void shuffle(distil_source *s) {
    rng r;
    rng_seed(&r, s->o.seed, 2 * s->epoch + 1);
    for (size_t i = 0; i < s->o.rows->n; i++) s->order[i] = (uint32_t)i;
    for (size_t i = s->o.rows->n; i > 1; i--) {
        uint32_t j = rng_below(&r, (uint32_t)i), swap = s->order[i - 1];
        s->order[i - 1] = s->order[j];
        s->order[j] = swap;
    }
}

static size_t len_of(const distil_rows *r, size_t i) { return r->start[i + 1] - r->start[i]; }

static size_t counted(const distil_rows *r, size_t i) {
    size_t n = 0;
    for (size_t j = r->start[i]; j < r->start[i + 1]; j++) n += r->counts[j];
    return n;
}

/* The next sequence in order. */
static uint32_t next_sequence(distil_source *s) {
    if (s->from_said) return (uint32_t)(s->said_at++ % s->said.n);
    if (s->at == s->o.rows->n) {
        s->at = 0;
        s->epoch++;
        shuffle(s);
    }
    return s->order[s->at++];
}

/* Packs sequences into rows of n_ctx tokens; every process draws all and keeps its own. */
static mote_status draw_rows(distil_source *s, int rank, int world, train_step_rows *out, mote_error *err) {
    size_t first = s->o.rows_per_step * (size_t)rank / (size_t)world, last = s->o.rows_per_step * ((size_t)rank + 1) / (size_t)world, n = 0;
    *out = (train_step_rows){0};
    s->n_rows = 0;
    TRY(mem_grow(&s->row_at, &s->cap_row_at, s->o.rows_per_step + 1, sizeof *s->row_at, SIZE_MAX / 16, err));
    uint32_t waiting = next_sequence(s);
    bool taken = false;
    for (size_t row = 0; row < s->o.rows_per_step; row++) {
        bool own = row >= first && row < last;
        if (own) s->row_at[s->n_rows++] = n;
        for (size_t used = 0; used == 0 || used + len_of(s->rows, waiting) <= s->o.n_ctx;) {
            used += len_of(s->rows, waiting);
            out->n_tokens += len_of(s->rows, waiting);
            out->sum_weight += (double)counted(s->rows, waiting);
            if (own) {
                TRY(mem_grow(&s->chosen, &s->cap_chosen, n + 1, sizeof *s->chosen, SIZE_MAX / 16, err));
                s->chosen[n++] = waiting;
            }
            taken = row + 1 == s->o.rows_per_step && (s->from_said || used >= s->o.n_ctx / 2);
            if (taken) break;
            waiting = next_sequence(s);
        }
    }
    if (!taken) s->from_said ? s->said_at-- : s->at--; /* the one that did not fit comes first in the next step */
    s->row_at[s->n_rows] = n;
    out->n_parts = (s->n_rows + s->o.rows_per_part - 1) / s->o.rows_per_part;
    return MOTE_OK;
}

/* Lets the student speak: rows for the next `ahead` such steps. */
static mote_status let_speak(distil_source *s, double progress, mote_error *err) {
    distil_rows prompts = {0};
    mote_status st = MOTE_OK;
    size_t want = s->o.ahead * s->o.rows_per_step;
    distil_rows_free(&s->said);
    s->said_at = 0;
    data_progress(s->o.data, progress);
    while (prompts.n < want) {
        data_step_info info;
        TRYG(st, data_step(s->o.data, s->o.rows_per_step, 0, 1, &info, err));
        TRYG(st, distil_prompts(&prompts, &info.mine, s->o.prompt, err));
    }
    st = s->o.roll(s->o.roll_ctx, &prompts, &s->said, err);
    if (st == MOTE_OK && s->said.n == 0) st = ERR(err, MOTE_E_FORMAT, "the data hold no text that the student could go on with");
out:
    distil_rows_free(&prompts);
    return st;
}

static mote_status source_step(void *ctx, double progress, int rank, int world, train_step_rows *out, mote_error *err) {
    distil_source *s = ctx;
    if (s->o.d) distil_at(s->o.d, progress);
    if (s->o.before) TRY(s->o.before(s->o.before_ctx, s->step, err));
    rng r;
    rng_seed(&r, s->o.seed + s->step++, 99);
    s->from_said = s->o.on_policy > 0 && rng_double(&r) < s->o.on_policy;
    s->from_rows = s->from_said || !s->o.data;
    s->rows = s->from_said ? &s->said : s->o.rows;
    if (!s->from_rows) return s->text.step(s->text.ctx, progress, rank, world, out, err);
    if (s->from_said && s->said_at + s->o.rows_per_step > s->said.n) TRY(let_speak(s, progress, err));
    return draw_rows(s, rank, world, out, err);
}

static mote_status part_room(distil_source *s, size_t n, size_t n_seq, size_t k, mote_error *err) {
    TRY(mem_grow(&s->ids, &s->cap[0], n + 1, sizeof *s->ids, SIZE_MAX / 16, err));
    TRY(mem_grow(&s->target, &s->cap[1], n + 1, sizeof *s->target, SIZE_MAX / 16, err));
    TRY(mem_grow(&s->pos, &s->cap[2], n + 1, sizeof *s->pos, SIZE_MAX / 16, err));
    TRY(mem_grow(&s->weights, &s->cap[3], n + 1, sizeof *s->weights, SIZE_MAX / 16, err));
    TRY(mem_grow(&s->counts, &s->cap[4], n + 1, sizeof *s->counts, SIZE_MAX / 16, err));
    TRY(mem_grow(&s->start, &s->cap[5], n_seq + 1, sizeof *s->start, SIZE_MAX / 16, err));
    if (k == 0) return MOTE_OK;
    TRY(mem_grow(&s->top_ids, &s->cap[6], n * k + 1, sizeof *s->top_ids, SIZE_MAX / 16, err));
    TRY(mem_grow(&s->logp, &s->cap[7], n * k + 1, sizeof *s->logp, SIZE_MAX / 16, err));
    return mem_grow(&s->rest, &s->cap[8], n + 1, sizeof *s->rest, SIZE_MAX / 16, err);
}

/* The records of a sequence's tokens that count go to those tokens' rows. They were read side by side from the sequence's first row on; the
 * last is moved first, for no row lies before its record. */
static void spread(distil_source *s, size_t at, size_t n, size_t k) {
    size_t m = 0;
    for (size_t i = 0; i < n; i++) m += s->counts[at + i];
    for (size_t i = n; i-- > 0;) {
        if (!s->counts[at + i]) continue;
        m--;
        memmove(s->top_ids + (at + i) * k, s->top_ids + (at + m) * k, k * sizeof *s->top_ids);
        memmove(s->logp + (at + i) * k, s->logp + (at + m) * k, k * sizeof *s->logp);
        s->rest[at + i] = s->rest[at + m];
    }
}

static mote_status put_sequence(distil_source *s, size_t at, uint32_t which, size_t k, data_batch *b, mote_error *err) {
    const distil_rows *r = s->rows;
    size_t from = r->start[which], n = len_of(r, which);
    for (size_t i = 0; i < n; i++) {
        bool counts = r->counts[from + i];
        s->ids[at + i] = r->ids[from + i];
        s->pos[at + i] = (int32_t)i;
        s->target[at + i] = counts ? r->ids[from + i + 1] : -1;
        s->weights[at + i] = counts;
        b->sum_weight += counts;
    }
    if (k == 0) return MOTE_OK;
    TRY(distil_cache_read(s->o.cache, which, s->ids + at, s->counts + at, s->top_ids + at * k, s->logp + at * k, s->rest + at, err));
    spread(s, at, n, k);
    return MOTE_OK;
}

static mote_status source_part(void *ctx, size_t i, data_batch *out, mote_error *err) {
    distil_source *s = ctx;
    if (s->o.d) distil_set_top(s->o.d, NULL);
    if (!s->from_rows) return s->text.part(s->text.ctx, i, out, err);
    size_t first = s->row_at[i * s->o.rows_per_part], end = MIN((i + 1) * s->o.rows_per_part, s->n_rows), last = s->row_at[end], n = 0;
    size_t k = s->o.cache && !s->from_said ? distil_cache_about(s->o.cache)->k : 0;
    for (size_t j = first; j < last; j++) n += len_of(s->rows, s->chosen[j]);
    TRY(part_room(s, n, last - first, k, err));
    *out = (data_batch){.n_rows = end - i * s->o.rows_per_part};
    n = 0;
    for (size_t j = first; j < last; j++) {
        s->start[j - first] = (uint32_t)n;
        TRY(put_sequence(s, n, s->chosen[j], k, out, err));
        n += len_of(s->rows, s->chosen[j]);
    }
    s->start[last - first] = (uint32_t)n;
    out->seqs = (ad_seqs){.n = n, .n_seq = last - first, .start = s->start, .pos = s->pos};
    out->ids = s->ids;
    out->target = s->target;
    out->weights = s->weights;
    s->top = (distill_top){k, s->top_ids, s->logp, s->rest};
    if (k) distil_set_top(s->o.d, &s->top);
    return MOTE_OK;
}

/* What the student said is part of the cursor: said again from later weights, it would be something else. */
static json_t *said_json(const distil_source *s) {
    json_t *all = json_array();
    for (size_t i = s->said_at; all && i < s->said.n; i++) {
        json_t *one = json_array();
        for (size_t j = s->said.start[i]; j < s->said.start[i + 1]; j++)
            (void)json_array_append_new(one, json_integer(2 * (json_int_t)s->said.ids[j] + s->said.counts[j]));
        (void)json_array_append_new(all, one);
    }
    return all;
}

static json_t *items_json(const distil_source *s) {
    json_t *all = json_array();
    for (size_t i = 0; all && i < s->n_items; i++) (void)json_array_append_new(all, json_integer(s->items[i]));
    return all;
}

mote_status distil_source_select(distil_source *s, const uint32_t *items, size_t n, mote_error *err) {
    TRY(mem_grow(&s->items, &s->cap_items, n + 1, sizeof *s->items, SIZE_MAX / 16, err));
    TRY(data_select(s->o.data, items, n, err));
    memcpy(s->items, items, n * sizeof *items);
    s->n_items = n;
    return MOTE_OK;
}

static mote_status read_items(distil_source *s, const json_t *all, mote_error *err) {
    size_t n = json_array_size(all);
    if (n == 0) return MOTE_OK;
    uint32_t *items = MEM_NEW_N(uint32_t, n);
    if (!items) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < n; i++) items[i] = (uint32_t)json_integer_value(json_array_get(all, i));
    mote_status st = distil_source_select(s, items, n, err);
    mem_free(items);
    return st;
}

static json_t *source_cursor(void *ctx) {
    distil_source *s = ctx;
    json_t *text = s->o.data ? s->text.cursor(s->text.ctx) : json_null();
    if (!text) return NULL;
    return json_pack("{s:I, s:I, s:I, s:o, s:o, s:o}", "step", (json_int_t)s->step, "epoch", (json_int_t)s->epoch, "at", (json_int_t)s->at, "text", text,
                     "said", said_json(s), "items", items_json(s));
}

static mote_status read_said(distil_source *s, const json_t *all, mote_error *err) {
    distil_rows_free(&s->said);
    s->said_at = 0;
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *one = json_array_get(all, i);
        size_t n = json_array_size(one);
        TRY(part_room(s, n, 0, 0, err));
        for (size_t j = 0; j < n; j++) {
            json_int_t v = json_integer_value(json_array_get(one, j));
            s->ids[j] = (int32_t)(v / 2);
            s->counts[j] = v % 2;
        }
        TRY(distil_rows_add(&s->said, s->ids, s->counts, n, err));
    }
    return MOTE_OK;
}

static mote_status source_seek(void *ctx, const json_t *c, mote_error *err) {
    distil_source *s = ctx;
    size_t n = s->o.rows ? s->o.rows->n : 0;
    s->step = (uint64_t)json_get_int(c, "step", 0);
    s->epoch = (uint64_t)json_get_int(c, "epoch", 0);
    s->at = (size_t)json_get_int(c, "at", 0);
    if (s->at > n) FAIL(err, MOTE_E_MISMATCH, "the checkpoint stands at sequence %zu of %zu: it is of other rows", s->at, n);
    if (n) shuffle(s);
    TRY(read_said(s, json_object_get(c, "said"), err));
    TRY(read_items(s, json_object_get(c, "items"), err));
    return s->o.data ? s->text.seek(s->text.ctx, json_object_get(c, "text"), err) : MOTE_OK;
}

mote_status distil_source_open(distil_source **out, const distil_source_opts *o, mote_error *err) {
    distil_source *s = MEM_NEW(distil_source);
    mote_status st = MOTE_OK;
    if (!s) FAIL(err, MOTE_E_MEMORY, "out of memory");
    s->o = *o;
    if (s->o.ahead == 0) s->o.ahead = 4;
    if (s->o.prompt == 0) s->o.prompt = MAX(s->o.n_ctx / 4, (size_t)1);
    if (o->data) {
        s->of = (train_data){.d = o->data, .rows_per_step = o->rows_per_step, .rows_per_part = o->rows_per_part};
        s->text = trainer_data_source(&s->of);
    }
    if (!o->data && (!o->rows || o->rows->n == 0)) FAILG(st, err, MOTE_E_FORMAT, "there is nothing to learn from: no sequence of tokens");
    if (o->rows) {
        s->order = MEM_NEW_N(uint32_t, MAX(o->rows->n, (size_t)1));
        if (!s->order) FAILG(st, err, MOTE_E_MEMORY, "out of memory");
        if (o->rows->n) shuffle(s);
    }
    *out = s;
    return MOTE_OK;
out:
    distil_source_close(&s);
    return st;
}

void distil_source_close(distil_source **s) {
    if (!*s) return;
    distil_source *d = *s;
    void *all[] = {d->order, d->chosen, d->row_at, d->ids, d->target, d->pos, d->weights, d->start, d->counts, d->top_ids, d->logp, d->rest, d->items};
    for (size_t i = 0; i < COUNT_OF(all); i++) mem_free(all[i]);
    distil_rows_free(&d->said);
    mem_free(d);
    *s = NULL;
}

train_source distil_source_rows(distil_source *s) { return (train_source){s, source_step, source_part, source_cursor, source_seek}; }
