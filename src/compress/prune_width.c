/* prune_width.c: which channels, neurons and heads count for least.
 *
 * `minitron`: the mean absolute activation over the text (Muralidharan et al. 2024, "Compact language models via pruning and
 * knowledge distillation", §2.2). `contribution` also asks how strongly it is read: E|x_i| ‖W_·i‖, as Wanda (Sun et al. 2023)
 * does weight by weight. Means of squares instead would be those of the first token, whose activations are huge. */
#include "compress/pruning.h"

#include <math.h>

typedef enum method { BY_MINITRON, BY_CONTRIBUTION, BY_MAGNITUDE, BY_RANDOM } method;

typedef struct width {
    prune *p;
    method by;
    calib calib;
    bool calibrated;
    prune_plan plan;
    prune_sizes to;
    rng rng;
} width;

static const role ffn_in[] = {R_FFN_UP, R_FFN_GATE};

/* out[c] += Σ over rows of w². */
static mote_status add_column_squares(const tensor_info *t, double *out, mote_error *err) {
    float *x;
    TRY(prune_floats(t, &x, err));
    size_t cols = (size_t)t->ne[0], n = (size_t)(t->ne[1] * t->ne[2]) * cols;
    for (size_t i = 0; i < n; i++) out[i % cols] += (double)x[i] * (double)x[i];
    mem_free_aligned(x);
    return MOTE_OK;
}

static mote_status add_row_squares(const tensor_info *t, double *out, size_t n_out, mote_error *err) {
    float *x;
    TRY(prune_floats(t, &x, err));
    size_t cols = (size_t)t->ne[0], n = (size_t)t->ne[1] * cols;
    for (size_t i = 0; i < n; i++) out[i / cols % n_out] += (double)x[i] * (double)x[i];
    mem_free_aligned(x);
    return MOTE_OK;
}

/* How much column c of the inputs of a weight counts: score[cols]. */
static mote_status column_scores(width *w, const slot *s, double *score, mote_error *err) {
    size_t cols = s->mat->cols;
    memset(score, 0, cols * sizeof *score);
    if (w->by == BY_RANDOM) {
        for (size_t i = 0; i < cols; i++) score[i] = rng_double(&w->rng);
        return MOTE_OK;
    }
    if (w->by != BY_MINITRON) TRY(add_column_squares(s->info, score, err));
    const seen_stats *seen = w->calibrated ? prune_seen(&w->calib, s->mat) : NULL;
    if (w->by == BY_MAGNITUDE) return MOTE_OK;
    if (!seen || !(seen->n[0] > 0)) FAIL(err, MOTE_E_UNSUPPORTED, "weight '%s' was not met in a pass", s->mat->name);
    for (size_t i = 0; i < cols; i++)
        score[i] = seen->abs[i] / seen->n[0] * (w->by == BY_MINITRON ? 1 : sqrt(score[i]));
    return MOTE_OK;
}

/* ---- neurons ---- */
static mote_status choose_neurons(width *w, const layer *l, prune_keep *k, double *share, mote_error *err) {
    double *score, kept = 0, all = 0;
    const slot *down = &l->slots[R_FFN_DOWN];
    if (!down->mat || l->ffn != &block_ffn)
        FAIL(err, MOTE_E_UNSUPPORTED, "layer %zu has no dense feed-forward to thin", l->index);
    TRY(prune_alloc(w->p, l->n_ff, sizeof *score, &score, err));
    TRY(prune_alloc(w->p, w->to.n_ff, sizeof *k->ff, &k->ff, err));
    TRY(column_scores(w, down, score, err));
    if (w->by == BY_MAGNITUDE)
        for (size_t i = 0; i < COUNT_OF(ffn_in); i++)
            if (l->slots[ffn_in[i]].info) TRY(add_row_squares(l->slots[ffn_in[i]].info, score, l->n_ff, err));
    k->n_ff = w->to.n_ff;
    TRY(prune_largest(score, l->n_ff, k->n_ff, k->ff, err));
    for (size_t i = 0; i < l->n_ff; i++) all += score[i] * score[i];
    for (size_t i = 0; i < k->n_ff; i++) kept += score[k->ff[i]] * score[k->ff[i]];
    *share += all > 0 ? kept / all : 1;
    return MOTE_OK;
}

