/* prune_depth.c: taking whole layers out. */
#include "compress/pruning.h"

#include <math.h>

enum { CANDIDATES = 8 }; /* layers tried again in each later round of a search */

mote_status prune_parse_layers(const char *text, uint32_t *marked, size_t n, size_t *count, mote_error *err) {
    uint32_t range = 0;
    *count = 0;
    for (const char *at = text; *at;) {
        uint64_t from, to;
        size_t len = strcspn(at, ",");
        str item = {at, len};
        size_t dash = str_find(item, STR("-"), 0);
        bool good = str_to_u64(str_sub(item, 0, MIN(dash, len)), &from);
        to = from;
        if (dash != SIZE_MAX) good = good && str_to_u64(str_sub(item, dash + 1, len - dash - 1), &to);
        if (!good || from > to) FAIL(err, MOTE_E_USAGE, "'%.*s' is no layer or range of layers, as in 20,21 or 4-7", STR_ARG(item));
        if (to >= n) FAIL(err, MOTE_E_RANGE, "layer %llu: the model has layers 0 to %zu", (unsigned long long)to, n - 1);
        range++;
        for (; from <= to; from++) {
            *count += !marked[from];
            marked[from] = range;
        }
        at += len + (at[len] == ',');
    }
    return MOTE_OK;
}

/* ---- influence ---- */
typedef struct influence {
    size_t n_embd, n_layer, n;
    float *before;    /* [PRUNE_WINDOW, n_embd] */
    double *cosines;  /* [n_layer] sums */
} influence;

static void on_stream(void *ctx, size_t il, const float *x, size_t n) {
    influence *f = ctx;
    for (size_t r = 0; il > 0 && r < n; r++) {
        double ab = 0, aa = 0, bb = 0;
        const float *a = f->before + r * f->n_embd, *b = x + r * f->n_embd;
        for (size_t i = 0; i < f->n_embd; i++) {
            ab += (double)a[i] * (double)b[i];
            aa += (double)a[i] * (double)a[i];
            bb += (double)b[i] * (double)b[i];
        }
        if (aa > 0 && bb > 0) f->cosines[il - 1] += ab / sqrt(aa * bb);
    }
    memcpy(f->before, x, n * f->n_embd * sizeof(float));
    if (il == f->n_layer) f->n += n;
}

/* score[il] = 1 - the mean cosine of the stream before and after layer il (Men et al. 2024, eq. 1). */
static mote_status block_influence(prune *p, double *score, mote_error *err) {
    influence f = {.n_embd = p->m->hp.n_embd, .n_layer = p->m->hp.n_layer, .cosines = score};
    size_t n;
    TRY(prune_tokens(p, 4096, err));
    TRY(prune_alloc(p, PRUNE_WINDOW * f.n_embd, sizeof(float), &f.before, err));
    TRY(prune_state(p, err));
    state_set_stream(p->st, on_stream, &f);
    for (size_t w = 0; w < prune_n_windows(p); w++) {
        TRY(prune_window(p, w, NULL, &n, err));
        TRY(prune_progress(p, "measuring influence", w + 1, prune_n_windows(p), err));
    }
    state_set_stream(p->st, NULL, NULL);
    for (size_t il = 0; il < f.n_layer; il++) score[il] = 1 - score[il] / (double)f.n;
    return MOTE_OK;
}

/* ---- perplexity without a layer ---- */

/* The text's likelihood with the layers of `gone` left out of the table. */
static mote_status nll_without(prune *p, const bool *gone, const layer *all, size_t n, double *nll, mote_error *err) {
    size_t k = 0;
    for (size_t il = 0; il < n; il++)
        if (!gone[il]) memcpy(&p->m->layers[k++], &all[il], sizeof *all);
    p->m->hp.n_layer = k;
    mote_status s = prune_nll(p, nll, err);
    memcpy(p->m->layers, all, n * sizeof *all);
    p->m->hp.n_layer = n;
    return s;
}

/* The candidates with the smallest nll of the last round. */
static bool is_candidate(const double *last, const bool *gone, size_t n, size_t il) {
    size_t better = 0;
    for (size_t i = 0; i < n; i++) better += !gone[i] && (last[i] < last[il] || (last[i] == last[il] && i < il));
    return better < CANDIDATES;
}

/* Greedy: each round takes the layer without which the text stays likeliest. The first round tries all, later ones
 * those that cost least in the round before. */
