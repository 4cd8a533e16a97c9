/* cmd_bench.c: tokens per second, measured and printed as llama-bench does. */
#include "bench_view.h"
#include "commands.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const cli_option bench_options[] = {
    OPT_LIST(struct bench_options, n_prompt, "n-prompt", "p", "N", "tokens to prefill; several with commas (default 512)"),
    OPT_LIST(struct bench_options, n_gen, "n-gen", "n", "N", "tokens to decode; several with commas (default 128)"),
    OPT_LIST(struct bench_options, n_depth, "n-depth", "d", "N", "tokens already in the context; several with commas (default 0)"),
    OPT_INT(struct bench_options, reps, "repetitions", "r", "N", 1, 1000, "repetitions of each test (default 5; with -npl 1)"),
    OPT_INT(struct bench_options, parallel, "parallel", NULL, "N", 1, 1024, "sequences at once"),
    OPT_LIST(struct bench_options, npl, NULL, "npl", "N", "decode so many sequences together and print llama-batched-bench's table; several with commas"),
    OPT_LIST(struct bench_options, npp, NULL, "npp", "N", "with -npl: tokens of each sequence's prompt (default 128)"),
    OPT_LIST(struct bench_options, ntg, NULL, "ntg", "N", "with -npl: tokens to decode of each sequence (default 128)"),
    OPT_FLAG(struct bench_options, shared_prompt, NULL, "pps", "with -npl: one prompt, shared by all sequences"),
    OPT_FLAG(struct bench_options, profile, "profile", NULL, "print where the time goes: each operation of prefill and of decode"),
    OPT_STR(struct bench_options, svg, "profile-svg", NULL, "FILE", "the same as a picture"),
    OPT_FLAG(struct bench_options, limits, "limits", NULL, "measure first what the machine allows, and print results as shares of it"),
    OPT_FLAG(struct bench_options, machine, "machine", NULL, "measure the machine instead: what it can read and compute at most (takes 512 MB and 5 s)"),
    OPT_FLAG(struct bench_options, train, "train", NULL, "measure steps of training: forward, gradients, AdamW"),
    OPT_INT(struct bench_options, sequences, "sequences", NULL, "N", 1, 4096, "with --train: sequences of a step (default 2)"),
    OPT_INT(struct bench_options, length, "length", NULL, "N", 2, 1 << 20, "with --train: tokens of a sequence (default 256)"),
    OPT_CHOICE(struct bench_options, precision, "precision", NULL, "f32|bf16", "with --train: numbers that matrices are multiplied in (default f32)"),
    OPT_FLAG(struct bench_options, checkpoint, "checkpoint", NULL, "with --train: compute each layer again on the way back, for less memory"),
    OPT_FLAG(struct bench_options, json, "json", NULL, "as -o json"),
    OPT_FLAG(struct bench_options, no_warmup, "no-warmup", NULL, "measure the first run too"),
    OPT_FLAG(struct bench_options, full_logits, "full-logits", NULL, "decode with all logits of every token, not only those that a greedy draw needs"),
    OPT_CHOICE(struct bench_options, format, "output", "o", "md|json|jsonl|csv", "how to print the results"),
    MODEL_OPTIONS(struct bench_options, model),
    SESSION_OPTIONS(struct bench_options, session),
    {0},
};
const cli_example bench_examples[] = {
    {"mote bench -m model.gguf", "prefill of 512 and decode of 128 tokens"},
    {"mote bench -m model.gguf -p 512 -n 128 -t 2 -r 5 -d 4096 -o json", "with 4096 tokens in the context, as JSON"},
    {"mote bench -m model.gguf --limits", "how near that is to what the machine can do"},
    {"mote bench -m model.gguf --train --sequences 2 --length 256 --precision bf16 --limits", "tokens per second of training"},
    {"mote bench --machine -t 2", "bandwidths, latencies and arithmetic rates of this machine"},
    {"mote bench -m model.gguf -p 0 -n 64 --profile", "where the time of decoding goes"},
    {"mote bench -m model.gguf -c 8192 -npp 128 -ntg 128 -npl 1,4,8,16 -t 2", "1, 4, 8 and 16 sequences decoded together"},
    {0},
};

/* "128,512" of each occurrence; `otherwise` when there was none. */
static bool parse_numbers(bench_numbers *out, const cli_list *l, int64_t otherwise) {
    out->n = 0;
    for (size_t i = 0; i < l->n; i++)
        for (const char *p = l->v[i]; *p;) {
            char *end;
            long long v = strtoll(p, &end, 10);
            if (end == p || v < 0 || v > (1 << 24) || (*end && *end != ',') || out->n == BENCH_TESTS_MAX) return false;
            out->v[out->n++] = v;
            p = *end ? end + 1 : end;
        }
    if (l->n == 0) out->v[out->n++] = otherwise;
    return true;
}

