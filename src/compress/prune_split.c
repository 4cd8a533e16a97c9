/* prune_split.c: a dense feed-forward becomes experts made of its own neurons, of which each token uses some.
 *
 * Which neurons: those that give most to all tokens stay with every token (shared experts, if asked for); the others are put together with those that
 * the same tokens need (prune_neurons.h). Who goes where: a linear router, fitted by least squares to what each expert says to each token
 * of the text, as a share of the length of all. Its logits are made so small that the chosen experts' weights are one another's equal, so
 * that what is chosen adds up as it did in the dense layer, and everything together is that layer; the weights sum to 1, and their
 * number is in down. Source: Zhang et al. 2022 (MoEfication), §3; Pei et al. 2025 (CMoE), §3, for shared experts; Zhu et al. 2024 (LLaMA-MoE). */
#include "compress/prune_neurons.h"
#include "train/squares.h"

#include <math.h>

enum { FIRST_TOKENS = 4 /* of a window: their activations are like no others */, ROUNDS = 12, EACH_STEP = 32 /* weights of a block of most number formats */ };
#define ROUTER_GAIN 0.02f /* logits per unit of share: weights differ by some thousandths */
#define DAMPING 0.01      /* of the mean of the diagonal */

/* A layer at work. */
typedef struct part {
    const layer *l;
    uint32_t *order;  /* [n_ff] the shared neurons, then expert after expert */
    float *down;      /* [n_embd, n_ff] columns in that order */
    float *x, *h;     /* [window, n_embd] what goes in; [window, n_ff] neurons, in the old order */
    size_t n;         /* rows of the window that were seen */
    squares *sums;
    float *router;    /* [routed, n_embd] */
} part;

typedef struct split {
    prune *p;
    size_t routed, chosen, each, n_shared; /* experts with a router; of them at work; neurons of one; neurons of all shared ones */
    neurons *seen;
    part *parts;
    gemm *g;
    float *h, *said, *t, *score; /* [window, n_ff] neurons in the new order; [window, n_embd]; [window, routed] twice */
    double held, best, n_held;   /* of the experts' energy: what the router's choice holds and what the best would; tokens · layers */
    bool failed;
} split;

/* ---- which neurons ---- */
typedef struct grouping {
    const split *s;
    const neurons *seen;
    uint32_t *order; /* the best so far */
    double lost;
    float *energy;   /* [routed] of one token */
} grouping;

/* The k largest of x add up to this. Spoils x. */
static double largest_sum(float *x, size_t n, size_t k) {
    double sum = 0;
    for (size_t i = 0; i < k; i++) {
        size_t best = i;
        for (size_t j = i + 1; j < n; j++)
            if (x[j] > x[best]) best = j;
        const float v = x[best];
        x[best] = x[i];
        x[i] = v;
        sum += (double)v;
    }
    return sum;
}

/* An order is as good as what the best choice of experts holds of the neurons' energy, token by token. */
static void attempt(void *ctx, const uint32_t *order) {
    grouping *g = ctx;
    const split *s = g->s;
    const neurons *w = g->seen;
    double lost = 0;
    for (size_t i = 0; i < w->n; i++) {
        double all = 1e-30;
        for (size_t e = 0; e < s->routed; e++) {
            float sum = 0;
            for (size_t j = e * s->each; j < (e + 1) * s->each; j++) {
                const float v = w->give[order[j] * w->n + i];
                sum += v * v;
            }
            g->energy[e] = sum;
            all += (double)sum;
        }
        lost += 1 - largest_sum(g->energy, s->routed, s->chosen) / all;
    }
    if (g->lost >= 0 && lost >= g->lost) return;
    g->lost = lost;
    memcpy(g->order, order, s->routed * s->each * sizeof *order);
}

