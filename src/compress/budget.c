/* budget.c: mixed precision under a budget.
 *
 * The cost of storing tensor t in format f is taken as k_t e_t(f). e_t(f): the error of its output relative to the output, for inputs as the
 * importance matrix knows them, on a sample of its rows. k_t: what such an error does to the model: the tensor alone is stored at about the wanted
 * size, and the divergence of the model's predictions from the original's (KLD) on a calibration text is divided by its e_t. Divergences of
 * small errors add up, so the sum over all tensors is made small. The text judged on must be another one. */
#include "compress/budget.h"
#include "compress/budget_known.h"
#include "compress/rules.h"
#include "model/arch.h"
#include "run/run.h"
#include "train/calib_text.h"

#include <math.h>

enum { CANDIDATES = 20, SAMPLE_ROWS = 48, TOKENS = 128, NAME_BYTES = 300, KEYS_BYTES = 1024 /* of keys that are added */ };
#define LOGIT_BYTES_MAX ((size_t)96 << 20)

static const quant_type candidates[] = {
    QUANT_IQ1_S, QUANT_IQ1_M, QUANT_IQ2_XXS, QUANT_Q2_0, QUANT_IQ2_XS, QUANT_IQ2_S, QUANT_Q2_K, QUANT_IQ3_XXS, QUANT_IQ3_S, QUANT_Q3_K,
    QUANT_IQ4_XS, QUANT_IQ4_NL, QUANT_Q4_K, QUANT_Q4_1, QUANT_Q5_K, QUANT_Q5_0, QUANT_Q5_1, QUANT_Q6_K, QUANT_Q8_0, QUANT_F16,
};

/* A tensor whose format is open. */
typedef struct open_tensor {
    const tensor_info *t;
    weight *w;
    const float *importance; /* [experts, columns] or NULL */
    budget_point *points;    /* of the search's */
    size_t n;
    double kld, probe_err;
    quant_type probe;
} open_tensor;

typedef struct search {
    const mote_quantize_options *o;
    const quantize_importance *importance;
    mote_engine *engine;
    mote_model *model;
    state *st;
    open_tensor *open;
    size_t n_open, *first, *chosen;
    budget_point *points;
    uint64_t fixed_bytes, n_weights, overhead;
    double probe_bpw;   /* about what the open tensors shall have, in two steps, so that budgets share what is measured */
    int32_t *ids, *want;
    size_t n_ids, n_vocab;
    float *base, *logits; /* [n_ids, n_vocab] log-probabilities; logits */
    bool base_known;
    double *row_kld;      /* [n_ids] */
    float *dense;         /* the largest tensor as f32 */
    float *scratch;       /* 4 rows per thread */
    size_t longest, most_rows;
    mote_tensor_type *overrides;
    char (*patterns)[NAME_BYTES];
    budget_known known;
} search;

/* ---- errors of formats ---- */
typedef struct encode_job {
    search *s;
    const open_tensor *x;
    quant_type type;
    size_t n_rows, step;   /* row i of the job is row i * step of the tensor */
    float *out;            /* [n_rows, columns] decoded, or NULL */
    double *err, *sum;     /* [n_rows] or NULL */
} encode_job;

static void encode_rows(void *arg, int ith, int nth) {
    encode_job *j = arg;
    const tensor_info *t = j->x->t;
    const quant_format *from = quant_get((int)t->type), *to = quant_get((int)j->type);
    const size_t n = (size_t)t->ne[0], row_bytes = n / from->block * from->bytes;
    float *x = j->s->scratch + (size_t)ith * 4 * j->s->longest, *w = x + j->s->longest, *y = w + j->s->longest, *coded = y + j->s->longest;
    size_t a, b;
    pool_share(j->n_rows, 1, ith, nth, &a, &b);
    for (size_t i = a; i < b; i++) {
        size_t row = i * j->step;
        const float *imp = j->x->importance ? j->x->importance + row / (size_t)t->ne[1] * n : NULL;
        from->decode(x, t->data + row * row_bytes, n);
        for (size_t k = 0; imp && k < n; k++) w[k] = imp[k];
        quant_weigh(w, x, n, imp != NULL);
        to->encode(coded, x, n, w);
        float *dst = j->out ? j->out + i * n : y;
        to->decode(dst, coded, n);
        double err = 0, sum = 0;
        for (size_t k = 0; k < n; k++) {
            double c = imp ? (double)imp[k] : 1, e = (double)x[k] - (double)dst[k];
            err += c * e * e;
            sum += c * (double)x[k] * (double)x[k];
        }
        j->err[i] = err;
        j->sum[i] = sum;
    }
}