/* ---- heads ---- */
static mote_status choose_heads(width *w, const layer *l, prune_keep *k, mote_error *err) {
    const slot *o = &l->slots[R_ATTN_OUT];
    size_t per = l->n_head_kv ? l->n_head / l->n_head_kv : 0;
    if (!o->mat || l->mixer[0] != &block_attn) FAIL(err, MOTE_E_UNSUPPORTED, "layer %zu has no attention to thin", l->index);
    if (w->to.n_head_kv > l->n_head_kv || w->to.n_head % w->to.n_head_kv || w->to.n_head / w->to.n_head_kv > per)
        FAIL(err, MOTE_E_RANGE, "layer %zu has %zu query and %zu key/value heads; %zu and %zu cannot be left", l->index, l->n_head,
             l->n_head_kv, w->to.n_head, w->to.n_head_kv);
    double *column, *head, *group;
    uint32_t *some;
    size_t per_to = w->to.n_head / w->to.n_head_kv;
    TRY(prune_alloc(w->p, l->n_head * l->dim_v, sizeof *column, &column, err));
    TRY(prune_alloc(w->p, l->n_head, sizeof *head, &head, err));
    TRY(prune_alloc(w->p, l->n_head_kv, sizeof *group, &group, err));
    TRY(prune_alloc(w->p, per, sizeof *some, &some, err));
    TRY(prune_alloc(w->p, w->to.n_head, sizeof *k->heads, &k->heads, err));
    TRY(prune_alloc(w->p, w->to.n_head_kv, sizeof *k->groups, &k->groups, err));
    TRY(column_scores(w, o, column, err));
    for (size_t i = 0; i < l->n_head * l->dim_v; i++) head[i / l->dim_v] += column[i] * column[i];
    for (size_t h = 0; h < l->n_head; h++) group[h / per] += head[h];
    k->n_groups = w->to.n_head_kv;
    TRY(prune_largest(group, l->n_head_kv, k->n_groups, k->groups, err));
    for (size_t g = 0; g < k->n_groups; g++) {
        TRY(prune_largest(head + k->groups[g] * per, per, per_to, some, err));
        for (size_t i = 0; i < per_to; i++) k->heads[k->n_heads++] = (uint32_t)(k->groups[g] * per) + some[i];
    }
    return MOTE_OK;
}

/* ---- channels ---- */
/* The sum over everything that reads the stream. */
static mote_status choose_channels(width *w, mote_error *err) {
    const model *m = w->p->m;
    size_t n = m->hp.n_embd;
    double *score, *part;
    TRY(prune_alloc(w->p, n, sizeof *score, &score, err));
    TRY(prune_alloc(w->p, n, sizeof *part, &part, err));
    TRY(prune_alloc(w->p, w->to.n_embd, sizeof *w->plan.embd, &w->plan.embd, err));
    if (w->by == BY_MAGNITUDE) TRY(add_column_squares(m->slots[R_TOKEN_EMBD].info, score, err));
    if (w->by == BY_RANDOM)
        for (size_t i = 0; i < n; i++) score[i] = rng_double(&w->rng);
    for (size_t il = 0; w->by <= BY_CONTRIBUTION && il < m->hp.n_layer; il++)
        for (int r = 0; r < R_COUNT; r++) {
            prune_axis rows, cols;
            const slot *s = &m->layers[il].slots[r];
            prune_axes(w->p, (role)r, &rows, &cols);
            const seen_stats *seen = s->mat && cols == AXIS_EMBD ? prune_seen(&w->calib, s->mat) : NULL;
            if (!seen || !(seen->n[0] > 0)) continue;
            TRY(column_scores(w, s, part, err));
            for (size_t i = 0; i < n; i++) score[i] += w->by == BY_MINITRON ? part[i] : part[i] * part[i];
        }
    w->plan.n_embd = w->to.n_embd;
    return prune_largest(score, n, w->plan.n_embd, w->plan.embd, err);
}

/* A norm over fewer channels divides by another root mean square: its weights take the difference back. sq: sums of
 * squares of the norm's output over n rows. */
