/* spec_oracle.c: speculation on every small model in $MOTE_SHARED/oracle/arch, among them recurrent, hybrid,
 * windowed and mixture-of-experts ones: the tokens of plain decoding, bit-equal logits behind them
 * (tests/spec_props.h).
 *
 * With --report also what guessing gives and costs on a real model, in turns with plain decoding.
 *
 *   spec_oracle [--report] [NAME…] */
#include "oracle_models.h"
#include "oracle_util.h"
#include "report.h"
#include "spec_props.h"

#include <dirent.h>
#include <stdlib.h>

/* Encoders draw no tokens. */
static bool generates(const char *path) {
    mote_error err;
    mote_engine *e = NULL;
    mote_model *m = NULL;
    mote_model_opts o = mote_model_opts_default();
    o.no_weights = true;
    bool yes = mote_engine_open(&e, NULL, &err) == MOTE_OK && mote_model_open(&m, e, path, &o, &err) == MOTE_OK &&
               !mote_model_is_encoder(m);
    mote_model_close(&m);
    mote_engine_close(&e);
    return yes;
}

/* ---- what it gives and costs ---- */

enum { ROUNDS = 9, TOKENS = 96 };

static const char repeats[] =
    "{\"id\": 1, \"city\": \"Oslo\", \"visited\": false}\n{\"id\": 2, \"city\": \"Lima\", \"visited\": false}\n"
    "{\"id\": 3, \"city\": \"Accra\", \"visited\": false}\n{\"id\": 4, \"city\": \"Hanoi\", \"visited\": false}\n"
    "\nThe same once more:\n{\"id\": 1, \"city\":";
static const char tells[] = "Once upon a time, in a village by the sea,";

typedef struct technique {
    const char *name, *prompt, *bar;
    bool ngram, draft;
    float temp, at_least; /* the speed, of plain decoding's, below which the row fails */
} technique;

typedef struct answer {
    int32_t ids[TOKENS];
    size_t n;
    mote_gen_result r;
} answer;

static int keep_id(void *ctx, const mote_piece *p) {
    answer *a = ctx;
    if (p->id >= 0) a->ids[a->n++] = p->id;
    return 0;
}