static bool group_layer(const split *s, const neurons *w, uint32_t *order) {
    const size_t n_ff = w->l->n_ff, n_rest = n_ff - s->n_shared;
    double *score = MEM_NEW_N(double, n_ff);
    uint32_t *rest = MEM_NEW_N(uint32_t, n_rest);
    grouping g = {.s = s, .seen = w, .order = order + s->n_shared, .lost = -1, .energy = MEM_NEW_N(float, s->routed)};
    bool ok = score && rest && g.energy;
    for (size_t j = 0; ok && j < n_ff; j++) {
        const float *x = w->give + j * w->n;
        score[j] = (double)s->p->m->kern->dot(x, x, w->n);
    }
    ok = ok && prune_largest(score, n_ff, s->n_shared, order, NULL) == MOTE_OK;
    for (size_t j = 0, k = 0, at = 0; ok && j < n_ff; j++)
        if (k < s->n_shared && order[k] == j) k++;
        else rest[at++] = (uint32_t)j;
    ok = ok && neurons_group(s->p->m->kern, w, rest, n_rest, s->each, ROUNDS, attempt, &g);
    mem_free(score);
    mem_free(rest);
    mem_free(g.energy);
    return ok;
}

static void group_layers(void *arg, int ith, int nth) {
    split *s = arg;
    for (size_t il = (size_t)ith; il < s->p->m->hp.n_layer; il += (size_t)nth)
        if (!group_layer(s, &s->seen[il], s->parts[il].order)) s->failed = true;
}

static mote_status choose_neurons(split *s, mote_error *err) {
    prune *p = s->p;
    const char *by = p->o->split_by ? p->o->split_by : "together";
    if (strcmp(by, "random") == 0) {
        rng r;
        rng_seed(&r, p->o->seed, 31);
        for (size_t il = 0; il < p->m->hp.n_layer; il++) {
            uint32_t *order = s->parts[il].order;
            const size_t n_ff = s->parts[il].l->n_ff;
            for (size_t j = 0; j < n_ff; j++) order[j] = (uint32_t)j;
            for (size_t j = n_ff; j-- > 1;) {
                const size_t k = (size_t)(rng_double(&r) * (double)(j + 1));
                const uint32_t v = order[j];
                order[j] = order[k];
                order[k] = v;
            }
        }
        return MOTE_OK;
    }
    if (strcmp(by, "together") != 0) FAIL(err, MOTE_E_USAGE, "experts can be of neurons that are needed together, or random, not '%s'", by);
    TRY(neurons_watch(p, s->seen, NULL, err));
    pool_run(p->pool, group_layers, s);
    if (s->failed) FAIL(err, MOTE_E_MEMORY, "out of memory for the groups");
    return MOTE_OK;
}

/* ---- the router ---- */
/* Threads divide the columns. */
static void on_product(void *ctx, const linear_seen *seen) {
    const split *s = ctx;
    for (size_t il = 0; il < s->p->m->hp.n_layer; il++) {
        part *q = &s->parts[il];
        const bool in = q->l->slots[R_FFN_UP].mat == seen->w, out = q->l->slots[R_FFN_DOWN].mat == seen->w;
        if (!in && !out) continue;
        const size_t cols = seen->w->cols;
        float *to = in ? q->x : q->h;
        size_t from, until;
        pool_share(cols, 16, seen->ith, seen->nth, &from, &until);
        for (size_t r = 0; r < seen->n && r < PRUNE_WINDOW; r++) memcpy(to + r * cols + from, seen_row(seen, r) + from, (until - from) * sizeof(float));
        if (seen->ith == 0) q->n = MIN(seen->n, (size_t)PRUNE_WINDOW);
        return;
    }
}

/* t[n, routed] = the length of what each expert says, as a share of the length of all, for the rows from FIRST_TOKENS on. */
static void measure(const split *s, const part *q, size_t n) {
    const size_t n_embd = s->p->m->hp.n_embd, n_ff = q->l->n_ff;
    const struct kern_table *k = s->p->m->kern;
    for (size_t r = 0; r < n; r++)
        for (size_t j = 0; j < n_ff; j++) s->h[r * n_ff + j] = q->h[(r + FIRST_TOKENS) * n_ff + q->order[j]];
    for (size_t e = 0; e < s->routed; e++) {
        const size_t at = s->n_shared + e * s->each;
        gemm_run(s->g, GEMM_F32, &(gemm_args){.m = n, .n = n_embd, .k = s->each, .a = s->h + at, .lda = n_ff, .b = q->down + at, .ldb = n_ff, .tb = true,
                                              .c = s->said, .ldc = n_embd});
        for (size_t r = 0; r < n; r++) s->t[r * s->routed + e] = sqrtf(k->dot(s->said + r * n_embd, s->said + r * n_embd, n_embd));
    }
    for (size_t r = 0; r < n; r++) {
        float *t = s->t + r * s->routed, by = 1 / sqrtf(fmaxf(k->dot(t, t, s->routed), 1e-30f));
        for (size_t e = 0; e < s->routed; e++) t[e] *= by;
    }
}