static mote_status rescale_norm(width *w, const slot *place, const double *sq, double n, mote_error *err) {
    const tensor_info *t = place->info;
    if (!t || !sq || w->p->m->hp.norm != NORM_RMS) return MOTE_OK;
    double part = 0;
    float *g;
    TRY(prune_floats(t, &g, err));
    for (size_t i = 0; i < w->plan.n_embd; i++) {
        double v = (double)g[w->plan.embd[i]];
        if (v != 0) part += sq[w->plan.embd[i]] / (n * v * v);
    }
    float by = (float)sqrt(part / (double)w->plan.n_embd); /* rms over the kept channels / rms over all */
    for (size_t i = 0; i < w->plan.n_embd; i++) g[i] = g[w->plan.embd[i]] * (isfinite(by) && by > 0 ? by : 1);
    mote_status s = prune_put(w->p, t, g, 1, (uint64_t[]){w->plan.n_embd}, err);
    mem_free_aligned(g);
    return s;
}

static mote_status rescale_norms(width *w, mote_error *err) {
    const model *m = w->p->m;
    static const struct {
        role norm, reader;
    } pairs[] = {{R_ATTN_NORM, R_ATTN_Q}, {R_ATTN_NORM, R_ATTN_QKV}, {R_FFN_NORM, R_FFN_UP}};
    for (size_t il = 0; il < m->hp.n_layer; il++)
        for (size_t i = 0; i < COUNT_OF(pairs); i++) {
            const slot *s = &m->layers[il].slots[pairs[i].reader];
            const seen_stats *seen = s->mat ? prune_seen(&w->calib, s->mat) : NULL;
            if (seen && seen->n[0] > 0) TRY(rescale_norm(w, &m->layers[il].slots[pairs[i].norm], seen->sq, seen->n[0], err));
        }
    return rescale_norm(w, &m->slots[R_OUTPUT_NORM], w->calib.hidden_sq, w->calib.n_hidden, err);
}

/* ---- repair ---- */
static mote_status fit_columns(void *ctx, prune *p, size_t il, role r, const float *whole, size_t rows, float *out, bool *fitted,
                               mote_error *err) {
    width *w = ctx;
    const layer *l = &p->m->layers[il];
    const prune_keep *k = &w->plan.layers[il];
    const seen_stats *seen = prune_seen(&w->calib, l->slots[r].mat);
    prune_axis ra, ca;
    prune_axes(p, r, &ra, &ca);
    /* of the products that share their rows only one was asked to keep the matrix */
    if (ca == AXIS_EMBD) seen = prune_seen(&w->calib, l->slots[ra == AXIS_FF ? R_FFN_UP : has(l, R_ATTN_QKV) ? R_ATTN_QKV : R_ATTN_Q].mat);
    if (!seen || !seen->gram) return MOTE_OK;
    if (ca == AXIS_FF && k->ff) {
        *fitted = true;
        return prune_least_squares(p, seen->gram, seen->cols, k->ff, k->n_ff, whole, rows, out, err);
    }
    if (ca == AXIS_EMBD && w->plan.embd) {
        *fitted = true;
        return prune_least_squares(p, seen->gram, seen->cols, w->plan.embd, w->plan.n_embd, whole, rows, out, err);
    }
    if (ca != AXIS_O || !k->heads) return MOTE_OK;
    uint32_t *at;
    TRY(prune_alloc(p, k->n_heads * l->dim_v, sizeof *at, &at, err));
    for (size_t i = 0; i < k->n_heads * l->dim_v; i++) at[i] = k->heads[i / l->dim_v] * (uint32_t)l->dim_v + (uint32_t)(i % l->dim_v);
    *fitted = true;
    return prune_least_squares(p, seen->gram, seen->cols, at, k->n_heads * l->dim_v, whole, rows, out, err);
}

/* ---- sizes ---- */
/* Sizes at `scale` of what the axes name, in multiples of the divisor. */
static prune_sizes scaled(const prune_sizes *from, const char *axes, double scale, size_t div) {
    prune_sizes s = *from;
    size_t per = from->n_head_kv ? from->n_head / from->n_head_kv : 1;
    if (strstr(axes, "ff")) s.n_ff = MAX((size_t)(scale * (double)from->n_ff) / div * div, MIN(div, from->n_ff));
    if (strstr(axes, "embd")) s.n_embd = MAX((size_t)(scale * (double)from->n_embd) / div * div, MIN(div, from->n_embd));
    if (strstr(axes, "heads")) {
        s.n_head_kv = MAX((size_t)(scale * (double)from->n_head_kv), (size_t)1);
        s.n_head = s.n_head_kv * per;
    }
    if (strstr(axes, "layers")) s.n_layer = MAX((size_t)(scale * (double)from->n_layer), (size_t)1);
    return s;
}