static mote_status ask(const technique *t, mote_model *m, mote_session *s, mote_speculator *sp, answer *a, mote_error *err) {
    mote_sampler *smp = NULL;
    mote_sample_opts so = mote_sample_opts_default();
    mote_gen_opts o = mote_gen_opts_default();
    mote_status st;
    so.seed = 4;
    so.temp = t->temp;
    if (t->temp > 1) so.min_p = 0.002f; /* words at random: nothing to guess */
    so.ignore_end = true;
    TRYG(st, mote_sampler_open(&smp, m, &so, err));
    o.sampler = smp;
    o.n_predict = TOKENS;
    o.speculator = sp;
    o.on_piece = keep_id;
    o.ctx = a;
    *a = (answer){.r.size = sizeof a->r};
    TRYG(st, mote_session_clear(s, 0, err));
    st = mote_complete(s, 0, t->prompt, strlen(t->prompt), &o, &a->r, err);
out:
    mote_sampler_close(&smp);
    return st;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median of the ratios of pairs. One speculator for all, as a chat has. */
static mote_status race(const technique *t, mote_session *s, mote_model *m, bool *ok, mote_error *err) {
    static answer plain, fast;
    double ratio[ROUNDS];
    size_t guessed = 0, accepted = 0;
    char measured[160], speed[64];
    mote_speculator *sp = NULL;
    mote_spec_opts o = mote_spec_opts_default();
    mote_status st;
    bool same = true;
    o.ngram = t->ngram;
    o.draft = t->draft ? m : NULL;
    TRYG(st, mote_speculator_open(&sp, s, &o, err));
    for (int i = 0; i < ROUNDS; i++) {
        if (i % 2) TRYG(st, ask(t, m, s, sp, &fast, err));
        TRYG(st, ask(t, m, s, NULL, &plain, err));
        if (i % 2 == 0) TRYG(st, ask(t, m, s, sp, &fast, err));
        same = same && plain.n == fast.n && memcmp(plain.ids, fast.ids, plain.n * sizeof *plain.ids) == 0;
        ratio[i] = plain.r.generate_ms / fast.r.generate_ms;
        guessed += fast.r.n_drafted;
        accepted += fast.r.n_accepted;
    }
    qsort(ratio, ROUNDS, sizeof *ratio, by_value);
    *ok = same && ratio[ROUNDS / 2] >= (double)t->at_least;
    mote_spec_stats u = {.size = sizeof u};
    mote_speculator_get_stats(sp, &u);
    (void)snprintf(measured, sizeof measured, "tokens %s, %zu of %zu guesses accepted, %.2f %% of the time guessing, %+.1f %% won",
                   same ? "equal" : "DIFFER", accepted, guessed, 100 * u.guess_ms / u.spent_ms, 100 * u.saved_ms / u.spent_ms);
    (void)snprintf(speed, sizeof speed, "%.2fx plain (%.2f-%.2f)", ratio[ROUNDS / 2], ratio[1], ratio[ROUNDS - 2]);
    report_row("speculation", t->name, measured, t->bar, *ok ? "ok" : "FAIL", speed, t->draft ? "draft" : "ngram");
out:
    mote_speculator_close(&sp);
    return st;
}

static int report_speeds(void) {
    static const technique all[] = {
        {"n-grams, repeating", repeats, "equal, 1.2x", true, false, 0, 1.2f},
        {"n-grams, repeating, temperature 0.8", repeats, "equal, 1.1x", true, false, 0.8f, 1.1f},
        {"n-grams, prose", tells, "equal, 0.97x", true, false, 0, 0.97f},
        {"n-grams, nothing to guess", tells, "equal, 0.97x", true, false, 2, 0.97f},
        {"a draft as slow as the model", tells, "equal, 0.95x", false, true, 0.8f, 0.95f},
    };
    char path[4096];
    int bad = 0;
    mote_error err;
    mote_engine *e = NULL;
    mote_model *m = NULL;
    mote_session *s = NULL;
    mote_status st;
    TRYG(st, mote_engine_open(&e, NULL, &err));
    TRYG(st, mote_model_open(&m, e, oracle_model(path, "smollm2-135m-instruct.q4_1.gguf"), NULL, &err));
    TRYG(st, mote_session_open(&s, m, NULL, &err));
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        bool ok = true;
        TRYG(st, race(&all[i], s, m, &ok, &err));
        bad += !ok;
    }
out:
    if (st != MOTE_OK) printf("%s\n", err.message);
    mote_session_close(&s);
    mote_model_close(&m);
    mote_engine_close(&e);
    return bad + (st != MOTE_OK);
}

int main(int argc, char **argv) {
    char dir[4096], path[8192];
    int bad = 0, n = 0;
    bool report = report_wanted(argc, argv);
    DIR *d = opendir(oracle_path(dir, "arch"));
    if (!d) return 1;
    for (struct dirent *e; (e = readdir(d));) {
        str name = str_of(e->d_name);
        if (!str_ends(name, STR(".gguf"))) continue;
        char item[256], measured[1024];
        (void)snprintf(item, sizeof item, "%.*s", (int)(name.n - 5), e->d_name);
        (void)snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (!oracle_wanted(item, argc, argv) || !generates(path)) continue;
        const spec_props_opts o = {.cache_type = n % 2 ? "f16" : "f32", .exact = n % 3 == 0, .seed = (uint64_t)n};
        spec_props_result r;
        mote_error err;
        bool ok = spec_props(path, &o, &r, &err) == MOTE_OK;
        if (!ok) printf("%s: %s\n", item, err.message);
        (void)snprintf(measured, sizeof measured, "%zu tokens equal, %zu of %zu guesses accepted", r.n_tokens,
                       r.n_accepted, r.n_guessed);
        if (report)
            report_row("speculation", item, ok ? measured : err.message, "all equal", ok ? "ok" : "FAIL", "-",
                       o.cache_type);
        bad += !ok;
        n++;
    }
    (void)closedir(d);
    printf("%d of %d models give with speculation what they give without\n", n - bad, n);
    if (report && oracle_wanted("speed", argc, argv)) bad += report_speeds();
    return bad || (n == 0 && !oracle_wanted("speed", argc, argv));
}
