/* model_test.c: the real models against their weights expanded to float32 (oracle/model, see its README), by
 * two criteria: exact activations (the same greedy tokens, log-probabilities within 0.02) and the default
 * fast path (root mean square of the three likeliest log-probabilities ≤ 0.15; greedy tokens fed as the
 * reference has them and compared where the two best are more than 1 apart; divergence from exact over
 * WikiText for SmolLM2).
 *
 *   model_test [--report] [NAME…] */
#include "mote/mote.h"
#include "oracle_models.h"
#include "oracle_util.h"
#include "report.h"

#include <dirent.h>
#include <math.h>
#include <unistd.h>

#define EXACT_BAR 0.02
#define FAST_BAR 0.15
#define KLD_BAR 0.0025
enum { IDS_MAX = 1024, GREEDY_MAX = 64 };

typedef struct item {
    char name[64];
    int32_t ids[IDS_MAX], greedy[GREEDY_MAX];
    size_t n, n_greedy;
    const json_t *json, *top;
} item;

static bool report;
static int failures;

static void verdict(const item *t, const char *mode, bool ok, const char *measured, const char *bar,
                    const char *path) {
    char name[160];
    (void)snprintf(name, sizeof name, "%s %s", t->name, mode);
    failures += !ok;
    if (report) report_row("model", name, measured, bar, ok ? "ok" : "FAIL", "-", path);
    if (!ok || !report) printf("%s %s: %s (bar %s)\n", ok ? "ok  " : "FAIL", name, measured, bar);
}

static double log_sum(const float *row, size_t n) {
    double max = -HUGE_VAL, sum = 0;
    for (size_t i = 0; i < n; i++) max = fmax(max, (double)row[i]);
    for (size_t i = 0; i < n; i++) sum += exp((double)row[i] - max);
    return max + log(sum);
}

/* Difference of the `best` likeliest log-probabilities of the reference, over all positions. */
static void compare_top(const item *t, const float *rows, size_t vocab, size_t best, double *worst,
                        double *rms) {
    double squares = 0;
    size_t count = 0;
    *worst = 0;
    for (size_t i = 0; i < t->n; i++) {
        const json_t *top = json_array_get(t->top, i);
        double z = log_sum(rows + i * vocab, vocab);
        for (size_t k = 0; k < best && k < json_array_size(top); k++, count++) {
            const json_t *pair = json_array_get(top, k);
            size_t id = (size_t)json_integer_value(json_array_get(pair, 0));
            double d = (double)rows[i * vocab + id] - z - json_number_value(json_array_get(pair, 1));
            if (!(fabs(d) <= *worst)) *worst = fabs(d);
            squares += d * d;
        }
    }
    *rms = sqrt(squares / (double)count);
}

static int32_t best_of(const float *row, size_t vocab, double *gap) {
    size_t best = 0;
    float second = -INFINITY;
    for (size_t i = 1; i < vocab; i++) {
        if (row[i] > row[best]) {
            second = row[best];
            best = i;
        } else if (row[i] > second) {
            second = row[i];
        }
    }
    *gap = (double)(row[best] - second);
    return (int32_t)best;
}

/* The reference's greedy tokens, each predicted from those before it. gaps[i]: how far apart the two best
 * are. */
static mote_status forced(mote_session *s, const item *t, size_t vocab, int32_t *said, double *gaps,
                          mote_error *err) {
    for (size_t i = 0; i < t->n_greedy; i++) {
        said[i] = best_of(mote_session_logits(s, 0), vocab, &gaps[i]);
        if (i + 1 < t->n_greedy) TRY(mote_session_append(s, 0, &t->greedy[i], 1, err));
    }
    return MOTE_OK;
}

static void check_ids(const item *t, const mote_model *m) {
    int32_t ids[IDS_MAX];
    size_t n;
    mote_error err;
    const char *prompt = json_string_value(json_object_get(t->json, "prompt"));
    char measured[160];
    bool ok = mote_tokenize(m, prompt, strlen(prompt), MOTE_TOK_BOS | MOTE_TOK_SPECIAL, ids, IDS_MAX, &n,
                            &err) == MOTE_OK &&
              n == t->n && memcmp(ids, t->ids, n * sizeof *ids) == 0;
    (void)snprintf(measured, sizeof measured, ok ? "%zu ids equal" : "ids differ (%zu)", t->n);
    verdict(t, "ids", ok, measured, "equal", "-");
}