mote_status prune_budget(prune *p, prune_sizes *s, mote_error *err) {
    enum { STEPS = 4096 };
    const char *axes = p->o->axes ? p->o->axes : "ff";
    size_t div = p->o->divisor ? p->o->divisor : 32;
    prune_sizes from = *s;
    for (const char *at = axes; *at; at += strcspn(at, ",") + (at[strcspn(at, ",")] == ',')) {
        str word = {at, strcspn(at, ",")};
        if (!str_is(word, "ff") && !str_is(word, "embd") && !str_is(word, "heads") && !str_is(word, "layers"))
            FAIL(err, MOTE_E_USAGE, "'%.*s' cannot be shrunk; there are ff, embd, heads and layers", STR_ARG(word));
    }
    for (int i = STEPS; i >= 0; i--) {
        *s = scaled(&from, axes, (double)i / STEPS, div);
        if (prune_count(p, s) <= p->o->max_params) return MOTE_OK;
    }
    FAIL(err, MOTE_E_RANGE, "%llu parameters cannot be reached by shrinking %s: the least is %llu", (unsigned long long)p->o->max_params, axes,
         (unsigned long long)prune_count(p, s));
}

static mote_status decide_sizes(width *w, mote_error *err) {
    prune *p = w->p;
    const mote_prune_opts *o = p->o;
    prune_sizes now = prune_sizes_of(p);
    w->to = now;
    if (o->max_params) TRY(prune_budget(p, &w->to, err));
    w->to.n_layer = now.n_layer; /* layers are the depth step's */
    size_t per = now.n_head_kv ? now.n_head / now.n_head_kv : 0;
    if (o->n_embd) w->to.n_embd = o->n_embd;
    if (o->n_ff) w->to.n_ff = o->n_ff;
    if (o->n_head_kv) w->to.n_head_kv = o->n_head_kv, w->to.n_head = o->n_head_kv * per;
    if (o->n_head) w->to.n_head = o->n_head;
    const struct {
        const char *what;
        size_t from, to;
    } sizes[] = {{"hidden channels", now.n_embd, w->to.n_embd}, {"neurons", now.n_ff, w->to.n_ff}, {"query heads", now.n_head, w->to.n_head},
                 {"key/value heads", now.n_head_kv, w->to.n_head_kv}};
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        if (sizes[i].to > sizes[i].from)
            FAIL(err, MOTE_E_RANGE, "%zu %s cannot be left: there are %zu", sizes[i].to, sizes[i].what, sizes[i].from);
    for (size_t il = 0; il < p->m->hp.n_layer; il++) {
        const layer *l = &p->m->layers[il];
        if (l->n_ff != now.n_ff || l->n_head != now.n_head || l->n_head_kv != now.n_head_kv)
            FAIL(err, MOTE_E_UNSUPPORTED, "layer %zu has other sizes than layer 0: its width cannot be thinned to one size for all", il);
    }
    if (w->to.n_embd < now.n_embd && p->m->hp.embd_scale != 1 && !hp_has(p->m, "embedding_scale"))
        FAIL(err, MOTE_E_UNSUPPORTED, "'%s' scales its embeddings by their number of channels, which must stay", p->m->arch->name);
    return MOTE_OK;
}

static mote_status set_metadata(width *w, mote_error *err) {
    prune *p = w->p;
    const prune_sizes now = prune_sizes_of(p);
    const layer *l = &p->m->layers[0];
    const struct {
        const char *key;
        size_t v;
        bool changed;
    } keys[] = {
        {"embedding_length", w->to.n_embd, w->to.n_embd != now.n_embd},
        {"feed_forward_length", w->to.n_ff, w->to.n_ff != now.n_ff},
        {"attention.head_count", w->to.n_head, w->to.n_head != now.n_head},
        {"attention.head_count_kv", w->to.n_head_kv, w->to.n_head_kv != now.n_head_kv},
        /* else these follow from the others */
        {"attention.key_length", l->dim_k, !hp_has(p->m, "attention.key_length") && l->n_head},
        {"attention.value_length", l->dim_v, !hp_has(p->m, "attention.value_length") && l->n_head},
        {"rope.dimension_count", p->m->hp.rope_all.n_rot, !hp_has(p->m, "rope.dimension_count") && l->n_head},
    };
    char key[160];
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        if (keys[i].changed) TRY(edit_set_u32(p->edit, prune_key(p, keys[i].key, key), (uint32_t)keys[i].v, err));
    return MOTE_OK;
}

