/* block_moe.c: a mixture of experts, with groups, selection bias, shared experts and the usual gatings.
 * Source: Shazeer et al. 2017; DeepSeek-V3 (2024) §2.1.2 for sigmoid gating, groups and selection bias. */
#include "model/arch.h"

#include <math.h>
#include <string.h>

enum { FEW = 64, COMBINE_COLUMNS = 256 }; /* assignments that every thread makes for itself: dearer than that is a barrier */

static size_t expert_ff(const model *m, const layer *l) { return m->hp.n_ff_exp ? m->hp.n_ff_exp : l->n_ff; }
static size_t shared_ff(const layer *l) { return has(l, R_FFN_UP_SHEXP) ? l->slots[R_FFN_UP_SHEXP].mat->rows : 0; }

static mote_status moe_bind(model *m, layer *l, int which, mote_error *err) {
    (void)which;
    size_t n_embd = m->hp.n_embd, ne = m->hp.n_expert, ff = expert_ff(m, l), sh = shared_ff(l);
    if (ne == 0 || ff == 0) FAIL(err, MOTE_E_FORMAT, "layer %zu has experts but the keys give %zu experts of size %zu", l->index, ne, ff);
    TRY(bind_mat(l, R_FFN_GATE_INP, n_embd, ne, 1, true, err));
    if (has(l, R_FFN_GATE_UP_EXPS)) TRY(bind_mat(l, R_FFN_GATE_UP_EXPS, n_embd, 2 * ff, ne, true, err));
    else {
        TRY(bind_mat(l, R_FFN_UP_EXPS, n_embd, ff, ne, true, err));
        TRY(bind_mat(l, R_FFN_GATE_EXPS, n_embd, ff, ne, false, err));
    }
    TRY(bind_mat(l, R_FFN_DOWN_EXPS, ff, n_embd, ne, true, err));
    TRY(bind_bias(l, R_EXP_PROBS_B, ne, false, err));
    static const role scaled[] = {R_FFN_UP_EXPS, R_FFN_GATE_EXPS, R_FFN_DOWN_EXPS, R_FFN_UP_SHEXP, R_FFN_GATE_SHEXP, R_FFN_DOWN_SHEXP};
    for (size_t i = 0; i < COUNT_OF(scaled) && !m->arch->moe_scaled; i++) l->slots[scaled[i]].scale = NULL;
    if (!sh) return MOTE_OK;
    TRY(bind_mat(l, R_FFN_UP_SHEXP, n_embd, sh, 1, true, err));
    TRY(bind_mat(l, R_FFN_GATE_SHEXP, n_embd, sh, 1, false, err));
    TRY(bind_mat(l, R_FFN_DOWN_SHEXP, sh, n_embd, 1, true, err));
    if (!has(l, R_FFN_GATE_INP_SHEXP)) return MOTE_OK;
    return bind_mat(l, R_FFN_GATE_INP_SHEXP, n_embd, 1, 1, true, err);
}

struct moe_mem {
    float *logits, *weights, *gate, *up, *down, *sh_gate, *sh_up, *sh_out, *sh_logit;
    int32_t *chosen;
    expert_assign *first, *second;
};

/* The one description of what a pass needs: measured with an empty bump, laid out with a real one. */
static struct moe_mem lay_out(const model *m, const layer *l, size_t n, bump *b) {
    size_t k = m->hp.n_expert_used, ff = expert_ff(m, l), sh = shared_ff(l);
    struct moe_mem r;
    r.logits = bump_f32(b, n * m->hp.n_expert);
    r.weights = bump_f32(b, n * k);
    r.gate = bump_f32(b, n * k * 2 * ff);
    r.up = r.gate ? r.gate + n * k * ff : NULL;
    r.down = bump_f32(b, n * k * m->hp.n_embd);
    r.sh_gate = bump_f32(b, n * sh);
    r.sh_up = bump_f32(b, n * sh);
    r.sh_out = bump_f32(b, sh ? n * m->hp.n_embd : 0);
    r.sh_logit = bump_f32(b, n);
    r.chosen = bump_bytes(b, n * k * sizeof(int32_t));
    r.first = bump_bytes(b, n * k * sizeof(expert_assign));
    r.second = bump_bytes(b, n * k * sizeof(expert_assign));
    return r;
}