typedef struct both {
    int32_t exact[GREEDY_MAX], fast[GREEDY_MAX];
    double exact_gap[GREEDY_MAX], fast_gap[GREEDY_MAX];
} both;

static mote_status check_mode(const item *t, mote_model *m, bool exact, both *b, const char *isa,
                              mote_error *err) {
    mote_session *s = NULL;
    mote_session_opts o = mote_session_opts_default();
    size_t vocab = mote_model_n_vocab(m);
    float *rows = MEM_NEW_N(float, t->n * vocab);
    mote_status st;
    char measured[200];
    double worst, rms;
    o.n_ctx = t->n + GREEDY_MAX;
    o.exact = exact;
    if (exact) o.type_k = o.type_v = "f32";
    if (!rows) FAILG(st, err, MOTE_E_MEMORY, "out of memory");
    TRYG(st, mote_session_open(&s, m, &o, err));
    TRYG(st, mote_session_append_logits(s, 0, t->ids, t->n, rows, err));
    TRYG(st, forced(s, t, vocab, exact ? b->exact : b->fast, exact ? b->exact_gap : b->fast_gap, err));
    compare_top(t, rows, vocab, exact ? 10 : 3, &worst, &rms);
    size_t equal = 0, counted = 0;
    for (size_t i = 0; i < t->n_greedy; i++) {
        if (!exact && b->exact_gap[i] <= 1) continue;
        counted++;
        equal += (exact ? b->exact[i] : b->fast[i]) == t->greedy[i];
    }
    bool ok = equal == counted && (exact ? worst <= EXACT_BAR : rms <= FAST_BAR);
    (void)snprintf(measured, sizeof measured, "%zu/%zu greedy, log p %s %.4f", equal, counted,
                   exact ? "max" : "RMS of 3", exact ? worst : rms);
    verdict(t, exact ? "exact" : "fast", ok, measured, exact ? "all, 0.02" : "all, 0.15", isa);
out:
    mote_session_close(&s);
    mem_free(rows);
    return st;
}

/* The continuation as a user would get it: text equal. */
static int keep(void *ctx, const mote_piece *p) {
    buf_put(ctx, p->text, p->n);
    return 0;
}

static mote_status check_text(const item *t, mote_model *m, mote_error *err) {
    mote_session *s = NULL;
    mote_session_opts o = mote_session_opts_default();
    mote_gen_opts g = mote_gen_opts_default();
    mote_status st;
    buf text;
    buf_init(&text, 1 << 20);
    o.n_ctx = t->n + GREEDY_MAX;
    o.exact = true;
    o.type_k = o.type_v = "f32";
    g.n_predict = t->n_greedy;
    g.on_piece = keep;
    g.ctx = &text;
    TRYG(st, mote_session_open(&s, m, &o, err));
    TRYG(st, mote_complete_ids(s, 0, t->ids, t->n, &g, NULL, err));
    const json_t *want = json_object_get(t->json, "text");
    str expected = {json_string_value(want), json_string_length(want)};
    bool ended = mote_token_is_end(m, t->greedy[t->n_greedy - 1]); /* then the reference's text may name it */
    bool ok = str_eq(buf_str(&text), expected) || (ended && str_starts(expected, buf_str(&text)));
    verdict(t, "text", ok, ok ? "equal" : "differs", "equal", "-");
    if (!ok) printf("  got      '%s'\n  expected '%s'\n", text.p ? text.p : "", expected.p);
out:
    buf_free(&text);
    mote_session_close(&s);
    return st;
}

static bool read_item(item *t, const char *file, json_t **json) {
    char name[256];
    (void)snprintf(name, sizeof name, "model/%.200s", file);
    *t = (item){0};
    (void)snprintf(t->name, sizeof t->name, "%.*s", (int)MIN(strlen(file) - 5, sizeof t->name - 1), file);
    *json = oracle_json(name);
    t->json = *json;
    const json_t *ids = json_object_get(*json, "ids"), *greedy = json_object_get(*json, "greedy");
    t->top = json_object_get(*json, "top");
    t->n = json_array_size(ids);
    t->n_greedy = json_array_size(greedy);
    if (t->n == 0 || t->n > IDS_MAX || t->n_greedy == 0 || t->n_greedy > GREEDY_MAX) return false;
    for (size_t i = 0; i < t->n; i++) t->ids[i] = (int32_t)json_integer_value(json_array_get(ids, i));
    for (size_t i = 0; i < t->n_greedy; i++)
        t->greedy[i] = (int32_t)json_integer_value(json_array_get(greedy, i));
    return true;
}

