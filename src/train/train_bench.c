/* train_bench.c: see train_bench.h. */
#include "train/train_bench.h"

#include "base/clock.h"
#include "base/rng.h"
#include "train/net_int.h"
#include "train/trainer.h"

#include <math.h>

/* The same rows for every step. */
struct bench {
    net *n;
    tape *t;
    int32_t *ids, *targets, *pos;
    uint32_t *start;
    ad_seqs s;
    optim *o;
    uint64_t done;
};

static mote_status make_rows(struct bench *b, const train_bench_opts *o, mote_error *err) {
    size_t n;
    const size_t vocab = net_model(b->n)->hp.n_vocab;
    if (o->n_seq == 0 || o->len < 2 || !ckd_mul_size(&n, o->n_seq, o->len) || n > INT32_MAX)
        FAIL(err, MOTE_E_USAGE, "%zu sequences of %zu tokens: expected at least one of two tokens", o->n_seq, o->len);
    b->ids = MEM_NEW_N(int32_t, n);
    b->targets = MEM_NEW_N(int32_t, n);
    b->pos = MEM_NEW_N(int32_t, n);
    b->start = MEM_NEW_N(uint32_t, o->n_seq + 1);
    if (!b->ids || !b->targets || !b->pos || !b->start) FAIL(err, MOTE_E_MEMORY, "out of memory");
    rng r;
    rng_seed(&r, 1, 1);
    for (size_t i = 0; i < n; i++) b->ids[i] = (int32_t)rng_below(&r, (uint32_t)vocab);
    for (size_t i = 0; i < n; i++) {
        b->pos[i] = (int32_t)(i % o->len);
        b->targets[i] = i % o->len + 1 < o->len ? b->ids[i + 1] : -1;
    }
    for (size_t i = 0; i <= o->n_seq; i++) b->start[i] = (uint32_t)(i * o->len);
    b->s = (ad_seqs){.n = n, .n_seq = o->n_seq, .start = b->start, .pos = b->pos};
    return MOTE_OK;
}

/* What a step has to multiply: every matrix three times for each token that passes it (forward, its gradient, that of its input),
 * attention's two products of the keys a token sees, and four going back. */
static double count_ops(const struct bench *b, size_t len) {
    const model *m = net_model(b->n);
    const hparams *h = &m->hp;
    const ad_head head = net_head(b->n);
    double per_token = 0;
    for (size_t i = 0; i < net_n_params(b->n); i++) {
        const param *p = net_param(b->n, i);
        double share = 1;
        if (p->v.rows < 2 || p->v.cols < 2) continue;
        if (p->info->n_dims > 2 && h->n_expert) share = (double)h->n_expert_used / (double)h->n_expert;
        if ((str_starts(p->info->name, STR("token_embd")) && &p->v != head.w) || str_starts(p->info->name, STR("position_embd"))) continue;
        per_token += 6 * share * (double)p->v.rows * (double)p->v.cols;
    }
    for (size_t i = 0; i < h->n_layer; i++) {
        const layer *l = &m->layers[i];
        if (l->mixer[0] != &block_attn && l->mixer[1] != &block_attn) continue;
        const double window = l->swa && h->n_swa < len ? (double)h->n_swa : (double)len;
        const double seen = window * (1 - (window - 1) / (2 * (double)len)); /* on average */
        per_token += 6 * seen * (double)l->n_head * (double)(l->dim_k + l->dim_v);
    }
    return per_token * (double)b->s.n;
}

static mote_status step(struct bench *b, train_bench_sample *s, mote_error *err) {
    const uint64_t began = clock_ns();
    tape_reset(b->t);
    net_zero_grads(b->n);
    const ad_head head = net_head(b->n);
    var *l = ad_cross_entropy(b->t, net_hidden(b->n, b->t, b->ids, &b->s, NULL), &head, &(ad_targets){.target = b->targets, .fused = 1});
    const uint64_t forward = clock_ns();
    tape_back(b->t, l, 1);
    TRY(tape_status(b->t, err));
    const uint64_t back = clock_ns();
    optim_step(b->o, b->done++, 1, 1);
    *s = (train_bench_sample){.forward_ns = forward - began, .back_ns = back - forward, .update_ns = clock_ns() - back, .loss = (double)*l->x};
    if (!isfinite(s->loss)) FAIL(err, MOTE_E_OUTPUT, "the loss is not a finite number");
    return MOTE_OK;
}

/* A rate so small that the weights stay where they are, whatever the gradients. */
static mote_status make_optim(struct bench *b, pool *p, const struct kern_table *k, mote_error *err) {
    const size_t n = trainer_net_params(b->n, false, NULL, 0);
    train_param *params = MEM_NEW_N(train_param, n ? n : 1);
    if (!params) FAIL(err, MOTE_E_MEMORY, "out of memory");
    (void)trainer_net_params(b->n, false, params, n);
    const mote_status s = optim_open(&b->o, &(optim_opts){.kind = OPTIM_ADAMW, .lr = 1e-9, .decay = 0.1}, params, n, p, k, err);
    mem_free(params);
    return s;
}

mote_status train_bench(const model *m, pool *p, const struct kern_table *k, const train_bench_opts *o, train_bench_sample *samples,
                        train_bench_result *result, mote_error *err) {
    struct bench b = {0};
    train_bench_sample first;
    mote_status s;
    TRYG(s, net_open(&b.n, m, p, &(net_opts){.checkpoint = o->checkpoint}, err));
    TRYG(s, tape_open(&b.t, &(tape_opts){.pool = p, .kern = k, .prec = o->prec}, err));
    TRYG(s, make_rows(&b, o, err));
    TRYG(s, make_optim(&b, p, k, err));
    for (size_t i = 0; i < net_n_params(b.n); i++) {
        const param *q = net_param(b.n, i);
        result->n_params += q->v.rows * q->v.cols;
        if (q->trained) result->n_trained += q->v.rows * q->v.cols;
    }
    result->ops = count_ops(&b, o->len);
    for (size_t i = 0; i <= o->n_reps; i++) {
        TRYG(s, step(&b, i ? &samples[i - 1] : &first, err));
        if (i && o->on_rep && !o->on_rep(o->ctx, i, o->n_reps)) FAILG(s, err, MOTE_E_CANCELLED, "cancelled");
    }
    result->peak_bytes = tape_peak_bytes(b.t);
out:
    mem_free(b.ids);
    mem_free(b.targets);
    mem_free(b.pos);
    mem_free(b.start);
    optim_close(&b.o);
    tape_close(&b.t);
    net_close(&b.n);
    return s;
}