/* What the router's choice holds of rows that it was not fitted to. */
static mote_status judge(split *s, const part *q, size_t n, mote_error *err) {
    const size_t n_embd = s->p->m->hp.n_embd;
    double *score = MEM_NEW_N(double, s->routed);
    uint32_t *chosen = MEM_NEW_N(uint32_t, s->chosen);
    mote_status st = score && chosen ? MOTE_OK : ERR(err, MOTE_E_MEMORY, "out of memory");
    if (st == MOTE_OK)
        gemm_run(s->g, GEMM_F32, &(gemm_args){.m = n, .n = s->routed, .k = n_embd, .a = q->x + FIRST_TOKENS * n_embd, .lda = n_embd, .b = q->router,
                                              .ldb = n_embd, .tb = true, .c = s->score, .ldc = s->routed});
    for (size_t r = 0; st == MOTE_OK && r < n; r++) {
        float *t = s->t + r * s->routed;
        for (size_t e = 0; e < s->routed; e++) score[e] = (double)s->score[r * s->routed + e];
        st = prune_largest(score, s->routed, s->chosen, chosen, err);
        for (size_t e = 0; e < s->routed; e++) t[e] *= t[e];
        for (size_t i = 0; st == MOTE_OK && i < s->chosen; i++) s->held += (double)t[chosen[i]];
        s->best += largest_sum(t, s->routed, s->chosen);
    }
    s->n_held += (double)n;
    mem_free(score);
    mem_free(chosen);
    return st;
}

static mote_status solve(const split *s, part *q, mote_error *err) {
    const size_t n = s->p->m->hp.n_embd;
    double mean = 0, *damp;
    TRY(prune_alloc(s->p, n, sizeof *damp, &damp, err));
    for (size_t i = 0; i < n; i++) mean += q->sums->xx[i * n + i] / (double)n;
    for (size_t i = 0; i < n; i++) damp[i] = DAMPING * mean;
    return squares_solve(q->sums, s->p->pool, damp, q->router, err);
}

static mote_status make_room(split *s, mote_error *err) {
    prune *p = s->p;
    const size_t n_embd = p->m->hp.n_embd, n_ff = s->parts[0].l->n_ff;
    TRY(prune_alloc(p, PRUNE_WINDOW * n_ff, sizeof(float), &s->h, err));
    TRY(prune_alloc(p, PRUNE_WINDOW * n_embd, sizeof(float), &s->said, err));
    TRY(prune_alloc(p, PRUNE_WINDOW * s->routed, sizeof(float), &s->t, err));
    TRY(prune_alloc(p, PRUNE_WINDOW * s->routed, sizeof(float), &s->score, err));
    for (size_t il = 0; il < p->m->hp.n_layer; il++) {
        part *q = &s->parts[il];
        TRY(prune_alloc(p, PRUNE_WINDOW * n_embd, sizeof(float), &q->x, err));
        TRY(prune_alloc(p, PRUNE_WINDOW * n_ff, sizeof(float), &q->h, err));
        TRY(squares_open(&q->sums, n_embd, s->routed, err));
    }
    return MOTE_OK;
}

/* The last window is to judge by: where there is one alone, it serves for both. */
static mote_status fit_router(split *s, mote_error *err) {
    prune *p = s->p;
    TRY(prune_tokens(p, 4096, err));
    TRY(make_room(s, err));
    TRY(prune_state(p, err));
    TRY(state_set_observer(p->st, on_product, s, err));
    const size_t n_windows = prune_n_windows(p);
    for (size_t w = 0; w < n_windows; w++) {
        const bool last = w + 1 == n_windows;
        size_t n;
        TRY(prune_window(p, w, NULL, &n, err));
        for (size_t il = 0; il < p->m->hp.n_layer; il++) {
            part *q = &s->parts[il];
            const size_t rows = q->n > FIRST_TOKENS ? q->n - FIRST_TOKENS : 0;
            measure(s, q, rows);
            if (!last || n_windows == 1) squares_add(q->sums, s->g, q->x + FIRST_TOKENS * p->m->hp.n_embd, s->t, rows);
            if (last) TRY(solve(s, q, err));
            if (last) TRY(judge(s, q, rows, err));
        }
        TRY(prune_progress(p, "fitting routers", w + 1, n_windows, err));
    }
    return state_set_observer(p->st, NULL, NULL, err);
}