/* Divergence of the fast path from the exact one, over 12 windows of WikiText. */
static mote_status check_kld(mote_model *m, const char *isa, mote_error *err) {
    char path[4096], base[] = "/tmp/mote-kld-XXXXXX", measured[160];
    file_map text = {0};
    mote_session *s = NULL;
    mote_session_opts o = mote_session_opts_default();
    mote_ppl_opts p = mote_ppl_opts_default();
    mote_ppl_result exact = {.size = sizeof exact}, fast = {.size = sizeof fast};
    mote_status st = MOTE_OK;
    int fd = mkstemp(base);
    if (fd >= 0) (void)close(fd);
    TRYG(st, file_open(&text, oracle_path(path, "text/wikitext2-test.txt"), FILE_MAP, err));
    o.n_ctx = 512;
    o.exact = true;
    o.type_k = o.type_v = "f32";
    p.n_chunks = 12;
    p.save_logits = base;
    TRYG(st, mote_session_open(&s, m, &o, err));
    TRYG(st, mote_perplexity(s, (const char *)text.p, text.n, &p, &exact, err));
    mote_session_close(&s);
    o = mote_session_opts_default();
    o.n_ctx = 512;
    p.save_logits = NULL;
    p.compare_logits = base;
    TRYG(st, mote_session_open(&s, m, &o, err));
    TRYG(st, mote_perplexity(s, (const char *)text.p, text.n, &p, &fast, err));
    item t = {.name = "smollm2-135m wikitext"};
    (void)snprintf(measured, sizeof measured, "KLD %.5f, PPL %.3f (exact %.3f)", fast.kld_mean, fast.ppl,
                   exact.ppl);
    verdict(&t, "fast", fast.kld_mean <= KLD_BAR, measured, "0.0025", isa);
out:
    (void)unlink(base);
    file_close(&text);
    mote_session_close(&s);
    return st;
}

static mote_status check_model(const char *prefix, const char *file, int argc, char **argv, mote_error *err) {
    char dir[4096], path[4096];
    mote_engine *e = NULL;
    mote_model *m = NULL;
    mote_status st;
    DIR *d = NULL;
    size_t n = 0;
    TRYG(st, mote_engine_open(&e, NULL, err));
    TRYG(st, mote_model_open(&m, e, oracle_model(path, file), NULL, err));
    d = opendir(oracle_path(dir, "model"));
    if (!d) FAILG(st, err, MOTE_E_NOT_FOUND, "%s is missing", dir);
    const char *isa = oracle_rung(m);
    for (struct dirent *x; (x = readdir(d));) {
        static item t;
        static both b;
        json_t *json;
        if (strncmp(x->d_name, prefix, strlen(prefix)) != 0 || !oracle_wanted(x->d_name, argc, argv))
            continue;
        if (!read_item(&t, x->d_name, &json)) FAILG(st, err, MOTE_E_FORMAT, "%s: no ids", x->d_name);
        check_ids(&t, m);
        st = check_mode(&t, m, true, &b, isa, err);
        if (st == MOTE_OK) st = check_mode(&t, m, false, &b, isa, err);
        if (st == MOTE_OK) st = check_text(&t, m, err);
        json_decref(json);
        if (st != MOTE_OK) goto out;
        n++;
    }
    if (strcmp(prefix, "smollm2-135m") == 0 && oracle_wanted("wikitext", argc, argv))
        st = check_kld(m, isa, err);
out:
    if (d) (void)closedir(d);
    mote_model_close(&m);
    mote_engine_close(&e);
    return st;
}

int main(int argc, char **argv) {
    static const struct {
        const char *prefix, *file;
    } models[] = {{"smollm2-135m", "smollm2-135m-instruct.q4_1.gguf"},
                  {"gemma3-270m", "gemma3-270m.q4_k_m.gguf"},
                  {"qwen2.5-coder-0.5b", "qwen2.5-coder-0.5b-instruct.q4_k_m.gguf"}};
    report = report_wanted(argc, argv);
    (void)setvbuf(stdout, NULL, _IOLBF, 0); /* what was found is seen even if time runs out */
    for (size_t i = 0; i < COUNT_OF(models); i++) {
        mote_error err;
        if (check_model(models[i].prefix, models[i].file, argc, argv, &err) == MOTE_OK) continue;
        printf("FAIL %s: %s\n", models[i].prefix, err.message);
        failures++;
    }
    return failures != 0;
}
