/* block_moe.c: a mixture of experts, with groups, selection bias, shared experts and the usual gatings.
 * Source: Shazeer et al. 2017; DeepSeek-V3 (2024) §2.1.2 for sigmoid gating, groups and selection bias. */
#include "model/arch.h"

#include <math.h>
#include <string.h>

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

/* Index of the largest of n scores; the lower index wins a tie. */
static size_t best_of(const float *s, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (s[i] > s[best]) best = i;
    return best;
}

/* Excludes all but the best groups: a group counts what its two best experts have (DeepSeek-V3). */
static void mask_groups(const hparams *h, float *score) {
    size_t per = h->n_expert / h->n_expert_groups;
    for (size_t drop = h->n_expert_groups - h->n_group_used; drop > 0; drop--) {
        size_t worst = SIZE_MAX;
        float worst_sum = INFINITY;
        for (size_t g = h->n_expert_groups; g-- > 0;) {
            const float *s = score + g * per;
            size_t a = best_of(s, per);
            float second = -INFINITY, sum;
            for (size_t i = 0; i < per; i++)
                if (i != a && s[i] > second) second = s[i];
            sum = s[a] + (per > 1 ? second : 0);
            if (s[a] > -INFINITY && sum < worst_sum) {
                worst_sum = sum;
                worst = g;
            }
        }
        for (size_t i = 0; worst != SIZE_MAX && i < per; i++) score[worst * per + i] = -INFINITY;
    }
}

/* One token: probabilities, choice, weights. logits are overwritten. */
static void choose(const hparams *h, const float *bias, float *logits, int32_t *chosen, float *w) {
    size_t ne = h->n_expert, k = h->n_expert_used;
    float score[EXPERTS_MAX], sum = 0;
    if (h->gating == GATE_SOFTMAX) softmax_row_local(logits, ne);
    for (size_t i = 0; i < ne; i++) {
        if (h->gating == GATE_SIGMOID) logits[i] = act_apply(ACT_SIGMOID, logits[i]);
        score[i] = logits[i] + (bias ? bias[i] : 0);
    }
    if (h->n_expert_groups > 1) mask_groups(h, score);
    for (size_t j = 0; j < k; j++) {
        size_t e = best_of(score, ne);
        chosen[j] = (int32_t)e;
        w[j] = logits[e];
        score[e] = -INFINITY;
    }
    if (h->gating == GATE_SOFTMAX_TOPK) softmax_row_local(w, k);
    for (size_t j = 0; j < k; j++) sum += w[j];
    float by = h->expert_scale;
    if (h->expert_norm) by /= fmaxf(sum, 6.103515625e-5f); /* the smallest normal half, as trained */
    for (size_t j = 0; j < k; j++) w[j] *= by;
}

