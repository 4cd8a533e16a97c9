/* bench_batched.c: several sequences decoded together, printed as llama-batched-bench does. */
#include "bench_view.h"

#include <string.h>

typedef struct figures {
    int64_t pp, tg, pl, n_kv;
    double t_pp, t_tg, t, speed_pp, speed_tg, speed; /* seconds, tokens per second */
} figures;

static double per_second(double n, double seconds) { return seconds > 0 ? n / seconds : 0; }

/* Means over the repetitions. A shared prompt is computed, and counted, once. */
static figures figures_of(const bench_test *t) {
    figures f = {.pp = t->n_prompt, .tg = t->n_gen, .pl = t->parallel, .n_kv = t->parallel * (t->n_prompt + t->n_gen)};
    for (size_t i = 0; i < t->n; i++) {
        f.t_pp += (double)t->samples[i].prompt_ns * 1e-9 / (double)t->n;
        f.t_tg += (double)t->samples[i].gen_ns * 1e-9 / (double)t->n;
    }
    f.t = f.t_pp + f.t_tg;
    const double prompt = (double)(t->shared ? f.pp : f.pl * f.pp), decoded = (double)(f.pl * f.tg);
    f.speed_pp = per_second(prompt, f.t_pp);
    f.speed_tg = per_second(decoded, f.t_tg);
    f.speed = per_second(prompt + decoded, f.t);
    return f;
}

static double per_token(double all, const figures *f) { return f->pl * f->tg > 0 ? all / (double)(f->pl * f->tg) : 0; }

/* The shortest possible time as a share of the time it took. */
static double share_of(double limit_ns, double seconds) { return seconds > 0 ? limit_ns * 1e-9 / seconds : 0; }

/* llama-batched-bench's keys, so that its readers read us. */
static json_t *row_json(const loaded *l, const struct bench_options *o, const figures *f, int64_t n_kv_max) {
    const mote_session_opts so = load_session_opts(&o->session);
    const json_int_t batch = (json_int_t)so.n_batch, threads = mote_engine_threads(l->engine);
    json_t *v = json_pack("{s:I, s:I, s:I, s:i, s:i, s:i, s:I, s:I}", "n_kv_max", (json_int_t)n_kv_max, "n_batch", batch,
                          "n_ubatch", batch, "flash_attn", 1, "is_pp_shared", (int)o->shared_prompt, "n_gpu_layers", 0,
                          "n_threads", threads, "n_threads_batch", threads);
    if (v)
        (void)json_object_update_new(
            v, json_pack("{s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f}", "pp", (json_int_t)f->pp, "tg",
                         (json_int_t)f->tg, "pl", (json_int_t)f->pl, "n_kv", (json_int_t)f->n_kv, "t_pp", f->t_pp,
                         "speed_pp", f->speed_pp, "t_tg", f->t_tg, "speed_tg", f->speed_tg, "t", f->t, "speed", f->speed));
    return v;
}

static void print_head(bool limits) {
    static const char dashes[] = "--------";
    (void)printf("|%6s | %6s | %4s | %6s | %8s | %8s | %8s | %8s | %8s | %8s |", "PP", "TG", "B", "N_KV", "T_PP s",
                 "S_PP t/s", "T_TG s", "S_TG t/s", "T s", "S t/s");
    (void)puts(limits ? " limit PP | limit TG |" : "");
    (void)printf("|%.6s-|-%.6s-|-%.4s-|-%.6s-|-%s-|-%s-|-%s-|-%s-|-%s-|-%s-|", dashes, dashes, dashes, dashes, dashes,
                 dashes, dashes, dashes, dashes, dashes);
    (void)puts(limits ? "----------|----------|" : "");
}

static void print_row(const figures *f, const mote_bench_limit *limit) {
    (void)printf("|%6lld | %6lld | %4lld | %6lld | %8.3f | %8.2f | %8.3f | %8.2f | %8.3f | %8.2f |", (long long)f->pp,
                 (long long)f->tg, (long long)f->pl, (long long)f->n_kv, f->t_pp, f->speed_pp, f->t_tg, f->speed_tg, f->t,
                 f->speed);
    if (limit) (void)printf(" %6.1f %% | %6.1f %% |", 100 * share_of(limit->prompt_ns, f->t_pp), 100 * share_of(limit->gen_ns, f->t_tg));
    (void)putchar('\n');
    (void)fflush(stdout);
}

static int one_test(loaded *l, const struct bench_options *o, const mote_machine *m, bench_test *t, json_t *rows, size_t n_rows) {
    const int64_t n_kv_max = o->session.ctx ? o->session.ctx : t->parallel * (t->n_prompt + t->n_gen);
    int code = bench_measure(l, o, m, t);
    if (code != CLI_OK) return code;
    const figures f = figures_of(t);
    if (strcmp(o->format, "md") == 0) {
        if (n_rows == 0) print_head(m != NULL);
        print_row(&f, m ? &t->limit : NULL);
        return CLI_OK;
    }
    json_t *row = row_json(l, o, &f, n_kv_max);
    if (m && row)
        (void)json_object_update_new(
            row, json_pack("{s:f, s:f, s:f, s:f}", "share_pp", share_of(t->limit.prompt_ns, f.t_pp), "share_tg",
                           share_of(t->limit.gen_ns, f.t_tg), "token_bytes", per_token(t->limit.gen_bytes, &f), "token_ops",
                           per_token(t->limit.gen_ops, &f)));
    if (strcmp(o->format, "jsonl") == 0) return cli_print_json(row);
    (void)json_array_append_new(rows, row);
    return CLI_OK;
}

int bench_batched(loaded *l, const struct bench_options *o, const mote_machine *m, const bench_numbers *prompts, const bench_numbers *gens,
                  const bench_numbers *parallel) {
    static bench_test t;
    json_t *rows = json_array();
    size_t n_rows = 0;
    int code = CLI_OK;
    for (size_t p = 0; p < prompts->n; p++)
        for (size_t g = 0; g < gens->n; g++)
            for (size_t i = 0; i < parallel->n && code == CLI_OK; i++) {
                t = (bench_test){.n_prompt = prompts->v[p], .n_gen = gens->v[g], .parallel = parallel->v[i], .batched = true,
                                 .shared = o->shared_prompt};
                const int64_t need = t.parallel * (t.n_prompt + t.n_gen);
                if (need == 0) continue;
                if (o->session.ctx && need > o->session.ctx) { /* as the original: rows that do not fit are left out */
                    cli_say("%lld sequences of %lld tokens do not fit -c %lld", (long long)t.parallel,
                            (long long)(t.n_prompt + t.n_gen), (long long)o->session.ctx);
                    continue;
                }
                code = one_test(l, o, m, &t, rows, n_rows++);
            }
    if (code == CLI_OK && strcmp(o->format, "json") == 0) {
        (void)json_dumpf(rows, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
        (void)putchar('\n');
    }
    json_decref(rows);
    return code;
}