static size_t rows_of(const tensor_info *t) { return (size_t)(t->ne[1] * t->ne[2]); }

/* e_t of a format by n rows, which are spread evenly. */
static double relative_error(search *s, const open_tensor *x, quant_type type, size_t n, float *out, double *room) {
    encode_job j = {.s = s, .x = x, .type = type, .n_rows = n, .step = rows_of(x->t) / n, .out = out, .err = room, .sum = room + n};
    double err = 0, sum = 0;
    pool_run(s->engine->pool, encode_rows, &j);
    for (size_t i = 0; i < n; i++) {
        err += j.err[i];
        sum += j.sum[i];
    }
    return sum > 0 ? err / sum : 0;
}

/* ---- what errors do ---- */
static mote_status forward(search *s, mote_error *err) {
    const model_seg seg = {.seq = 0, .pos0 = 0, .n = s->n_ids};
    const model_batch b = {.ids = s->ids, .n = s->n_ids, .segs = &seg, .n_segs = 1, .want = s->want, .n_want = s->n_ids, .logits = s->logits};
    state_seq_clear(s->st, 0);
    return model_forward(s->st, &b, err);
}

static void compare_rows(void *arg, int ith, int nth) {
    search *s = arg;
    const size_t n = s->n_vocab;
    size_t from, to;
    pool_share(s->n_ids, 1, ith, nth, &from, &to);
    for (size_t r = from; r < to; r++) {
        const float *q = s->logits + r * n, *p = s->base + r * n;
        float max = q[0];
        double sum = 0, kld = 0;
        for (size_t i = 1; i < n; i++) max = MAX(max, q[i]);
        for (size_t i = 0; i < n; i++) sum += (double)expf(q[i] - max);
        double lse = (double)max + log(sum);
        for (size_t i = 0; i < n; i++) kld += (double)expf(p[i]) * ((double)p[i] - ((double)q[i] - lse));
        s->row_kld[r] = kld;
    }
}

/* The original's log-probabilities. */
static mote_status measure_base(search *s, mote_error *err) {
    TRY(forward(s, err));
    for (size_t r = 0; r < s->n_ids; r++) {
        const float *q = s->logits + r * s->n_vocab;
        float *p = s->base + r * s->n_vocab, max = q[0];
        double sum = 0;
        for (size_t i = 1; i < s->n_vocab; i++) max = MAX(max, q[i]);
        for (size_t i = 0; i < s->n_vocab; i++) sum += (double)expf(q[i] - max);
        double lse = (double)max + log(sum);
        for (size_t i = 0; i < s->n_vocab; i++) p[i] = (float)((double)q[i] - lse);
        if (!isfinite(lse)) FAIL(err, MOTE_E_OUTPUT, "the model's own logits are not finite");
    }
    return MOTE_OK;
}

/* The model with x alone in its probe's format, which s->dense holds. */
static mote_status measure_with(search *s, open_tensor *x, mote_error *err) {
    weight *w = x->w;
    const weight was = *w;
    w->type = QUANT_F32;
    w->data = (const unsigned char *)s->dense;
    w->row_bytes = w->cols * sizeof(float);
    w->mat_bytes = w->row_bytes * w->rows;
    w->packing = NULL;
    w->packed = NULL;
    w->split = NULL;
    mote_status st = forward(s, err);
    *w = was;
    TRY(st);
    pool_run(s->engine->pool, compare_rows, s);
    x->kld = 0;
    for (size_t i = 0; i < s->n_ids; i++) x->kld += s->row_kld[i];
    x->kld = MAX(x->kld / (double)s->n_ids, 1e-9); /* below is rounding */
    return isfinite(x->kld) ? MOTE_OK : ERR(err, MOTE_E_OUTPUT, "with '%.*s' quantized the logits are not finite", STR_ARG(x->t->name));
}

static bool needs_importance(quant_type t) {
    return t == QUANT_IQ1_S || t == QUANT_IQ1_M || t == QUANT_IQ2_XXS || t == QUANT_IQ2_XS || t == QUANT_IQ2_S || t == QUANT_IQ3_XXS;
}