/* ---- the step ---- */
static json_t *list_of(const uint32_t *at, size_t n) {
    json_t *a = json_array();
    for (size_t i = 0; i < n; i++) (void)json_array_append_new(a, json_integer(at[i]));
    return a;
}

static void report(width *w, double share) {
    prune *p = w->p;
    const prune_sizes now = prune_sizes_of(p);
    if (w->plan.embd) {
        prune_say(p, "width: %zu of %zu hidden channels are left", w->to.n_embd, now.n_embd);
        (void)json_object_set_new(p->json, "channels_left", list_of(w->plan.embd, w->plan.n_embd));
    }
    if (w->to.n_ff != now.n_ff)
        prune_say(p, "width: %zu of %zu neurons are left in each layer, with %.1f %% of the scores' squares", w->to.n_ff, now.n_ff,
                  100 * share / (double)p->m->hp.n_layer);
    if (w->to.n_head != now.n_head)
        prune_say(p, "width: %zu of %zu query heads and %zu of %zu key/value heads are left in each layer", w->to.n_head, now.n_head,
                  w->to.n_head_kv, now.n_head_kv);
    json_t *layers = json_array();
    for (size_t il = 0; il < p->m->hp.n_layer; il++) {
        const prune_keep *k = &w->plan.layers[il];
        json_t *l = json_object();
        if (k->ff) (void)json_object_set_new(l, "neurons_left", list_of(k->ff, k->n_ff));
        if (k->heads) (void)json_object_set_new(l, "heads_left", list_of(k->heads, k->n_heads));
        (void)json_array_append_new(layers, l);
    }
    (void)json_object_set_new(p->json, "layers", layers);
}

static mote_status parse_method(width *w, mote_error *err) {
    static const char *const names[] = {"minitron", "contribution", "magnitude", "random"};
    const char *by = w->p->o->width_by ? w->p->o->width_by : names[0];
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (strcmp(by, names[i]) == 0) {
            w->by = (method)i;
            return MOTE_OK;
        }
    FAIL(err, MOTE_E_USAGE, "widths can be chosen by minitron, contribution, magnitude or random, not '%s'", by);
}

static mote_status run_calibration(width *w, mote_error *err) {
    const prune_sizes now = prune_sizes_of(w->p);
    role gram[5];
    size_t n = 0;
    w->calibrated = w->by <= BY_CONTRIBUTION || w->p->o->repair;
    if (!w->calibrated) return MOTE_OK;
    if (w->p->o->repair) {
        if (w->to.n_ff != now.n_ff) gram[n++] = R_FFN_DOWN;
        if (w->to.n_head != now.n_head) gram[n++] = R_ATTN_OUT;
        if (w->to.n_embd != now.n_embd) gram[n++] = R_ATTN_Q, gram[n++] = R_ATTN_QKV, gram[n++] = R_FFN_UP;
    }
    return prune_calibrate(w->p, gram, n, &w->calib, err);
}

mote_status prune_width(prune *p, mote_error *err) {
    width w = {.p = p};
    double share = 0;
    const prune_sizes now = prune_sizes_of(p);
    rng_seed(&w.rng, p->o->seed, 5);
    TRY(parse_method(&w, err));
    TRY(decide_sizes(&w, err));
    TRY(run_calibration(&w, err));
    TRY(prune_alloc(p, p->m->hp.n_layer, sizeof *w.plan.layers, &w.plan.layers, err));
    if (w.to.n_embd != now.n_embd) TRY(choose_channels(&w, err));
    for (size_t il = 0; il < p->m->hp.n_layer; il++) {
        if (w.to.n_ff != now.n_ff) TRY(choose_neurons(&w, &p->m->layers[il], &w.plan.layers[il], &share, err));
        if (w.to.n_head != now.n_head) TRY(choose_heads(&w, &p->m->layers[il], &w.plan.layers[il], err));
    }
    TRY(prune_slice(p, &w.plan, p->o->repair ? fit_columns : NULL, &w, err));
    if (w.plan.embd && w.calibrated) TRY(rescale_norms(&w, err));
    TRY(set_metadata(&w, err));
    report(&w, share);
    return MOTE_OK;
}
