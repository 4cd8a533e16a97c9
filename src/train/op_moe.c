/* op_moe.c: which experts a token goes to, and the sum of what they say.
 * The choice itself has no gradient; the weights have. Source: Shazeer et al. 2017, §2; DeepSeek-V3 2024, §2.1.2. */
#include "train/ops.h"

#include "model/arch.h"

#include <assert.h>
#include <math.h>
#include <string.h>

struct routing {
    var *p;        /* the router's logits */
    ad_route *r;
    ad_route_opts o;
    float *chance; /* [n, n_expert] after the gating function */
    float *raw;    /* [n, n_used] weights before they are made to sum to 1 */
    float *g;
};

static void softmax(float *x, size_t n) {
    float top = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++) top = fmaxf(top, x[i]);
    for (size_t i = 0; i < n; i++) sum += x[i] = expf(x[i] - top);
    for (size_t i = 0; i < n; i++) x[i] /= sum;
}

/* The n_used largest of score (+ bias), largest first; the lower index wins a tie. */
static void choose(const struct routing *a, const float *score, int32_t *chosen) {
    size_t have = 0, k = a->o.n_used;
    const float *bias = a->o.bias;
    for (size_t e = 0; e < a->p->cols; e++) {
        float s = score[e] + (bias ? bias[e] : 0);
        size_t at = have < k ? have : k;
        while (at > 0 && s > score[chosen[at - 1]] + (bias ? bias[chosen[at - 1]] : 0)) at--;
        if (at == k) continue;
        if (have < k) have++;
        memmove(chosen + at + 1, chosen + at, (have - 1 - at) * sizeof *chosen);
        chosen[at] = (int32_t)e;
    }
}

/* The smallest normal half: what models are trained with as the least sum. */
static const float SUM_LEAST = 6.103515625e-5f;

static float raw_sum(const float *raw, size_t k) {
    float sum = 0;
    for (size_t j = 0; j < k; j++) sum += raw[j];
    return fmaxf(sum, SUM_LEAST);
}

static void route_part(void *ctx, size_t from, size_t to, int ith) {
    const struct routing *a = ctx;
    size_t ne = a->p->cols, k = a->o.n_used;
    (void)ith;
    for (size_t i = from; i < to; i++) {
        float *chance = a->chance + i * ne, *raw = a->raw + i * k, *w = a->r->weight->x + i * k;
        int32_t *chosen = a->r->expert + i * k;
        memcpy(chance, a->p->x + i * ne, ne * sizeof *chance);
        if (a->o.gating == GATE_SOFTMAX) softmax(chance, ne);
        for (size_t e = 0; a->o.gating == GATE_SIGMOID && e < ne; e++) chance[e] = 1 / (1 + expf(-chance[e]));
        choose(a, chance, chosen);
        for (size_t j = 0; j < k; j++) raw[j] = chance[chosen[j]];
        if (a->o.gating == GATE_SOFTMAX_TOPK) softmax(raw, k);
        float by = a->o.norm ? a->o.scale / raw_sum(raw, k) : a->o.scale;
        for (size_t j = 0; j < k; j++) w[j] = raw[j] * by;
    }
}

static void route_back_part(void *ctx, size_t from, size_t to, int ith) {
    const struct routing *a = ctx;
    size_t ne = a->p->cols, k = a->o.n_used;
    float d[EXPERTS_MAX];
    (void)ith;
    for (size_t i = from; i < to; i++) {
        const float *chance = a->chance + i * ne, *raw = a->raw + i * k, *dw = a->r->weight->g + i * k;
        const int32_t *chosen = a->r->expert + i * k;
        float *g = a->g + i * ne, sum = raw_sum(raw, k), mean = 0, all = 0;
        for (size_t j = 0; j < k; j++) mean += dw[j] * raw[j] / sum;
        if (!a->o.norm || sum == SUM_LEAST) mean = 0;
        for (size_t j = 0; j < k; j++) d[j] = a->o.scale * (a->o.norm ? (dw[j] - mean) / sum : dw[j]);
        for (size_t j = 0; j < k; j++) all += raw[j] * d[j];
        switch (a->o.gating) {
        case GATE_SIGMOID:
            for (size_t j = 0; j < k; j++) g[chosen[j]] += raw[j] * (1 - raw[j]) * d[j];
            break;
        case GATE_SOFTMAX:
            for (size_t e = 0; e < ne; e++) g[e] -= chance[e] * all;
            for (size_t j = 0; j < k; j++) g[chosen[j]] += raw[j] * d[j];
            break;
        default:
            for (size_t j = 0; j < k; j++) g[chosen[j]] += raw[j] * (d[j] - all);
        }
    }
}