static mote_status by_perplexity(prune *p, size_t k, bool *gone, double *score, mote_error *err) {
    size_t n = p->m->hp.n_layer, total = n + (k - 1) * MIN((size_t)CANDIDATES, n), done = 0;
    layer *all;
    double *last = score, nll;
    TRY(prune_tokens(p, 1024, err));
    TRY(prune_state(p, err)); /* sized for all layers */
    TRY(prune_alloc(p, n, sizeof *all, &all, err));
    memcpy(all, p->m->layers, n * sizeof *all);
    for (size_t round = 0; round < k; round++) {
        size_t best = SIZE_MAX;
        double least = HUGE_VAL;
        bool tried[4096] = {false};
        for (size_t il = 0; il < n && il < COUNT_OF(tried); il++) tried[il] = !gone[il] && (round == 0 || is_candidate(last, gone, n, il));
        for (size_t il = 0; il < n; il++) {
            if (!tried[il]) continue;
            gone[il] = true;
            mote_status s = nll_without(p, gone, all, n, &nll, err);
            gone[il] = false;
            if (s != MOTE_OK) return s;
            last[il] = nll;
            if (nll < least) least = nll, best = il;
            TRY(prune_progress(p, "trying layers", MIN(++done, total), total, err));
        }
        if (best == SIZE_MAX) FAIL(err, MOTE_E_OUTPUT, "no layer can be left out without the logits failing");
        gone[best] = true;
        prune_say(p, "  without layer %zu: perplexity %.3f", best, exp(least));
    }
    return MOTE_OK;
}

static mote_status choose(prune *p, size_t k, bool *gone, mote_error *err) {
    size_t n = p->m->hp.n_layer;
    const char *by = p->o->depth_by ? p->o->depth_by : "perplexity";
    double *score;
    uint32_t *keep;
    TRY(prune_alloc(p, n, sizeof *score, &score, err));
    TRY(prune_alloc(p, n, sizeof *keep, &keep, err));
    if (strcmp(by, "perplexity") == 0) return by_perplexity(p, k, gone, score, err);
    if (strcmp(by, "influence") == 0) TRY(block_influence(p, score, err));
    else if (strcmp(by, "random") == 0) {
        rng r;
        rng_seed(&r, p->o->seed, 3);
        for (size_t i = 0; i < n; i++) score[i] = rng_double(&r);
    } else if (strcmp(by, "last") == 0) {
        for (size_t i = 0; i < n; i++) score[i] = (double)(n - i);
    } else FAIL(err, MOTE_E_USAGE, "layers can be chosen by influence, perplexity, random or last, not '%s'", by);
    TRY(prune_largest(score, n, n - k, keep, err));
    for (size_t i = 0; i < n; i++) gone[i] = true;
    for (size_t i = 0; i < n - k; i++) gone[keep[i]] = false;
    return MOTE_OK;
}

/* ---- writing ---- */
static bool layer_of(str name, size_t *il, str *rest) {
    if (!str_starts(name, STR("blk."))) return false;
    size_t i = 4, v = 0;
    while (i < name.n && name.p[i] >= '0' && name.p[i] <= '9' && v < 100000) v = v * 10 + (size_t)(name.p[i++] - '0');
    if (i == 4 || i >= name.n || name.p[i] != '.') return false;
    *il = v;
    *rest = str_sub(name, i, name.n - i);
    return true;
}

mote_status prune_layer_arrays(prune *p, const uint32_t *keep, size_t n, mote_error *err) {
    char prefix[160];
    size_t total = p->m->hp.n_layer + p->m->hp.n_layer_skipped;
    prune_key(p, "", prefix);
    for (size_t i = 0; i < model_file_n_kv(p->f); i++) {
        const kv *k = model_file_kv(p->f, i);
        bool per_layer = k->type == KV_ARRAY && k->count == total && str_starts(k->key, str_of(prefix)) &&
                         !str_ends(k->key, STR("rope.dimension_sections"));
        if (!per_layer || k->elem == KV_STRING) continue;
        size_t size = k->elem == KV_U64 || k->elem == KV_I64 || k->elem == KV_F64   ? 8
                      : k->elem == KV_U8 || k->elem == KV_I8 || k->elem == KV_BOOL ? 1
                      : k->elem == KV_U16 || k->elem == KV_I16                     ? 2
                                                                                   : 4;
        unsigned char *elems = arena_alloc(&p->mem, n, size);
        if (!elems) FAIL(err, MOTE_E_MEMORY, "out of memory");
        for (size_t j = 0; j < n; j++) memcpy(elems + j * size, k->elems + keep[j] * size, size);
        kv new = *k;
        new.elems = elems;
        new.count = n;
        TRY(edit_set_kv(p->edit, &new, err));
    }
    return MOTE_OK;
}