static size_t moe_mem_floats(const model *m, const layer *l, size_t n) {
    bump b = {0};
    (void)lay_out(m, l, n, &b);
    return b.used / sizeof(float) + 16 + n * m->hp.n_expert;
}

/* The k ≤ n largest of n scores, largest first; the lower index wins a tie. */
static void largest(const float *s, size_t n, size_t k, int32_t *chosen) {
    size_t have = 0;
    for (size_t i = 0; i < n; i++) {
        if (have == k && !(s[i] > s[chosen[k - 1]])) continue;
        size_t at = have < k ? have++ : k - 1;
        for (; at > 0 && s[i] > s[chosen[at - 1]]; at--) chosen[at] = chosen[at - 1];
        chosen[at] = (int32_t)i;
    }
}

/* Excludes all but the best groups: a group counts what its two best experts have (DeepSeek-V3). */
static void mask_groups(const hparams *h, float *score) {
    size_t per = h->n_expert / h->n_expert_groups;
    for (size_t drop = h->n_expert_groups - h->n_group_used; drop > 0; drop--) {
        size_t worst = SIZE_MAX;
        float worst_sum = INFINITY;
        for (size_t g = h->n_expert_groups; g-- > 0;) {
            const float *s = score + g * per;
            int32_t best[2];
            largest(s, per, MIN(per, (size_t)2), best);
            float first = s[best[0]], sum = first + (per > 1 ? s[best[1]] : 0);
            if (first > -INFINITY && sum < worst_sum) {
                worst_sum = sum;
                worst = g;
            }
        }
        for (size_t i = 0; worst != SIZE_MAX && i < per; i++) score[worst * per + i] = -INFINITY;
    }
}

static void softmax(const kern_table *kern, float *x, size_t n) {
    float sum = kern->exp_sum(x, kern->max(x, n), n);
    for (size_t i = 0; i < n; i++) x[i] /= sum;
}

/* One token: probabilities, choice, weights times `scale`. */
static void choose(const fwd *f, const float *bias, const float *logits, float scale, int32_t *chosen, float *w) {
    const hparams *h = &f->m->hp;
    const kern_table *kern = f->t.kern;
    size_t ne = h->n_expert, k = h->n_expert_used;
    float p[EXPERTS_MAX], score[EXPERTS_MAX], sum = 0;
    kern->act(h->gating == GATE_SIGMOID ? ACT_SIGMOID : ACT_NONE, p, logits, NULL, ne);
    if (h->gating == GATE_SOFTMAX) softmax(kern, p, ne);
    memcpy(score, p, ne * sizeof *p);
    if (bias) kern->axpy(score, bias, 1, ne);
    if (h->n_expert_groups > 1) mask_groups(h, score);
    largest(score, ne, k, chosen);
    for (size_t j = 0; j < k; j++) w[j] = p[chosen[j]];
    if (h->gating == GATE_SOFTMAX_TOPK) softmax(kern, w, k);
    for (size_t j = 0; j < k; j++) sum += w[j];
    float by = h->expert_scale;
    if (h->expert_norm) by /= fmaxf(sum, 6.103515625e-5f); /* the smallest normal half, as trained */
    for (size_t j = 0; j < k; j++) w[j] *= by * scale;
}

