/* prune_swap.c: layers that work in another way from now on: windowed attention, attention to blocks of keys. */
#include "compress/pruning.h"

#include <math.h>

/* Each layer's cost: how much the text's likelihood changes when that layer alone is windowed. The caches were sized before, for all keys. */
mote_status prune_choose_windows(prune *p, size_t window, size_t k, uint32_t *marked, mote_error *err) {
    model *m = p->m;
    size_t n = m->hp.n_layer, was = m->hp.n_swa;
    bool any = p->o->depth_by && strcmp(p->o->depth_by, "random") == 0;
    double *score, nll, whole = 0;
    uint32_t *keep;
    rng r;
    if (k > n) FAIL(err, MOTE_E_RANGE, "%zu layers cannot be windowed: there are %zu", k, n);
    TRY(prune_alloc(p, n, sizeof *score, &score, err));
    TRY(prune_alloc(p, n, sizeof *keep, &keep, err));
    rng_seed(&r, p->o->seed, 17);
    if (!any) TRY(prune_tokens(p, 1024, err));
    if (!any) TRY(prune_nll(p, &whole, err)); /* opens the state, too */
    for (size_t il = 0; il < n; il++) {
        layer *l = &m->layers[il];
        score[il] = rng_double(&r);
        if (any || l->swa) continue;
        l->swa = true;
        m->hp.n_swa = window;
        mote_status s = prune_nll(p, &nll, err);
        l->swa = false;
        m->hp.n_swa = was;
        TRY(s);
        score[il] = -fabs(nll - whole);
        TRY(prune_progress(p, "trying windows", il + 1, n, err));
    }
    TRY(prune_largest(score, n, k, keep, err));
    for (size_t i = 0; i < k; i++) marked[keep[i]] = 1;
    return MOTE_OK;
}

mote_status prune_put_kinds(prune *p, const uint32_t *marked, attn_kind kind, mote_error *err) {
    size_t n = p->m->hp.n_layer;
    uint32_t *list;
    float *copy;
    char key[160];
    TRY(prune_alloc(p, n, sizeof *list, &list, err));
    TRY(prune_alloc(p, n, sizeof *copy, &copy, err));
    for (size_t il = 0; il < n; il++) copy[il] = (float)(list[il] = (uint32_t)(marked[il] ? kind : p->m->layers[il].kind));
    const kv k = {.key = str_of(prune_key(p, "attention.kind", key)), .type = KV_ARRAY, .elem = KV_U32, .count = n, .elems = (const unsigned char *)list};
    TRY(edit_set_kv(p->edit, &k, err));
    return edit_put(p->edit, STR("attention_kinds"), QUANT_F32, 1, (uint64_t[]){n}, copy, NULL, err);
}

const char *prune_layer_names(prune *p, const uint32_t *marked) {
    buf names;
    size_t n = 0;
    buf_init(&names, 8192);
    for (size_t il = 0; il < p->m->hp.n_layer; il++)
        if (marked[il]) buf_printf(&names, "%s%zu", n++ ? ", " : "", il);
    const char *text = arena_dup(&p->mem, buf_str(&names));
    buf_free(&names);
    return text ? text : "";
}

mote_status prune_window_layers(prune *p, mote_error *err) {
    size_t n = p->m->hp.n_layer, count = 0;
    uint32_t *marked;
    unsigned char *swa;
    char key[160];
    TRY(prune_alloc(p, n, sizeof *marked, &marked, err));
    TRY(prune_alloc(p, n, sizeof *swa, &swa, err));
    if (p->o->window_layers) TRY(prune_parse_layers(p->o->window_layers, marked, n, &count, err));
    else if (p->o->n_window) TRY(prune_choose_windows(p, p->o->window, p->o->n_window, marked, err));
    for (size_t il = 0; il < n; il++) {
        if (!p->o->window_layers && !p->o->n_window) marked[il] = il > 0 && il + 1 < n;
        swa[il] = marked[il] != 0 || p->m->layers[il].swa;
        if (marked[il] && p->m->layers[il].mixer[0] != &block_attn)
            FAIL(err, MOTE_E_UNSUPPORTED, "layer %zu has no attention that could be windowed", il);
    }
    if (p->m->hp.n_swa && p->m->hp.n_swa != p->o->window)
        FAIL(err, MOTE_E_UNSUPPORTED, "the model has windows of %zu already; all must be of one size", p->m->hp.n_swa);
    TRY(edit_set_u32(p->edit, prune_key(p, "attention.sliding_window", key), (uint32_t)p->o->window, err));
    const kv list = {.key = str_of(prune_key(p, "attention.sliding_window_pattern", key)), .type = KV_ARRAY, .elem = KV_BOOL, .count = n, .elems = swa};
    TRY(edit_set_kv(p->edit, &list, err));
    size_t windows = 0;
    for (size_t il = 0; il < n; il++) {
        marked[il] = swa[il];
        windows += swa[il];
    }
    prune_say(p, "attention: %zu of %zu layers see %zu keys: %s", windows, n, p->o->window, prune_layer_names(p, marked));
    (void)json_object_set_new(p->json, "window", json_integer((json_int_t)p->o->window));
    return MOTE_OK;
}

mote_status prune_blocks(prune *p, mote_error *err) {
    const mote_prune_opts *o = p->o;
    size_t n = p->m->hp.n_layer, count = 0, size = o->block_size ? o->block_size : ATTN_BLOCK_STEP, seen = MAX(o->block_window, (size_t)1);
    uint32_t *marked;
    char key[160];
    if (size % ATTN_BLOCK_STEP || size > 1 << 16 || o->block_top > ATTN_TOP_MAX || seen > INT32_MAX / size)
        FAIL(err, MOTE_E_RANGE, "blocks of %zu keys, %zu chosen, %zu last ones: sizes are multiples of %d to 65536, and at most %d can be chosen", size,
             o->block_top, seen, ATTN_BLOCK_STEP, ATTN_TOP_MAX);
    TRY(prune_alloc(p, n, sizeof *marked, &marked, err));
    if (o->block_layers) TRY(prune_parse_layers(o->block_layers, marked, n, &count, err));
    else TRY(prune_choose_windows(p, seen * size, o->n_block, marked, err));
    count = 0;
    for (size_t il = 0; il < n; il++) {
        const layer *l = &p->m->layers[il];
        count += marked[il] != 0;
        if (marked[il] && (l->mixer[0] != &block_attn || l->kind != ATTN_SOFTMAX || !p->m->hp.causal))
            FAIL(err, MOTE_E_UNSUPPORTED, "layer %zu has no softmax attention that could read blocks alone", il);
        if (l->kind == ATTN_BLOCKS) FAIL(err, MOTE_E_UNSUPPORTED, "the model has layers that read blocks already");
    }
    TRY(prune_put_kinds(p, marked, ATTN_BLOCKS, err));
    TRY(edit_set_u32(p->edit, prune_key(p, "attention.block.size", key), (uint32_t)size, err));
    TRY(edit_set_u32(p->edit, prune_key(p, "attention.block.window", key), (uint32_t)seen, err));
    TRY(edit_set_u32(p->edit, prune_key(p, "attention.block.top", key), (uint32_t)o->block_top, err));
    prune_say(p, "attention: %zu of %zu layers read blocks of %zu keys, the first, the last %zu and %zu chosen ones: %s", count, n, size, seen,
              o->block_top, prune_layer_names(p, marked));
    (void)json_object_set_new(p->json, "block_size", json_integer((json_int_t)size));
    return MOTE_OK;
}