static void mean_and_deviation(const double *v, size_t n, double *mean, double *deviation) {
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) sum += v[i];
    *mean = sum / (double)n;
    for (size_t i = 0; i < n; i++) squares += (v[i] - *mean) * (v[i] - *mean);
    *deviation = n > 1 ? sqrt(squares / (double)(n - 1)) : 0;
}

int bench_measure(loaded *l, const struct bench_options *o, const mote_machine *m, bench_test *t) {
    mote_error err;
    mote_bench_opts b = mote_bench_opts_default();
    mote_session_opts so = load_session_opts(&o->session);
    b.n_prompt = (size_t)t->n_prompt;
    b.n_gen = (size_t)t->n_gen;
    b.n_depth = (size_t)t->depth;
    b.n_parallel = (size_t)t->parallel;
    b.n_reps = (size_t)o->reps;
    b.shared_prompt = t->shared;
    b.no_warmup = o->no_warmup;
    b.full_logits = o->full_logits;
    if (!o->session.ctx || t->batched) so.n_ctx = b.n_prompt + b.n_gen + b.n_depth;
    so.n_seq = b.n_parallel;
    so.checkpoint_every = 0;
    int code = load_session(l, &o->session, &so, o->model.verbose);
    if (code != CLI_OK) return code;
    time_t now = time(NULL);
    struct tm utc;
    (void)strftime(t->when, sizeof t->when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    if (o->profile && mote_profile_start(l->session, &err) != MOTE_OK) code = cli_fail(&err);
    else if (mote_bench(l->session, &b, t->samples, &err) != MOTE_OK) code = cli_fail(&err);
    for (int i = 0; o->profile && code == CLI_OK && i < MOTE_PROFILE_PHASES; i++)
        if (mote_profile_read(l->session, i, &t->profile[i], &err) != MOTE_OK) code = cli_fail(&err);
    t->limit.size = sizeof t->limit;
    if (m && code == CLI_OK && mote_bench_limits(l->session, &b, m, &t->limit, &err) != MOTE_OK) code = cli_fail(&err);
    mote_exit_stats x = {.size = sizeof x};
    if (l->exits) mote_session_get_exits(l->session, &x);
    t->layers = x.layers;
    mote_session_close(&l->session);
    t->n = code == CLI_OK ? b.n_reps : 0;
    for (size_t i = 0; i < t->n; i++) {
        t->ns[i] = (double)(t->samples[i].prompt_ns + t->samples[i].gen_ns);
        t->ts[i] = t->ns[i] > 0 ? 1e9 * (double)(t->parallel * (t->n_prompt + t->n_gen)) / t->ns[i] : 0;
    }
    const double limit_ns = t->limit.prompt_ns + t->limit.gen_ns;
    t->limit_ts = limit_ns > 0 ? 1e9 * (double)(t->parallel * (t->n_prompt + t->n_gen)) / limit_ns : 0;
    return code;
}

/* llama-bench's keys, so that its readers read us. */
static json_t *row_json(const loaded *l, const json_t *info, const struct bench_options *o, const bench_test *t) {
    char cpu[128];
    double avg_ns, dev_ns, avg_ts, dev_ts;
    mean_and_deviation(t->ns, t->n, &avg_ns, &dev_ns);
    mean_and_deviation(t->ts, t->n, &avg_ts, &dev_ts);
    json_t *ns = json_array(), *ts = json_array();
    for (size_t i = 0; i < t->n; i++) {
        (void)json_array_append_new(ns, json_integer((json_int_t)t->ns[i]));
        (void)json_array_append_new(ts, json_real(t->ts[i]));
    }
    const mote_session_opts so = load_session_opts(&o->session);
    json_t *v = json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:s, s:s}", "build_commit", mote_version(), "cpu_info",
                          mote_cpu_name(cpu, sizeof cpu), "isa", o->model.cpu_mask ? o->model.cpu_mask : mote_cpu_isa(),
                          "model_filename", l->path, "model_type", mote_model_arch(l->model), "model_size",
                          json_integer_value(json_object_get(info, "file_bytes")), "model_n_params",
                          json_integer_value(json_object_get(info, "n_params")), "n_threads", (json_int_t)mote_engine_threads(l->engine),
                          "n_ubatch", (json_int_t)so.n_batch, "type_k", so.type_k, "type_v", so.type_v);
    if (v)
        (void)json_object_update_new(v, json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:s, s:I, s:I, s:f, s:f, s:o, s:o}", "logits", o->full_logits ? "full" : "greedy", "activations",
                                                  so.exact ? "f32" : "fast", "n_parallel", (json_int_t)o->parallel, "n_prompt",
                                                  (json_int_t)t->n_prompt, "n_gen", (json_int_t)t->n_gen, "n_depth", (json_int_t)t->depth,
                                                  "test_time", t->when, "avg_ns", (json_int_t)avg_ns, "stddev_ns", (json_int_t)dev_ns,
                                                  "avg_ts", avg_ts, "stddev_ts", dev_ts, "samples_ns", ns, "samples_ts", ts));
    if (v && t->layers > 0) (void)json_object_set_new(v, "layers", json_real(t->layers));
    if (v && t->limit_ts > 0) {
        const bool is_prompt = t->n_prompt > 0;
        const double tokens = (double)(t->parallel * (t->n_prompt + t->n_gen));
        (void)json_object_update_new(
            v, json_pack("{s:f, s:f, s:s, s:f, s:f}", "limit_ts", t->limit_ts, "share", avg_ts / t->limit_ts, "limit_by",
                         (is_prompt ? t->limit.prompt_by_reading : t->limit.gen_by_reading) ? "reading" : "computing", "token_bytes",
                         (is_prompt ? t->limit.prompt_bytes : t->limit.gen_bytes) / tokens, "token_ops",
                         (is_prompt ? t->limit.prompt_ops : t->limit.gen_ops) / tokens));
    }
    return v;
}