/* Assignments sorted by expert, then by row (a counting sort). */
static void sort_assignments(const fwd *f, const struct moe_mem *b) {
    size_t k = f->m->hp.n_expert_used, total = f->n * k, ne = f->m->hp.n_expert, next[EXPERTS_MAX + 1];
    memset(next, 0, (ne + 1) * sizeof *next);
    for (size_t i = 0; i < total; i++) next[b->chosen[i] + 1]++;
    for (size_t e = 0; e < ne; e++) next[e + 1] += next[e];
    for (size_t i = 0; i < total; i++) {
        int32_t e = b->chosen[i];
        size_t at = next[e]++;
        b->first[at] = (expert_assign){e, (int32_t)(i / k), (int32_t)i};
        b->second[at] = (expert_assign){e, (int32_t)i, (int32_t)i};
    }
}

/* Who goes where. With few rows every thread finds that out for itself, in `own`; with many they share the work. */
struct few {
    float weights[FEW];
    int32_t chosen[FEW];
    expert_assign first[FEW], second[FEW];
};
static void assign(fwd *f, const layer *l, float scale, struct moe_mem *b, struct few *own) {
    size_t k = f->m->hp.n_expert_used, ne = f->m->hp.n_expert, from = 0, to = f->n;
    bool alone = f->n * k <= FEW;
    team_enter(&f->t, PROF_ROUTE);
    if (alone) {
        b->weights = own->weights;
        b->chosen = own->chosen;
        b->first = own->first;
        b->second = own->second;
    } else fwd_share(f, f->n, &from, &to);
    for (size_t r = from; r < to; r++)
        choose(f, l->slots[R_EXP_PROBS_B].bias, b->logits + r * ne, scale, b->chosen + r * k, b->weights + r * k);
    if (!alone) team_barrier(&f->t);
    if (alone || f->t.ith == 0) sort_assignments(f, b);
    if (!alone) team_barrier(&f->t);
}

static expert_out exps_out(const slot *s, float *y, size_t ld) {
    return (expert_out){.w = s->mat, .y = y, .ld = ld, .bias = s->bias, .scale = s->scale};
}

/* down[n·k, n_embd] = the chosen experts' outputs. */
static void run_experts(fwd *f, const layer *l, const linear_in *in, const struct moe_mem *b) {
    size_t ff = expert_ff(f->m, l), total = f->n * f->m->hp.n_expert_used;
    linear_in mid = {.x = b->gate, .ld = ff, .act = f->m->arch->act, .up = b->up, .ld_up = ff};
    if (has(l, R_FFN_GATE_UP_EXPS)) {
        expert_out o = exps_out(&l->slots[R_FFN_GATE_UP_EXPS], b->gate, 2 * ff);
        op_experts(&f->t, in, f->n, b->first, total, &o, 1);
        mid.ld = mid.ld_up = 2 * ff;
        mid.up = b->gate + ff;
    } else {
        bool gated = has(l, R_FFN_GATE_EXPS);
        expert_out o[2] = {exps_out(&l->slots[R_FFN_UP_EXPS], gated ? b->up : b->gate, ff), exps_out(&l->slots[R_FFN_GATE_EXPS], b->gate, ff)};
        op_experts(&f->t, in, f->n, b->first, total, o, gated ? 2 : 1);
        if (!gated) mid.up = NULL;
    }
    expert_out down = exps_out(&l->slots[R_FFN_DOWN_EXPS], b->down, f->m->hp.n_embd);
    op_experts(&f->t, &mid, total, b->second, total, &down, 1);
}

/* The router and what else reads the same input: the first half of the expert that every token passes. */
static void route(fwd *f, const layer *l, const linear_in *in, const struct moe_mem *b) {
    size_t n_outs = 0, sh = shared_ff(l);
    bool gated = has(l, R_FFN_GATE_SHEXP);
    linear_out o[4];
    if (!f->router) o[n_outs++] = slot_out(&l->slots[R_FFN_GATE_INP], b->logits, f->m->hp.n_expert);
    if (sh) o[n_outs++] = slot_out(&l->slots[R_FFN_UP_SHEXP], gated ? b->sh_up : b->sh_gate, sh);
    if (sh && gated) o[n_outs++] = slot_out(&l->slots[R_FFN_GATE_SHEXP], b->sh_gate, sh);
    if (sh && has(l, R_FFN_GATE_INP_SHEXP)) o[n_outs++] = slot_out(&l->slots[R_FFN_GATE_INP_SHEXP], b->sh_logit, 1);
    op_linear(&f->t, in, f->n, o, n_outs);
}