/* ---- the file ---- */
/* The architecture that has such experts, with weights that sum to 1; its other keys are the same. */
typedef struct home {
    const char *from, *experts, *with_shared;
} home;
static const home homes[] = {{"llama", "llama", "granitemoe"}, {"granite", "granitemoe", "granitemoe"}, {"qwen3", "qwen3moe", NULL}};

static mote_status find_home(const split *s, const char **out, mote_error *err) {
    const model *m = s->p->m;
    const char *from = m->arch->name;
    *out = NULL;
    for (size_t i = 0; i < COUNT_OF(homes); i++)
        if (strcmp(homes[i].from, from) == 0) *out = s->n_shared ? homes[i].with_shared : homes[i].experts;
    if (!*out)
        FAIL(err, MOTE_E_UNSUPPORTED, "no architecture is '%s' with %s experts", from, s->n_shared ? "shared" : "such");
    if (m->hp.n_swa && strcmp(*out, from) != 0) FAIL(err, MOTE_E_UNSUPPORTED, "'%s', which has shared experts, knows no windows", *out);
    return MOTE_OK;
}

/* Keys of the old architecture become those of the new one. */
static mote_status move_keys(prune *p, const char *to, mote_error *err) {
    const char *from = p->m->arch->name;
    const size_t n = strlen(from);
    char key[160];
    if (strcmp(from, to) == 0) return MOTE_OK;
    for (size_t i = 0; i < model_file_n_kv(p->f); i++) {
        kv k = *model_file_kv(p->f, i);
        char old[160];
        if (k.key.n <= n || memcmp(k.key.p, from, n) != 0 || k.key.p[n] != '.' || k.key.n >= sizeof old) continue;
        (void)snprintf(old, sizeof old, "%.*s", STR_ARG(k.key));
        (void)snprintf(key, sizeof key, "%s%.120s", to, old + n);
        TRY(edit_drop_kv(p->edit, old, err));
        k.key = str_of(key);
        TRY(edit_set_kv(p->edit, &k, err));
    }
    (void)snprintf(key, sizeof key, "%s.logit_scale", from);
    const bool scaled = model_file_find(p->f, key) != NULL;
    (void)snprintf(key, sizeof key, "%s.logit_scale", to);
    if (strcmp(to, "granitemoe") == 0 && !scaled) TRY(edit_set_f32(p->edit, key, 1, err));
    return edit_set_str(p->edit, "general.architecture", str_of(to), err);
}

static mote_status set_keys(split *s, const char *to, mote_error *err) {
    prune *p = s->p;
    const struct {
        const char *key;
        size_t v;
    } keys[] = {{"feed_forward_length", s->each}, {"expert_feed_forward_length", s->each}, {"expert_count", s->routed}, {"expert_used_count", s->chosen},
                {"expert_shared_feed_forward_length", s->n_shared}};
    TRY(move_keys(p, to, err));
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        char key[160];
        if (!keys[i].v) continue;
        (void)snprintf(key, sizeof key, "%s.%s", to, keys[i].key);
        TRY(edit_set_u32(p->edit, key, (uint32_t)keys[i].v, err));
    }
    return MOTE_OK;
}

static str tensor_name(char out[64], size_t il, const char *name) {
    (void)snprintf(out, 64, "blk.%zu.%s.weight", il, name);
    return str_of(out);
}

/* Rows of gate or up, as they lie. */
static mote_status put_rows(prune *p, const tensor_info *t, const uint32_t *rows, size_t n, size_t n_mat, str name, mote_error *err) {
    size_t bytes;
    unsigned char *y;
    TRY(quant_row_bytes(quant_get((int)t->type), t->ne[0], &bytes, err));
    TRY(prune_alloc(p, n * n_mat, bytes, &y, err));
    for (size_t i = 0; i < n * n_mat; i++) memcpy(y + i * bytes, t->data + rows[i] * bytes, bytes);
    return edit_put_bytes(p->edit, name, t->type, n_mat > 1 ? 3 : 2, (uint64_t[]){t->ne[0], n, n_mat}, y, err);
}

