/* embed_test.c: embeddings of all-MiniLM-L6-v2, a Hugging Face folder, against the transformers library's:
 * ids equal, cosine ≥ 0.99999; texts together in passes give the same as each alone. */
#include "mote/mote.h"
#include "oracle_models.h"
#include "oracle_util.h"
#include "report.h"

#include <math.h>

#define BAR 0.99999
enum { TEXTS_MAX = 64, IDS_MAX = 256 };

typedef struct texts {
    json_t *json[TEXTS_MAX];
    const char *p[TEXTS_MAX];
    size_t n_bytes[TEXTS_MAX], n;
} texts;

static mote_status read_texts(texts *t, mote_error *err) {
    char path[4096];
    file_map f = {0};
    mote_status st = MOTE_OK;
    TRY(file_open(&f, oracle_path(path, "embed/all-minilm-l6-v2.jsonl"), FILE_MAP, err));
    str rest = {(const char *)f.p, f.n};
    while (rest.n && t->n < TEXTS_MAX) {
        size_t end = MIN(str_find(rest, STR("\n"), 0), rest.n);
        if (end) {
            TRYG(st, json_parse(&t->json[t->n], str_sub(rest, 0, end), "embed", err));
            const json_t *text = json_object_get(t->json[t->n], "text");
            t->p[t->n] = json_string_value(text);
            t->n_bytes[t->n++] = json_string_length(text);
        }
        rest = str_sub(rest, MIN(end + 1, rest.n), rest.n - MIN(end + 1, rest.n));
    }
out:
    file_close(&f);
    return st;
}

static bool ids_equal(const mote_model *m, const texts *t, size_t i) {
    int32_t ids[4096];
    size_t n;
    mote_error err;
    const json_t *want = json_object_get(t->json[i], "ids");
    size_t n_want = json_array_size(want);
    if (mote_tokenize(m, t->p[i], t->n_bytes[i], MOTE_TOK_BOS, ids, 4096, &n, &err) != MOTE_OK) return false;
    if (n != n_want && !(n_want == IDS_MAX && n > n_want)) return false;
    for (size_t k = 0; k + (n > n_want) < n_want; k++)
        if (ids[k] != (int32_t)json_integer_value(json_array_get(want, k))) return false;
    return true;
}

static double cosine(const float *x, const json_t *ref, size_t d) {
    double xy = 0, xx = 0, yy = 0;
    for (size_t i = 0; i < d; i++) {
        double y = json_number_value(json_array_get(ref, i));
        xy += (double)x[i] * y;
        xx += (double)x[i] * (double)x[i];
        yy += y * y;
    }
    return xy / sqrt(xx * yy);
}

static mote_status check(mote_model *m, const texts *t, bool report, int *bad, mote_error *err) {
    mote_session *s = NULL;
    size_t d = mote_model_n_embd(m);
    float *all = MEM_NEW_N(float, t->n * d), *one = MEM_NEW_N(float, d);
    mote_status st;
    if (!all || !one) FAILG(st, err, MOTE_E_MEMORY, "out of memory");
    TRYG(st, mote_embed_session_open(&s, m, err));
    TRYG(st, mote_embed(s, t->p, t->n_bytes, t->n, NULL, all, NULL, err));
    for (size_t i = 0; i < t->n; i++) {
        char item[64], measured[128];
        double c = cosine(all + i * d, json_object_get(t->json[i], "embedding"), d);
        bool ids = ids_equal(m, t, i);
        TRYG(st, mote_embed(s, &t->p[i], &t->n_bytes[i], 1, NULL, one, NULL, err));
        bool alone = memcmp(one, all + i * d, d * sizeof *one) == 0, ok = c >= BAR && ids && alone;
        (void)snprintf(item, sizeof item, "all-minilm-l6-v2 text %zu", i + 1);
        (void)snprintf(measured, sizeof measured, "1 - cosine %.1e%s%s", 1 - c, ids ? "" : ", ids differ",
                       alone ? "" : ", differs alone");
        if (report) report_row("embed", item, measured, "1e-5", ok ? "ok" : "FAIL", "-", oracle_rung(m));
        if (!ok) printf("FAIL %s: %s\n", item, measured);
        *bad += !ok;
    }
out:
    mote_session_close(&s);
    mem_free(all);
    mem_free(one);
    return st;
}

int main(int argc, char **argv) {
    static texts t;
    char path[4096];
    mote_error err;
    mote_engine *e = NULL;
    mote_model *m = NULL;
    int bad = 0;
    mote_status st;
    TRYG(st, read_texts(&t, &err));
    (void)oracle_model(path, "all-minilm-l6-v2/config.json");
    path[strlen(path) - strlen("/config.json")] = 0;
    TRYG(st, mote_engine_open(&e, NULL, &err));
    TRYG(st, mote_model_open(&m, e, path, NULL, &err));
    st = check(m, &t, report_wanted(argc, argv), &bad, &err);
out:
    if (st != MOTE_OK) printf("FAIL %s\n", err.message);
    for (size_t i = 0; i < t.n; i++) json_decref(t.json[i]);
    mote_model_close(&m);
    mote_engine_close(&e);
    return st != MOTE_OK || bad || t.n == 0;
}