/* Points of x with their errors as costs, and the probe: the candidate nearest to probe_bpw. */
static mote_status measure_formats(search *s, open_tensor *x, double *room, mote_error *err) {
    const size_t rows = rows_of(x->t), n = MIN(rows, (size_t)SAMPLE_ROWS);
    const uint64_t weights = (uint64_t)rows * x->t->ne[0];
    double nearest = HUGE_VAL;
    x->n = 0;
    for (size_t i = 0; i < COUNT_OF(candidates); i++) {
        const quant_format *f = quant_get((int)candidates[i]);
        if (x->t->ne[0] % f->block || (needs_importance(f->type) && !x->importance)) continue;
        uint64_t bytes = weights / f->block * f->bytes;
        if (bytes > x->t->size) continue;
        double e, away = fabs(8.0 * f->bytes / f->block - s->probe_bpw);
        if (!budget_known_error(&s->known, x->t->name, f->name, &e)) {
            e = relative_error(s, x, f->type, n, NULL, room);
            TRY(budget_known_put_error(&s->known, x->t->name, f->name, e, err));
        }
        x->points[x->n++] = (budget_point){bytes, e, f->type};
        if (away < nearest && e > 0) {
            nearest = away;
            x->probe = f->type;
        }
    }
    return MOTE_OK;
}

/* What the probe's error does to the model. */
static mote_status measure_probe(search *s, open_tensor *x, double *room, mote_error *err) {
    const char *format = quant_get((int)x->probe)->name;
    if (budget_known_probe(&s->known, x->t->name, format, &x->probe_err, &x->kld)) return MOTE_OK;
    if (!s->base_known) TRY(measure_base(s, err));
    s->base_known = true;
    x->probe_err = relative_error(s, x, x->probe, rows_of(x->t), s->dense, room);
    TRY(measure_with(s, x, err));
    return budget_known_put_probe(&s->known, x->t->name, format, x->probe_err, x->kld, err);
}

static mote_status measure(search *s, mote_error *err) {
    mote_status st = MOTE_OK;
    double *room = MEM_NEW_N(double, 2 * s->most_rows);
    if (!room) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < s->n_open; i++) {
        open_tensor *x = &s->open[i];
        TRYG(st, measure_formats(s, x, room, err));
        TRYG(st, measure_probe(s, x, room, err));
        TRYG(st, budget_known_save(&s->known, i + 1 == s->n_open, err));
        double k = x->probe_err > 0 ? x->kld / x->probe_err : 0;
        for (size_t p = 0; p < x->n; p++) x->points[p].cost *= k;
        const mote_quantized_tensor now = {.name = x->t->name.p};
        if (s->o->progress && !s->o->progress(s->o->progress_ctx, &now, i + 1, s->n_open))
            FAILG(st, err, MOTE_E_CANCELLED, "cancelled after %zu of %zu tensors", i + 1, s->n_open);
    }
out:
    if (st != MOTE_OK) (void)budget_known_save(&s->known, true, NULL);
    mem_free(room);
    return st;
}

/* ---- what is open ---- */
static weight *weight_of(const model *m, str name) {
    for (size_t i = 0; i < m->n_weights; i++) {
        if (str_is(name, m->weights[i]->name)) return m->weights[i];
    }
    return NULL;
}

static mote_status importance_of(const search *s, const tensor_info *t, const float **out, mote_error *err) {
    size_t n = 0;
    *out = s->importance ? s->importance->find(s->importance->ctx, t->name, &n) : NULL;
    if (*out && n != t->ne[0] * t->ne[2])
        FAIL(err, MOTE_E_MISMATCH, "importance of tensor '%.*s' has %zu values, the tensor has %llu columns: is the matrix of this model?",
             STR_ARG(t->name), n, (unsigned long long)(t->ne[0] * t->ne[2]));
    return MOTE_OK;
}