/* Columns [at, at + n · n_mat) of down, n to a matrix, times `by`. */
static mote_status put_columns(prune *p, const part *q, size_t at, size_t n, size_t n_mat, float by, str name, mote_error *err) {
    const size_t rows = p->m->hp.n_embd, n_ff = q->l->n_ff;
    tensor_info t = *q->l->slots[R_FFN_DOWN].info;
    float *y = mem_alloc_aligned(n_mat * rows * n * sizeof *y);
    if (!y) FAIL(err, MOTE_E_MEMORY, "out of memory for '%.*s'", STR_ARG(name));
    for (size_t m = 0; m < n_mat; m++)
        for (size_t r = 0; r < rows; r++)
            for (size_t j = 0; j < n; j++) y[(m * rows + r) * n + j] = by * q->down[r * n_ff + at + m * n + j];
    t.name = name;
    const mote_status st = prune_put(p, &t, y, n_mat > 1 ? 3 : 2, (uint64_t[]){n, rows, n_mat}, err);
    mem_free_aligned(y);
    return st;
}

static mote_status write_layer(split *s, size_t il, mote_error *err) {
    static const struct {
        role r;
        const char *shared, *routed;
    } halves[] = {{R_FFN_GATE, "ffn_gate_shexp", "ffn_gate_exps"}, {R_FFN_UP, "ffn_up_shexp", "ffn_up_exps"}};
    prune *p = s->p;
    const part *q = &s->parts[il];
    const size_t n_embd = p->m->hp.n_embd;
    char name[64];
    float *router;
    for (size_t i = 0; i < COUNT_OF(halves); i++) {
        const tensor_info *t = q->l->slots[halves[i].r].info;
        if (s->n_shared) TRY(put_rows(p, t, q->order, s->n_shared, 1, tensor_name(name, il, halves[i].shared), err));
        TRY(put_rows(p, t, q->order + s->n_shared, s->each, s->routed, tensor_name(name, il, halves[i].routed), err));
        TRY(edit_drop(p->edit, t->name, err));
    }
    if (s->n_shared) TRY(put_columns(p, q, 0, s->n_shared, 1, 1, tensor_name(name, il, "ffn_down_shexp"), err));
    TRY(put_columns(p, q, s->n_shared, s->each, s->routed, (float)s->chosen, tensor_name(name, il, "ffn_down_exps"), err));
    TRY(edit_drop(p->edit, q->l->slots[R_FFN_DOWN].info->name, err));
    TRY(prune_alloc(p, s->routed * n_embd, sizeof *router, &router, err)); /* zeros where all work: nobody is to be chosen */
    for (size_t i = 0; s->chosen < s->routed && i < s->routed * n_embd; i++) router[i] = ROUTER_GAIN * q->router[i];
    return edit_put(p->edit, tensor_name(name, il, "ffn_gate_inp"), QUANT_F32, 2, (uint64_t[]){n_embd, s->routed}, router, NULL, err);
}

/* ---- the step ---- */
static mote_status check(split *s, mote_error *err) {
    const prune *p = s->p;
    const size_t n = p->o->split_experts, shared = p->o->shared_experts, used = p->o->experts_used ? p->o->experts_used : n - n / 4, n_ff = p->m->layers[0].n_ff;
    if (p->m->hp.n_expert) FAIL(err, MOTE_E_UNSUPPORTED, "the model has experts already");
    if (n < 2 || n > EXPERTS_MAX) FAIL(err, MOTE_E_RANGE, "%zu experts: 2 to %d are possible", n, EXPERTS_MAX);
    if (shared >= used || used > n || n - shared < 2)
        FAIL(err, MOTE_E_RANGE, "%zu of %zu experts at work, %zu of them shared: at least one must be chosen, of two or more", used, n, shared);
    for (size_t il = 0; il < p->m->hp.n_layer; il++) {
        const layer *l = &p->m->layers[il];
        static const role parts[] = {R_FFN_GATE, R_FFN_UP, R_FFN_DOWN};
        bool plain = l->ffn == &block_ffn && has(l, R_FFN_GATE) && !has(l, R_FFN_ACT);
        for (size_t i = 0; plain && i < COUNT_OF(parts); i++) plain = !l->slots[parts[i]].bias && !l->slots[parts[i]].scale;
        if (!plain) FAIL(err, MOTE_E_UNSUPPORTED, "layer %zu has no plain gated feed-forward to split", il);
        if (l->n_ff != n_ff) FAIL(err, MOTE_E_UNSUPPORTED, "layers have %zu and %zu neurons; experts must be of one size", n_ff, l->n_ff);
    }
    if (n_ff % n || n_ff / n % EACH_STEP)
        FAIL(err, MOTE_E_RANGE, "%zu neurons in %zu experts: each must get a multiple of %d, which the rows of quantized formats need", n_ff, n, EACH_STEP);
    s->each = n_ff / n;
    s->n_shared = shared * s->each;
    s->routed = n - shared;
    s->chosen = used - shared;
    return MOTE_OK;
}