/* Layers whose window or rotation followed from their number must keep what they had: windows get a list. */
static mote_status keep_patterns(prune *p, const uint32_t *keep, size_t n, mote_error *err) {
    const model *m = p->m;
    bool windowed = false, uniform = true, rope_moves = false;
    unsigned char *swa = arena_alloc(&p->mem, n, 1);
    char key[160];
    if (!swa) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < n && keep[i] < m->hp.n_layer; i++) {
        swa[i] = m->layers[keep[i]].swa;
        windowed = windowed || swa[i];
        uniform = uniform && swa[i] == swa[0];
        rope_moves = rope_moves || m->layers[keep[i]].rope != m->layers[i].rope;
    }
    if (rope_moves)
        FAIL(err, MOTE_E_UNSUPPORTED, "'%s' gives layers their rotation by number: take away whole periods of them", m->arch->name);
    if (!windowed || (uniform && !hp_has(m, "attention.sliding_window_pattern"))) return MOTE_OK;
    const kv list = {.key = str_of(prune_key(p, "attention.sliding_window_pattern", key)), .type = KV_ARRAY, .elem = KV_BOOL,
                     .count = n, .elems = swa};
    return edit_set_kv(p->edit, &list, err);
}

static mote_status rename_layers(prune *p, const bool *gone, const uint32_t *new_number, mote_error *err) {
    for (size_t i = 0; i < model_file_n_tensors(p->f); i++) {
        str name = model_file_tensor(p->f, i)->name, rest;
        size_t il;
        if (layer_of(name, &il, &rest) && il < p->m->hp.n_layer && gone[il]) TRY(edit_drop(p->edit, name, err));
    }
    /* ascending numbers: each new name was dropped or has moved on */
    for (size_t to = 0; to < p->m->hp.n_layer + p->m->hp.n_layer_skipped; to++)
        for (size_t i = 0; i < model_file_n_tensors(p->f); i++) {
            str name = model_file_tensor(p->f, i)->name, rest;
            size_t il;
            char text[256];
            if (!layer_of(name, &il, &rest) || il != to || (il < p->m->hp.n_layer && gone[il])) continue;
            if (il >= p->m->hp.n_layer + p->m->hp.n_layer_skipped) continue;
            (void)snprintf(text, sizeof text, "blk.%u%.*s", new_number[il], (int)MIN(rest.n, 200), rest.p);
            TRY(edit_rename(p->edit, name, str_of(text), err));
        }
    return MOTE_OK;
}

static mote_status write_depth(prune *p, const bool *gone, mote_error *err) {
    size_t n = p->m->hp.n_layer, total = n + p->m->hp.n_layer_skipped, kept = 0;
    uint32_t *keep, *new_number;
    char key[160];
    json_t *list = json_array();
    buf names;
    TRY(prune_alloc(p, total, sizeof *keep, &keep, err));
    TRY(prune_alloc(p, total, sizeof *new_number, &new_number, err));
    buf_init(&names, 4096);
    for (size_t il = 0; il < total; il++) {
        if (il < n && gone[il]) {
            buf_printf(&names, "%s%zu", names.n ? ", " : "", il);
            (void)json_array_append_new(list, json_integer((json_int_t)il));
            continue;
        }
        new_number[il] = (uint32_t)kept;
        keep[kept++] = (uint32_t)il;
    }
    prune_say(p, "depth: %zu of %zu layers are left; gone: %s", kept, total, names.p ? names.p : "");
    buf_free(&names);
    (void)json_object_set_new(p->json, "layers_gone", list);
    TRY(rename_layers(p, gone, new_number, err));
    TRY(prune_layer_arrays(p, keep, kept, err));
    TRY(keep_patterns(p, keep, kept, err));
    return edit_set_u32(p->edit, prune_key(p, "block_count", key), (uint32_t)kept, err);
}

mote_status prune_depth(prune *p, mote_error *err) {
    size_t n = p->m->hp.n_layer, k = p->o->n_layers, listed = 0;
    bool *gone;
    uint32_t *marked;
    TRY(prune_alloc(p, n, sizeof *gone, &gone, err));
    TRY(prune_alloc(p, n, sizeof *marked, &marked, err));
    if (!p->o->layers && !k) { /* a budget */
        prune_sizes s = prune_sizes_of(p);
        TRY(prune_budget(p, &s, err));
        k = n - s.n_layer;
    }
    if (p->o->layers) TRY(prune_parse_layers(p->o->layers, marked, n, &listed, err));
    for (size_t i = 0; i < n; i++) gone[i] = marked[i] != 0;
    if (listed + k >= n) FAIL(err, MOTE_E_RANGE, "%zu layers cannot be taken from %zu: one must stay", listed + k, n);
    if (k && listed) FAIL(err, MOTE_E_USAGE, "name the layers, or how many; not both");
    if (k) TRY(choose(p, k, gone, err));
    return write_depth(p, gone, err);
}