/* A tensor is open when the rules would give it one format for Q4_0 and another for Q8_0: neither small nor spoken for. */
static mote_status find_open(search *s, mote_error *err) {
    const model_file *f = s->model->file;
    const size_t n = model_file_n_tensors(f);
    rules_choice *c = MEM_NEW_N(rules_choice, 2 * n);
    mote_status st = MOTE_OK;
    uint64_t open = 0;
    uint32_t align;
    s->open = MEM_NEW_N(open_tensor, n);
    s->points = MEM_NEW_N(budget_point, n * CANDIDATES);
    s->first = MEM_NEW_N(size_t, 2 * n + 1);
    if (!c || !s->open || !s->points || !s->first) FAILG(st, err, MOTE_E_MEMORY, "out of memory for %zu tensors", n);
    s->chosen = s->first + n + 1;
    for (int k = 0; k < 2; k++) {
        mote_quantize_options o = *s->o;
        rules *r = NULL;
        o.type = k ? "Q8_0" : "Q4_0";
        o.pure = true;
        st = rules_open(&r, f, &o, s->importance != NULL, err);
        if (st == MOTE_OK) st = rules_decide(r, f, c + (size_t)k * n, err);
        rules_close(&r);
        if (st != MOTE_OK) goto out;
    }
    for (size_t i = 0; i < n; i++) {
        const tensor_info *t = model_file_tensor(f, i);
        const quant_format *got = quant_get((int)c[i].got);
        weight *w = c[i].got == c[n + i].got ? NULL : weight_of(s->model->m, t->name);
        uint64_t weights = t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
        s->n_weights += weights;
        if (!w) {
            s->fixed_bytes += weights / got->block * got->bytes;
            continue;
        }
        if (quant_get((int)t->type)->block > 1 && !s->o->allow_requantize)
            FAILG(st, err, MOTE_E_UNSUPPORTED, "tensor '%.*s' is %s already; quantizing again loses more: allow it with --allow-requantize",
                  STR_ARG(t->name), quant_get((int)t->type)->name);
        open_tensor *x = &s->open[s->n_open];
        *x = (open_tensor){.t = t, .w = w, .points = s->points + s->n_open++ * CANDIDATES};
        TRYG(st, importance_of(s, t, &x->importance, err));
        open += weights;
        s->longest = MAX(s->longest, (size_t)t->ne[0]);
    }
    TRYG(st, kv_get_u32(f, "general.alignment", &align, 32, err));
    s->overhead = gguf_header_bytes(f) + KEYS_BYTES + (uint64_t)align * (n + 1);
    if (s->importance && s->importance->file) s->overhead += strlen(s->importance->file);
    if (s->importance && s->importance->dataset) s->overhead += strlen(s->importance->dataset);
    if (s->n_open == 0) FAILG(st, err, MOTE_E_USAGE, "there is no tensor whose format is open");
    uint64_t target = s->o->target_bytes > s->overhead ? s->o->target_bytes - s->overhead : 0;
    if (!s->o->target_bytes) target = (uint64_t)(s->o->target_bpw * (double)s->n_weights / 8);
    double bpw = target > s->fixed_bytes ? 8 * (double)(target - s->fixed_bytes) / (double)open : 0;
    s->probe_bpw = bpw < 3.25 ? 2.6 : 4.5;
out:
    mem_free(c);
    return st;
}

/* ---- the text ---- */
static mote_status read_text(search *s, mote_error *err) {
    const tok_vocab *v;
    tok_ids ids = {0};
    file_map f = {0};
    str text = calibration_text();
    TRY(run_vocab(s->model, &v, err));
    if (s->o->calibration) {
        TRY(file_open(&f, s->o->calibration, FILE_MAP, err));
        text = (str){(const char *)f.p, MIN(f.n, (size_t)1 << 20)};
        while (text.n && ((unsigned char)text.p[text.n - 1] & 0x80)) text.n--; /* not inside a character */
    }
    mote_status st = tok_encode(v, text, TOK_BOS, &ids, err);
    file_close(&f);
    TRY(st);
    size_t most = MIN((size_t)TOKENS, LOGIT_BYTES_MAX / (4 * s->n_vocab));
    s->n_ids = MIN(ids.n, MAX(most, (size_t)16));
    if (s->n_ids >= 16) memcpy(s->ids, ids.p, s->n_ids * sizeof *s->ids);
    tok_ids_free(&ids);
    if (s->n_ids < 16) FAIL(err, MOTE_E_USAGE, "the calibration text has %zu tokens; 16 are the least, some hundreds are better", s->n_ids);
    for (size_t i = 0; i < s->n_ids; i++) s->want[i] = (int32_t)i;
    return MOTE_OK;
}