static mote_status begin_parts(split *s, mote_error *err) {
    prune *p = s->p;
    TRY(prune_alloc(p, p->m->hp.n_layer, sizeof *s->parts, &s->parts, err));
    TRY(prune_alloc(p, p->m->hp.n_layer, sizeof *s->seen, &s->seen, err));
    memset(s->parts, 0, p->m->hp.n_layer * sizeof *s->parts);
    memset(s->seen, 0, p->m->hp.n_layer * sizeof *s->seen);
    for (size_t il = 0; il < p->m->hp.n_layer; il++) {
        part *q = &s->parts[il];
        q->l = s->seen[il].l = &p->m->layers[il];
        TRY(prune_alloc(p, q->l->n_ff, sizeof *q->order, &q->order, err));
        TRY(prune_alloc(p, s->routed * p->m->hp.n_embd, sizeof(float), &q->router, err));
    }
    return MOTE_OK;
}

/* down in the new order. */
static mote_status read_down(split *s, mote_error *err) {
    prune *p = s->p;
    for (size_t il = 0; il < p->m->hp.n_layer; il++) {
        part *q = &s->parts[il];
        const size_t rows = p->m->hp.n_embd, n_ff = q->l->n_ff;
        float *x;
        TRY(prune_alloc(p, rows * n_ff, sizeof(float), &q->down, err));
        TRY(prune_floats(q->l->slots[R_FFN_DOWN].info, &x, err));
        for (size_t r = 0; r < rows; r++)
            for (size_t j = 0; j < n_ff; j++) q->down[r * n_ff + j] = x[r * n_ff + q->order[j]];
        mem_free_aligned(x);
    }
    return MOTE_OK;
}

static void report(const split *s) {
    prune *p = s->p;
    const size_t n = p->o->split_experts, shared = p->o->shared_experts;
    prune_say(p, "experts: each feed-forward is now %zu of %zu neurons; %zu work, %zu of them for all tokens", n, s->each, s->chosen + shared, shared);
    if (s->n_held > 0)
        prune_say(p, "  the chosen hold %.1f %% of the energy of those to choose from, the best choice would %.1f %%, any would %.1f %%", 100 * s->held / s->n_held,
                  100 * s->best / s->n_held, 100.0 * (double)s->chosen / (double)s->routed);
    (void)json_object_set_new(p->json, "experts", json_integer((json_int_t)n));
    (void)json_object_set_new(p->json, "shared", json_integer((json_int_t)shared));
    (void)json_object_set_new(p->json, "used", json_integer((json_int_t)(s->chosen + shared)));
    (void)json_object_set_new(p->json, "neurons", json_integer((json_int_t)s->each));
    (void)json_object_set_new(p->json, "held", json_real(s->n_held > 0 ? s->held / s->n_held : 1));
    (void)json_object_set_new(p->json, "held_best", json_real(s->n_held > 0 ? s->best / s->n_held : 1));
}

mote_status prune_split(prune *p, mote_error *err) {
    split s = {.p = p};
    const char *to;
    mote_status st;
    TRY(check(&s, err));
    TRY(find_home(&s, &to, err));
    TRY(begin_parts(&s, err));
    TRYG(st, choose_neurons(&s, err));
    TRYG(st, read_down(&s, err));
    TRYG(st, gemm_open(&s.g, p->pool, p->m->kern, err));
    if (s.chosen < s.routed) TRYG(st, fit_router(&s, err));
    for (size_t il = 0; il < p->m->hp.n_layer; il++) TRYG(st, write_layer(&s, il, err));
    TRYG(st, set_keys(&s, to, err));
    report(&s);
out:
    gemm_close(&s.g);
    for (size_t il = 0; il < p->m->hp.n_layer; il++) squares_close(&s.parts[il].sums);
    return st;
}
