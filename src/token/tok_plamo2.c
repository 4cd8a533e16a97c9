/* tok_plamo2.c: PLaMo 2's tokenizer: the cheapest way to write the text, found from its end. A token costs minus its score
 * in steps of 1e-4; a character without one is written in bytes and costs 1000. Of ways that cost the same, the one
 * whose first token is longest. */
#include "token/token_int.h"

#include <math.h>

#define SCORE_STEPS 1e4
#define UNKNOWN_COST 10000000
#define INSIDE INT64_MAX /* the cost where no character begins */
#define COST_MAX 20000000 /* tokens that cost as much or more are not used */

struct best { /* from a character to the end */
    int64_t cost;
    uint32_t len; /* in bytes, of the first token */
    int32_t id;
};

mote_status tok_plamo2_prepare(tok_vocab *v, mote_error *err) {
    TRY(tok_trie_init(&v->trie, err));
    for (size_t i = 0; i < v->n; i++)
        if (tok_plain(v, (int32_t)i) >= 0) TRY(tok_trie_put(&v->trie, STR(""), v->text[i], (int32_t)i, err));
    return MOTE_OK;
}

static int64_t cost_of(const tok_vocab *v, int32_t id) {
    double s = (double)(float)v->score[id];
    return isfinite(s) && fabs(s) < 1e5 ? -(int64_t)round(s * SCORE_STEPS) : COST_MAX;
}

static void best_from(const tok_vocab *v, str t, struct best *path, uint32_t i, uint32_t char_len) {
    uint32_t node = 0;
    path[i] = (struct best){path[i + char_len].cost + UNKNOWN_COST, char_len, TOK_NONE};
    for (uint32_t k = i; k < t.n; k++) {
        node = tok_trie_step(&v->trie, node, (unsigned char)t.p[k]);
        if (!node) break;
        int32_t id = tok_trie_value(&v->trie, node);
        if (id < 0 || path[k + 1].cost == INSIDE) continue;
        int64_t cost = cost_of(v, id);
        if (cost >= COST_MAX) continue;
        cost += path[k + 1].cost;
        if (cost <= path[i].cost) path[i] = (struct best){cost, k + 1 - i, id};
    }
}

mote_status tok_plamo2_encode(tok_work *w, str t) {
    const tok_vocab *v = w->v;
    if (str_starts(t, STR("\xEF\xBB\xBF"))) t = str_sub(t, 3, t.n - 3); /* a byte order mark */
    if (t.n == 0) return MOTE_OK;
    if (t.n + 1 > w->cap_path) {
        mem_free_aligned(w->path);
        w->cap_path = 0;
        w->path = mem_alloc_aligned((t.n + 1) * sizeof(struct best));
        if (!w->path) FAIL(w->err, MOTE_E_MEMORY, "out of memory for %zu bytes of text", t.n);
        w->cap_path = t.n + 1;
    }
    struct best *path = w->path;
    for (uint32_t i = 0; i < t.n;) { /* forward once, to know where characters begin */
        uint32_t cp, len = (uint32_t)utf8_decode(t.p + i, t.n - i, &cp);
        path[i] = (struct best){0, len, TOK_NONE};
        for (uint32_t k = 1; k < len; k++) path[i + k] = (struct best){INSIDE, 0, TOK_NONE};
        i += len;
    }
    path[t.n] = (struct best){0, 0, TOK_NONE};
    for (uint32_t i = (uint32_t)t.n; i-- > 0;)
        if (path[i].cost != INSIDE) best_from(v, t, path, i, path[i].len);
    for (uint32_t i = 0; i < t.n; i += path[i].len) {
        if (path[i].id >= 0) TRY(tok_emit(w, path[i].id));
        for (uint32_t k = 0; path[i].id < 0 && k < path[i].len; k++) {
            int32_t id = v->byte_sym[(unsigned char)t.p[i + k]];
            TRY(id < 0 ? tok_emit_unknown(w) : tok_emit(w, id));
        }
    }
    return MOTE_OK;
}