static void print_row(const char *format, json_t *row, bool first) {
    const char *name = basename(json_string_value(json_object_get(row, "model_filename")));
    long long p = json_integer_value(json_object_get(row, "n_prompt")), g = json_integer_value(json_object_get(row, "n_gen")),
              d = json_integer_value(json_object_get(row, "n_depth"));
    double ts = json_real_value(json_object_get(row, "avg_ts")), dev = json_real_value(json_object_get(row, "stddev_ts"));
    long long threads = json_integer_value(json_object_get(row, "n_threads"));
    if (strcmp(format, "csv") == 0) {
        if (first) (void)puts("model,threads,n_prompt,n_gen,n_depth,avg_ts,stddev_ts");
        (void)printf("%s,%lld,%lld,%lld,%lld,%.2f,%.2f\n", name, threads, p, g, d, ts, dev);
    } else if (strcmp(format, "jsonl") == 0) {
        (void)json_dumpf(row, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
        (void)putchar('\n');
    } else {
        char what[64], depth[32] = "";
        if (d) (void)snprintf(depth, sizeof depth, " @ d%lld", d);
        (void)snprintf(what, sizeof what, "%s%lld%s", p ? "pp" : "tg", p ? p : g, depth);
        const double limit = json_real_value(json_object_get(row, "limit_ts"));
        if (first)
            (void)printf("| model | threads | test | t/s |%s\n| --- | ---: | ---: | ---: |%s\n", limit > 0 ? " limit | share |" : "",
                         limit > 0 ? " ---: | ---: |" : "");
        (void)printf("| %s | %lld | %s | %.2f ± %.2f |", name, threads, what, ts, dev);
        if (limit > 0) (void)printf(" %.0f | %.1f %% |", limit, 100 * ts / limit);
        (void)putchar('\n');
    }
    (void)fflush(stdout);
}

static json_t *model_info(const mote_model *m) {
    mote_error err;
    size_t n = 0;
    json_t *v = NULL;
    if (mote_model_info(m, 0, NULL, 0, &n, &err) != MOTE_OK) return NULL;
    char *text = malloc(n + 1);
    if (text && mote_model_info(m, 0, text, n + 1, &n, &err) == MOTE_OK) v = json_loadb(text, n, 0, NULL);
    free(text);
    return v;
}

static double timed_ns(const bench_test *t) {
    double sum = 0;
    for (size_t i = 0; i < t->n; i++) sum += t->ns[i];
    return sum;
}

static int run_tests(loaded *l, const struct bench_options *o, const mote_machine *m, const bench_numbers *depths, const bench_numbers *prompts,
                     const bench_numbers *gens) {
    static bench_test t;
    static mote_profile_phase pictured[MOTE_PROFILE_PHASES]; /* the last of each kind */
    json_t *info = model_info(l->model), *rows = json_array();
    int code = CLI_OK;
    size_t n_rows = 0;
    bool all = strcmp(o->format, "json") == 0;
    for (size_t d = 0; d < depths->n; d++)
        for (size_t i = 0; i < prompts->n + gens->n && code == CLI_OK; i++) {
            bool is_prompt = i < prompts->n;
            t = (bench_test){.depth = depths->v[d], .parallel = o->parallel};
            *(is_prompt ? &t.n_prompt : &t.n_gen) = is_prompt ? prompts->v[i] : gens->v[i - prompts->n];
            if (t.n_prompt + t.n_gen == 0) continue;
            code = bench_measure(l, o, m, &t);
            if (code != CLI_OK) break;
            json_t *row = row_json(l, info, o, &t);
            if (o->profile) (void)json_object_set_new(row, "profile", profile_json(t.profile, timed_ns(&t), m));
            if (all) (void)json_array_append(rows, row);
            else print_row(o->format, row, n_rows++ == 0);
            json_decref(row);
            if (o->profile && strcmp(o->format, "md") == 0) {
                profile_print(t.profile, timed_ns(&t), m);
                n_rows = 0; /* the table begins anew */
            }
            for (int ph = 0; ph < MOTE_PROFILE_PHASES; ph++)
                if (t.profile[ph].passes) pictured[ph] = t.profile[ph];
        }
    if (all && code == CLI_OK) {
        (void)json_dumpf(rows, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
        (void)putchar('\n');
    }
    if (o->svg && code == CLI_OK) code = profile_svg(o->svg, l->path, pictured);
    json_decref(rows);
    json_decref(info);
    return code;
}

static int measure_limits(loaded *l, const model_flags *f, mote_machine *m) {
    mote_error err;
    int code = load_engine(l, f);
    m->size = sizeof *m;
    if (code == CLI_OK && mote_machine_measure(l->engine, true, m, &err) != MOTE_OK) code = cli_fail(&err);
    return code;
}

int cmd_bench(const cli_command *self, int argc, char **argv) {
    struct bench_options o = {.format = "md", .parallel = 1};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, 1, argc, argv, &code)) return code;
    if (o.json) o.format = "json";
    else o.json = strcmp(o.format, "json") == 0;
    if (o.machine) return cli_done(bench_machine(&o));
    const bool batched = o.npl.n || o.npp.n || o.ntg.n;
    if (o.reps == 0) o.reps = batched ? 1 : 5;
    bench_numbers prompts, gens, depths = {0}, parallel = {0};
    if (!parse_numbers(&prompts, batched ? &o.npp : &o.n_prompt, batched ? 128 : 512) ||
        !parse_numbers(&gens, batched ? &o.ntg : &o.n_gen, 128) || !parse_numbers(&depths, &o.n_depth, 0) ||
        !parse_numbers(&parallel, &o.npl, 1))
        return cli_usage(self, "-p, -n, -d, -npp, -ntg and -npl take numbers, separated by commas");
    for (size_t i = 0; i < parallel.n; i++)
        if (parallel.v[i] < 1 || parallel.v[i] > 1024) return cli_usage(self, "-npl takes numbers of sequences from 1 to 1024");
    if (batched && (o.n_prompt.n || o.n_gen.n || o.n_depth.n || o.parallel > 1))
        return cli_usage(self, "-npl goes with -npp and -ntg, not with -p, -n, -d or --parallel");
    if (!batched && o.shared_prompt) return cli_usage(self, "-pps shares the prompt of several sequences: it needs -npl");
    if (o.train && (batched || o.n_prompt.n || o.n_gen.n || o.n_depth.n || o.profile || o.svg))
        return cli_usage(self, "--train goes with --sequences, --length and --precision, not with -p, -n, -d, -npl or --profile");
    if (!o.train && (o.sequences || o.length || o.precision || o.checkpoint))
        return cli_usage(self, "--sequences, --length, --precision and --checkpoint tell what a step of training is: they need --train");
    if (o.train && strcmp(o.format, "csv") == 0) return cli_usage(self, "--train prints md, json or jsonl");
    if (o.svg) o.profile = true;
    if (batched && o.profile) return cli_usage(self, "--profile goes with -p and -n, and --parallel for several sequences");
    if (batched && strcmp(o.format, "csv") == 0) return cli_usage(self, "-npl prints md, json or jsonl");
    loaded l = {0};
    static mote_machine machine;
    const mote_machine *m = o.limits ? &machine : NULL;
    code = m ? measure_limits(&l, &o.model, &machine) : CLI_OK;
    if (code == CLI_OK) code = load_model(&l, &o.model, args.n ? args.v[0] : NULL, false);
    if (code == CLI_OK)
        code = o.train ? bench_train(&l, &o, m) : batched ? bench_batched(&l, &o, m, &prompts, &gens, &parallel) : run_tests(&l, &o, m, &depths, &prompts, &gens);
    load_close(&l);
    return cli_done(code);
}