static mote_status prepare(search *s, const char *in, mote_error *err) {
    mote_engine_opts eo = mote_engine_opts_default();
    mote_model_opts mo = mote_model_opts_default();
    size_t largest = 0;
    if (s->o->n_threads) eo.n_threads = s->o->n_threads;
    TRY(engine_open(&s->engine, &eo, err));
    TRY(run_model_open(&s->model, s->engine, in, &mo, err));
    s->n_vocab = s->model->info->n_vocab;
    if (s->n_vocab == 0) FAIL(err, MOTE_E_UNSUPPORTED, "this model is an encoder: its formats cannot be weighed by what it predicts");
    TRY(find_open(s, err));
    for (size_t i = 0; i < s->n_open; i++) {
        largest = MAX(largest, rows_of(s->open[i].t) * (size_t)s->open[i].t->ne[0]);
        s->most_rows = MAX(s->most_rows, rows_of(s->open[i].t));
    }
    s->ids = MEM_NEW_N(int32_t, TOKENS);
    s->want = MEM_NEW_N(int32_t, TOKENS);
    s->row_kld = MEM_NEW_N(double, TOKENS);
    if (!s->ids || !s->want || !s->row_kld) FAIL(err, MOTE_E_MEMORY, "out of memory");
    TRY(read_text(s, err));
    const state_opts so = {.n_ctx = s->n_ids, .n_seq = 1, .n_batch = s->n_ids, .k_type = QUANT_F32, .v_type = QUANT_F32, .exact = true};
    TRY(state_open(&s->st, s->model->m, &so, s->engine->pool, err));
    s->base = MEM_NEW_N(float, 2 * s->n_ids * s->n_vocab);
    s->dense = mem_alloc_aligned(largest * sizeof(float));
    s->scratch = MEM_NEW_N(float, (size_t)pool_size(s->engine->pool) * 4 * s->longest);
    if (!s->base || !s->dense || !s->scratch) FAIL(err, MOTE_E_MEMORY, "out of memory for a tensor of %zu weights", largest);
    s->logits = s->base + s->n_ids * s->n_vocab;
    return MOTE_OK;
}

/* ---- what was measured before ---- */

/* Opens it under a hash of all that the figures hang on: weights, what the model is told about itself, importance, the text. */
static mote_status recall(search *s, mote_error *err) {
    const model_file *f = s->model->file;
    char key[SHA256_HEX] = "";
    if (!s->o->sensitivity) return budget_known_open(&s->known, NULL, key, err);
    sha256 *h = sha256_new();
    if (!h) FAIL(err, MOTE_E_MEMORY, "out of memory for a hash");
    sha256_update(h, "sensitivity 1", 13);
    for (size_t i = 0; i < model_file_n_kv(f); i++) {
        const kv *k = model_file_kv(f, i);
        char text[64];
        int n = snprintf(text, sizeof text, "%d %lld %.17g", (int)k->type, (long long)k->i, k->f);
        if (str_starts(k->key, STR("tokenizer.")) || str_starts(k->key, STR("general."))) continue; /* the text is hashed as tokens */
        sha256_update(h, k->key.p, k->key.n);
        sha256_update(h, text, (size_t)n);
    }
    for (size_t i = 0; i < model_file_n_tensors(f); i++) {
        const tensor_info *t = model_file_tensor(f, i);
        sha256_update(h, t->name.p, t->name.n);
        sha256_update(h, &t->type, sizeof t->type);
        sha256_update(h, t->data, t->size);
    }
    for (size_t i = 0; i < s->n_open; i++) {
        const open_tensor *x = &s->open[i];
        sha256_update(h, x->t->name.p, x->t->name.n);
        if (x->importance) sha256_update(h, x->importance, (size_t)(x->t->ne[0] * x->t->ne[2]) * sizeof(float));
    }
    sha256_update(h, s->ids, s->n_ids * sizeof *s->ids);
    sha256_final(h, key);
    sha256_free(h);
    return budget_known_open(&s->known, s->o->sensitivity, key, err);
}

