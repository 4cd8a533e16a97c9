/* api_train_bench.c: the body of mote_train_bench (mote/eval.h). */
#include "mote/eval.h"

#include "api/api_int.h"
#include "model/arch.h"
#include "run/run.h"
#include "train/train_bench.h"

void mote_train_bench_opts_fill(mote_train_bench_opts *o, size_t size) {
    const mote_train_bench_opts d = {.size = sizeof d, .n_sequences = 2, .n_tokens = 256, .n_reps = 5};
    api_fill(o, size, &d, sizeof d);
}

static bool on_rep(void *ctx, size_t done, size_t total) {
    const mote_train_bench_opts *o = ctx;
    return o->on_rep(o->ctx, done, total) == 0;
}

mote_status mote_train_bench(mote_model *m, const mote_train_bench_opts *o, mote_train_bench_sample *samples, mote_train_bench_result *result,
                             mote_error *err) {
    API_NEED(m, err);
    API_NEED(samples, err);
    if (!m->m) FAIL(err, MOTE_E_USAGE, "the model was opened without weights");
    mote_train_bench_opts own = mote_train_bench_opts_default();
    TRY(api_merge(&own, sizeof own, o, err));
    train_bench_sample *s = MEM_NEW_N(train_bench_sample, own.n_reps ? own.n_reps : 1);
    if (!s) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu repetitions", own.n_reps);
    train_bench_result r = {0};
    const train_bench_opts b = {.n_seq = own.n_sequences, .len = own.n_tokens, .n_reps = own.n_reps, .prec = own.bf16 ? GEMM_BF16 : GEMM_F32,
                                .checkpoint = own.checkpoint, .on_rep = own.on_rep ? on_rep : NULL, .ctx = &own};
    const mote_status st = train_bench(m->m, m->engine->pool, m->m->kern, &b, s, &r, err);
    for (size_t i = 0; i < own.n_reps; i++) samples[i] = (mote_train_bench_sample){s[i].forward_ns, s[i].back_ns, s[i].update_ns, s[i].loss};
    mem_free(s);
    if (st == MOTE_OK)
        api_result(result, &(mote_train_bench_result){sizeof *result, r.n_params, r.n_trained, r.peak_bytes, r.ops}, sizeof *result);
    return st;
}