/* Assignments sorted by expert, then by row (a counting sort), by one thread for all. */
static void sort_assignments(const fwd *f, const struct moe_mem *b) {
    size_t k = f->m->hp.n_expert_used, total = f->n * k, next[EXPERTS_MAX + 1] = {0};
    if (f->t.ith != 0) return;
    for (size_t i = 0; i < total; i++) next[b->chosen[i] + 1]++;
    for (size_t e = 0; e < f->m->hp.n_expert; e++) next[e + 1] += next[e];
    for (size_t i = 0; i < total; i++) {
        int32_t e = b->chosen[i];
        size_t at = next[e]++;
        b->first[at] = (expert_assign){e, (int32_t)(i / k), (int32_t)i};
        b->second[at] = (expert_assign){e, (int32_t)i, (int32_t)i};
    }
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

/* sh_out[n, n_embd] = the expert that every token passes, times its own gate when there is one. */
static void run_shared(fwd *f, const layer *l, const linear_in *in, const struct moe_mem *b) {
    size_t sh = shared_ff(l), n_embd = f->m->hp.n_embd;
    bool gated = has(l, R_FFN_GATE_SHEXP), own = has(l, R_FFN_GATE_INP_SHEXP);
    linear_out o[3] = {slot_out(&l->slots[R_FFN_UP_SHEXP], gated ? b->sh_up : b->sh_gate, sh)};
    size_t n_outs = 1;
    if (gated) o[n_outs++] = slot_out(&l->slots[R_FFN_GATE_SHEXP], b->sh_gate, sh);
    if (own) o[n_outs++] = slot_out(&l->slots[R_FFN_GATE_INP_SHEXP], b->sh_logit, 1);
    op_linear(&f->t, in, f->n, o, n_outs);
    linear_in mid = {.x = b->sh_gate, .ld = sh, .act = f->m->arch->act, .up = gated ? b->sh_up : NULL, .ld_up = sh};
    linear_out down = slot_out(&l->slots[R_FFN_DOWN_SHEXP], b->sh_out, n_embd);
    op_linear(&f->t, &mid, f->n, &down, 1);
}

static void combine(fwd *f, const layer *l, const struct moe_mem *b, const sink *sk) {
    size_t n_embd = f->m->hp.n_embd, k = f->m->hp.n_expert_used, from, to;
    bool shared = shared_ff(l) > 0, own = has(l, R_FFN_GATE_INP_SHEXP);
    team_enter(&f->t, PROF_ROUTE);
    fwd_share(f, f->n, &from, &to);
    for (size_t r = from; r < to; r++) {
        float *y = sk->y + r * sk->ld, g = own ? act_apply(ACT_SIGMOID, b->sh_logit[r]) : 1;
        for (size_t i = 0; i < n_embd; i++) {
            float sum = 0;
            for (size_t j = 0; j < k; j++) sum += b->weights[r * k + j] * b->down[(r * k + j) * n_embd + i];
            if (shared) sum += g * b->sh_out[r * n_embd + i];
            y[i] = sk->scale * sum + (sk->add ? y[i] : 0);
        }
    }
    team_barrier(&f->t);
}

static void route(fwd *f, const layer *l, const linear_in *in, float *logits) {
    linear_out router = slot_out(&l->slots[R_FFN_GATE_INP], logits, f->m->hp.n_expert);
    op_linear(&f->t, in, f->n, &router, 1);
}

/* SmallThinker's router reads the layer's input, so that experts can be fetched while attention runs. */
static void moe_before(fwd *f, const layer *l) {
    if (!f->m->arch->moe_input_raw) return;
    linear_in in = {.x = f->x, .ld = f->m->hp.n_embd};
    f->router = bump_f32(&f->mem, f->n * f->m->hp.n_expert);
    route(f, l, &in, f->router);
}

static void moe_forward(fwd *f, const layer *l, int which, const linear_in *in, const sink *sk) {
    (void)which;
    const hparams *h = &f->m->hp;
    size_t mark = bump_mark(&f->mem), from, to;
    struct moe_mem b = lay_out(f->m, l, f->n, &f->mem);
    if (f->router) b.logits = f->router;
    else route(f, l, in, b.logits);
    team_enter(&f->t, PROF_ROUTE);
    fwd_share(f, f->n, &from, &to);
    for (size_t r = from; r < to; r++)
        choose(h, l->slots[R_EXP_PROBS_B].bias, b.logits + r * h->n_expert, b.chosen + r * h->n_expert_used, b.weights + r * h->n_expert_used);
    team_barrier(&f->t);
    team_enter(&f->t, PROF_ROUTE);
    sort_assignments(f, &b);
    team_barrier(&f->t);
    run_experts(f, l, in, &b);
    if (shared_ff(l)) run_shared(f, l, in, &b);
    combine(f, l, &b, sk);
    bump_reset(&f->mem, mark);
}

const block_ops block_moe = {.name = "experts", .bind = moe_bind, .mem_floats = moe_mem_floats, .forward = moe_forward, .before = moe_before};
