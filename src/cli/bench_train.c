/* bench_train.c: steps of training. */
#include "bench_view.h"

#include <string.h>

enum { REPS_DEFAULT = 5 };

static int by_size(const void *x, const void *y) {
    const double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}
static double median(double *v, size_t n) {
    qsort(v, n, sizeof *v, by_size);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

typedef struct figures {
    double forward, back, update, step; /* ns, medians */
    double tokens_s, gflop_s, limit;    /* limit: what the machine multiplies at most, GFLOP/s; 0: not measured */
} figures;

static figures figures_of(const mote_train_bench_opts *o, const mote_train_bench_sample *s, const mote_train_bench_result *r, const mote_machine *m) {
    double ns[4][BENCH_REPS_MAX];
    for (size_t i = 0; i < o->n_reps; i++) {
        ns[0][i] = (double)s[i].forward_ns, ns[1][i] = (double)s[i].back_ns, ns[2][i] = (double)s[i].update_ns;
        ns[3][i] = ns[0][i] + ns[1][i] + ns[2][i];
    }
    figures f = {median(ns[0], o->n_reps), median(ns[1], o->n_reps), median(ns[2], o->n_reps), median(ns[3], o->n_reps), 0, 0, 0};
    if (f.step > 0) {
        f.tokens_s = 1e9 * (double)(o->n_sequences * o->n_tokens) / f.step;
        f.gflop_s = r->ops / f.step;
    }
    if (m) f.limit = mote_machine_peak_limit(m, o->bf16 ? "bf16" : "f32");
    if (m && o->bf16 && f.limit == 0) f.limit = mote_machine_peak_limit(m, "f32"); /* what bf16 is done in then */
    return f;
}

static json_t *row_json(const loaded *l, const mote_train_bench_opts *o, const mote_train_bench_sample *s, const mote_train_bench_result *r,
                        const figures *f) {
    char cpu[128];
    json_t *ns = json_array();
    for (size_t i = 0; i < o->n_reps; i++)
        (void)json_array_append_new(ns, json_integer((json_int_t)(s[i].forward_ns + s[i].back_ns + s[i].update_ns)));
    json_t *v = json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:s, s:I, s:I, s:b}", "build_commit", mote_version(), "cpu_info",
                          mote_cpu_name(cpu, sizeof cpu), "isa", mote_cpu_isa(), "model_filename", l->path, "model_type", mote_model_arch(l->model),
                          "model_n_params", (json_int_t)r->n_params, "n_threads", (json_int_t)mote_engine_threads(l->engine), "precision",
                          o->bf16 ? "bf16" : "f32", "n_sequences", (json_int_t)o->n_sequences, "n_tokens", (json_int_t)o->n_tokens, "checkpoint",
                          (int)o->checkpoint);
    if (v)
        (void)json_object_update_new(
            v, json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:f, s:o}", "tokens_per_second", f->tokens_s, "forward_ms", f->forward * 1e-6,
                         "back_ms", f->back * 1e-6, "update_ms", f->update * 1e-6, "step_ops", r->ops, "gflop_s", f->gflop_s, "peak_bytes",
                         (json_int_t)r->peak_bytes, "loss", s[o->n_reps - 1].loss, "samples_ns", ns));
    if (v && f->limit > 0)
        (void)json_object_update_new(v, json_pack("{s:f, s:f}", "limit_gflop_s", f->limit, "share", f->gflop_s / f->limit));
    return v;
}

static void print_row(const loaded *l, const mote_train_bench_opts *o, const mote_train_bench_result *r, const figures *f) {
    char memory[32];
    (void)printf("| model | threads | step | t/s | forward ms | back ms | AdamW ms | activations | GFLOP/s |%s\n", f->limit > 0 ? " limit | share |" : "");
    (void)printf("| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |%s\n", f->limit > 0 ? " ---: | ---: |" : "");
    (void)printf("| %s | %d | %zu x %zu %s | %.1f | %.0f | %.0f | %.0f | %s | %.0f |", basename(l->path), mote_engine_threads(l->engine),
                 o->n_sequences, o->n_tokens, o->bf16 ? "bf16" : "f32", f->tokens_s, f->forward * 1e-6, f->back * 1e-6, f->update * 1e-6,
                 cli_size(memory, r->peak_bytes), f->gflop_s);
    if (f->limit > 0) (void)printf(" %.0f | %.1f %% |", f->limit, 100 * f->gflop_s / f->limit);
    (void)putchar('\n');
}

int bench_train(loaded *l, const struct bench_options *o, const mote_machine *m) {
    static mote_train_bench_sample samples[BENCH_REPS_MAX];
    mote_train_bench_opts t = mote_train_bench_opts_default();
    mote_train_bench_result r = {.size = sizeof r};
    mote_error err;
    t.n_reps = o->reps ? (size_t)o->reps : REPS_DEFAULT;
    if (o->sequences) t.n_sequences = (size_t)o->sequences;
    if (o->length) t.n_tokens = (size_t)o->length;
    t.bf16 = o->precision && strcmp(o->precision, "bf16") == 0;
    t.checkpoint = o->checkpoint;
    if (mote_train_bench(l->model, &t, samples, &r, &err) != MOTE_OK) return cli_fail(&err);
    const figures f = figures_of(&t, samples, &r, m);
    if (strcmp(o->format, "md") == 0) {
        print_row(l, &t, &r, &f);
        return CLI_OK;
    }
    json_t *v = row_json(l, &t, samples, &r, &f);
    (void)json_dumpf(v, stdout, (strcmp(o->format, "jsonl") == 0 ? JSON_COMPACT : JSON_INDENT(2)) | JSON_PRESERVE_ORDER);
    (void)putchar('\n');
    json_decref(v);
    return CLI_OK;
}