/* ---- and the choice ---- */
static mote_status choose(search *s, mote_error *err) {
    uint64_t target = s->o->target_bytes, least, keep = s->fixed_bytes + (s->o->target_bytes ? s->overhead : 0);
    size_t at = 0;
    if (!target) target = (uint64_t)(s->o->target_bpw * (double)s->n_weights / 8);
    for (size_t i = 0; i < s->n_open; i++) { /* side by side, in place: they only move forward */
        size_t n = budget_front(s->open[i].points, s->open[i].n);
        s->first[i] = at;
        memmove(s->points + at, s->open[i].points, n * sizeof *s->points);
        at += n;
    }
    s->first[s->n_open] = at;
    mote_status st = budget_choose(s->points, s->first, s->n_open, target > keep ? target - keep : 0, s->chosen, &least, err);
    if (st != MOTE_E_RANGE) return st;
    least += keep;
    if (s->o->target_bytes)
        FAIL(err, MOTE_E_RANGE, "%.2f MB cannot be met: the smallest possible file has %.2f MB (%.3f bits per weight)%s", (double)target / 1e6,
             (double)least / 1e6, 8 * (double)(least - s->overhead) / (double)s->n_weights,
             s->importance ? "" : "; an importance matrix allows smaller formats (--imatrix)");
    FAIL(err, MOTE_E_RANGE, "%.3f bits per weight cannot be met: the least is %.3f%s", s->o->target_bpw, 8 * (double)least / (double)s->n_weights,
         s->importance ? "" : "; an importance matrix allows smaller formats (--imatrix)");
}

/* The type whose format has most of the bytes: what the file calls itself. */
static ftype most_common(const search *s) {
    uint64_t bytes[QUANT_TYPE_MAX] = {0};
    int best = QUANT_Q4_0;
    for (size_t i = 0; i < s->n_open; i++) {
        const budget_point *p = &s->points[s->chosen[i]];
        bytes[p->type] += p->bytes;
        if (bytes[p->type] > bytes[best]) best = p->type;
    }
    ftype found = FTYPE_Q4_0;
    for (int t = 0; t < FTYPE_COUNT; t++) { /* the last: Q2_K, not Q2_K_S, which needs importance */
        if ((int)ftypes[t].format == best && quant_get(best)->block > 1) found = (ftype)t;
    }
    return found;
}

static mote_status write_out(search *s, const char *in, const char *out, mote_quantize_report *report, mote_error *err) {
    mote_quantize_options o = *s->o;
    const size_t n = o.n_overrides + s->n_open;
    s->overrides = MEM_NEW_N(mote_tensor_type, n);
    s->patterns = mem_calloc(s->n_open, sizeof *s->patterns);
    if (!s->overrides || !s->patterns) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu formats", n);
    for (size_t i = 0; i < o.n_overrides; i++) s->overrides[i] = o.overrides[i];
    for (size_t i = 0; i < s->n_open; i++) {
        (void)snprintf(s->patterns[i], NAME_BYTES, "^\\Q%.*s\\E$", STR_ARG(s->open[i].t->name));
        s->overrides[o.n_overrides + i] = (mote_tensor_type){s->patterns[i], quant_get(s->points[s->chosen[i]].type)->name};
    }
    o.overrides = s->overrides;
    o.n_overrides = n;
    o.type = ftypes[most_common(s)].name;
    TRY(compress_quantize(in, out, &o, s->importance, report, err));
    if (report) (void)snprintf(report->type, sizeof report->type, "mixed");
    return MOTE_OK;
}

mote_status budget_quantize(const char *in, const char *out, const mote_quantize_options *o, const quantize_importance *importance,
                            mote_quantize_report *report, mote_error *err) {
    search s = {.o = o, .importance = importance};
    mote_status st = MOTE_OK;
    if (!in || (!out && !o->dry_run)) FAIL(err, MOTE_E_USAGE, "quantize needs the path of a model and one for the result");
    if (!o->target_bytes && !(o->target_bpw > 0 && o->target_bpw <= 32)) FAIL(err, MOTE_E_USAGE, "a budget of %g bits per weight", o->target_bpw);
    TRYG(st, prepare(&s, in, err));
    TRYG(st, recall(&s, err));
    TRYG(st, measure(&s, err));
    TRYG(st, choose(&s, err));
    state_close(&s.st);
    st = write_out(&s, in, out, report, err);
out:
    state_close(&s.st);
    run_model_release(s.model);
    engine_release(s.engine);
    mem_free(s.open);
    mem_free(s.points);
    mem_free(s.first);
    mem_free(s.ids);
    mem_free(s.want);
    mem_free(s.row_kld);
    mem_free(s.base);
    mem_free_aligned(s.dense);
    mem_free(s.scratch);
    mem_free(s.overrides);
    mem_free(s.patterns);
    budget_known_close(&s.known);
    return st;
}