static void route_back(tape *t, void *ctx) {
    struct routing *a = ctx;
    if (!a->r->weight->g) return;
    a->g = tape_grad_zeroed(t, a->p);
    if (a->g) tape_for(t, a->p->rows, 1, route_back_part, a);
}

/* By expert, then by token: a counting sort. */
static void sort_tokens(ad_route *r, size_t n, size_t k, size_t ne, size_t *next) {
    for (size_t i = 0; i < n * k; i++) r->count[r->expert[i]]++;
    for (size_t e = 0, at = 0; e < ne; at += r->count[e++]) next[e] = at;
    for (size_t i = 0; i < n * k; i++) {
        size_t at = next[r->expert[i]]++;
        r->token[at] = (int32_t)(i / k);
        r->place[at] = (int32_t)(i % k);
    }
}

ad_route *ad_router(tape *t, var *p, const ad_route_opts *o) {
    if (!p) return NULL;
    size_t n = p->rows, ne = p->cols, k = o->n_used, next[EXPERTS_MAX];
    assert(ne <= EXPERTS_MAX && k > 0 && k <= ne);
    ad_route *r = tape_mem(t, sizeof *r);
    struct routing a = {.p = p, .r = r, .o = *o};
    a.chance = tape_mem(t, n * ne * sizeof(float));
    a.raw = tape_mem(t, n * k * sizeof(float));
    if (!r || !a.chance || !a.raw) return NULL;
    r->expert = tape_mem(t, n * k * sizeof(int32_t));
    r->token = tape_mem(t, n * k * sizeof(int32_t));
    r->place = tape_mem(t, n * k * sizeof(int32_t));
    r->count = tape_mem(t, ne * sizeof(size_t));
    r->weight = tape_var(t, n, k, p->wants);
    if (!r->expert || !r->token || !r->place || !r->count || !r->weight) return NULL;
    memset(r->count, 0, ne * sizeof *r->count);
    memset(r->expert, 0, n * k * sizeof *r->expert);
    tape_for(t, n, 1, route_part, &a);
    sort_tokens(r, n, k, ne, next);
    struct routing *kept = r->weight->wants ? tape_note(t, route_back, sizeof a) : NULL;
    if (kept) *kept = a;
    return r;
}

/* ---- y[token] = Σ weight · its experts' rows;  dout = weight dy;  dweight = dy · out ---- */
struct gathering {
    const struct kern_table *kern;
    var *out, *y;
    const ad_route *r;
    float *gout, *gw;
    bool fresh;
};

static void gather_part(void *ctx, size_t from, size_t to, int ith) {
    const struct gathering *a = ctx;
    size_t cols = a->y->cols, total = a->out->rows, k = a->r->weight->cols;
    (void)ith;
    for (size_t i = 0; i < a->y->rows; i++) memset(a->y->x + i * cols + from, 0, (to - from) * sizeof(float));
    for (size_t at = 0; at < total; at++) {
        size_t i = (size_t)a->r->token[at];
        a->kern->axpy(a->y->x + i * cols + from, a->out->x + at * cols + from, a->r->weight->x[i * k + (size_t)a->r->place[at]], to - from);
    }
}

static void gather_back_part(void *ctx, size_t from, size_t to, int ith) {
    const struct gathering *a = ctx;
    size_t cols = a->y->cols, k = a->r->weight->cols;
    (void)ith;
    for (size_t at = from; at < to; at++) {
        size_t i = (size_t)a->r->token[at], w = i * k + (size_t)a->r->place[at];
        const float *dy = a->y->g + i * cols;
        if (a->gw) a->gw[w] += a->kern->dot(dy, a->out->x + at * cols, cols); /* one place of one token: nobody else adds here */
        float *g = a->gout ? a->gout + at * cols : NULL, by = a->r->weight->x[w];
        for (size_t c = 0; g && c < cols; c++) g[c] = (a->fresh ? 0 : g[c]) + by * dy[c];
    }
}

static void gather_back(tape *t, void *ctx) {
    struct gathering *a = ctx;
    if (!a->y->g) return;
    a->gout = tape_grad(t, a->out, &a->fresh);
    a->gw = tape_grad_zeroed(t, a->r->weight);
    tape_for(t, a->out->rows, 1, gather_back_part, a);
}

var *ad_gather(tape *t, var *out, const ad_route *r, size_t n) {
    if (!out || !r) return NULL;
    struct gathering a = {.kern = tape_kern(t), .out = out, .r = r};
    a.y = tape_var(t, n, out->cols, out->wants || r->weight->wants);
    if (!a.y) return NULL;
    tape_for(t, out->cols, 64, gather_part, &a);
    struct gathering *kept = a.y->wants ? tape_note(t, gather_back, sizeof a) : NULL;
    if (kept) *kept = a;
    return a.y;
}