/* sh_out[n, n_embd] = its second half. */
static void run_shared(fwd *f, const layer *l, const struct moe_mem *b) {
    size_t sh = shared_ff(l);
    linear_in mid = {.x = b->sh_gate, .ld = sh, .act = f->m->arch->act, .up = has(l, R_FFN_GATE_SHEXP) ? b->sh_up : NULL, .ld_up = sh};
    linear_out down = slot_out(&l->slots[R_FFN_DOWN_SHEXP], b->sh_out, f->m->hp.n_embd);
    op_linear(&f->t, &mid, f->n, &down, 1);
}

/* y = (y +) sum of the experts' outputs by their weights, and the shared one times its own gate when there is one. */
static void combine(fwd *f, const layer *l, const struct moe_mem *b, const sink *sk) {
    size_t n_embd = f->m->hp.n_embd, k = f->m->hp.n_expert_used, parts = (n_embd + COMBINE_COLUMNS - 1) / COMBINE_COLUMNS, from, to;
    bool shared = shared_ff(l) > 0, own = has(l, R_FFN_GATE_INP_SHEXP);
    team_enter(&f->t, PROF_ROUTE);
    fwd_share(f, f->n * parts, &from, &to);
    for (size_t i = from; i < to; i++) {
        size_t r = i / parts, c = i % parts * COMBINE_COLUMNS;
        const float *down = b->down + r * k * n_embd + c, *w = b->weights + r * k, one = 1;
        kern_recall sum = {.y = sk->y + r * sk->ld + c, .m = 1, .w = MIN(n_embd - c, (size_t)COMBINE_COLUMNS), .ld_past = n_embd};
        if (shared) {
            sum.x = b->sh_out + r * n_embd + c;
            sum.by = sk->scale * (own ? act_apply(ACT_SIGMOID, b->sh_logit[r]) : 1);
        }
        if (sk->add) {
            sum.read = sum.y;
            sum.pre = &one;
            sum.past = down;
            sum.coef = w;
            sum.first = k;
        } else { /* y holds nothing yet: the first expert begins */
            sum.read = down;
            sum.pre = w;
            sum.past = down + n_embd;
            sum.coef = w + 1;
            sum.first = k - 1;
        }
        f->t.kern->recall(&sum);
    }
    team_barrier(&f->t);
}

/* SmallThinker's router reads the layer's input, so that experts can be fetched while attention runs. */
static void moe_before(fwd *f, const layer *l) {
    if (!f->m->arch->moe_input_raw) return;
    linear_in in = {.x = f->x, .ld = f->m->hp.n_embd};
    f->router = bump_f32(&f->mem, f->n * f->m->hp.n_expert);
    linear_out router = slot_out(&l->slots[R_FFN_GATE_INP], f->router, f->m->hp.n_expert);
    op_linear(&f->t, &in, f->n, &router, 1);
}

static void moe_forward(fwd *f, const layer *l, int which, const linear_in *in, const sink *sk) {
    (void)which;
    size_t mark = bump_mark(&f->mem);
    struct moe_mem b = lay_out(f->m, l, f->n, &f->mem);
    struct few own;
    if (f->router) b.logits = f->router;
    route(f, l, in, &b);
    assign(f, l, sk->scale, &b, &own);
    run_experts(f, l, in, &b);
    if (shared_ff(l)) run_shared(f, l, &b);
    combine(f, l, &b, sk);
    bump_reset(&f->mem, mark);
}

const block_ops block_moe = {.name = "experts", .bind = moe_bind, .mem_floats = moe_mem_floats, .forward = moe_forward, .before = moe_before};
