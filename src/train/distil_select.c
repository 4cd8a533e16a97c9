/* distil_select.c: which examples teach most. See distil.h.
 *
 * A look at an item is the beginning of it through both models: the mean divergence of the student from the teacher says how much there
 * is to learn, and is low both where the student knows already and where nobody can know (Mindermann et al. 2022, RHO-LOSS, to which it
 * comes down when the teacher stands for what can be known); the mean of the teacher's final states says what the item is about. Clusters are found
 * by k-means on these, each of length 1, and give turn by turn (Sorscher et al. 2022; Abbas et al. 2023, SemDeDup). */
#include "train/distil_int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CLUSTERS_MAX = 256, ROUNDS = 12, TOKENS = 96 };

typedef struct looked {
    uint32_t item, cluster;
    float loss, far; /* mean divergence; distance from its cluster's centre */
    uint32_t turn;   /* its place in its cluster */
} looked;

bool distil_select_find(const char *name, distil_select_kind *out) {
    static const struct {
        const char *name;
        distil_select_kind kind;
    } all[] = {{"none", DISTIL_SELECT_NONE},       {"random", DISTIL_SELECT_RANDOM}, {"loss", DISTIL_SELECT_LOSS},
               {"diverse", DISTIL_SELECT_DIVERSE}, {"both", DISTIL_SELECT_BOTH},     {"active", DISTIL_SELECT_ACTIVE}};
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        if (strcmp(all[i].name, name) != 0) continue;
        *out = all[i].kind;
        return true;
    }
    return false;
}

/* Items drawn without repetition, in a random order. */
static mote_status draw_pool(looked **out, size_t *n, size_t n_items, const distil_select *o, mote_error *err) {
    uint32_t *all = MEM_NEW_N(uint32_t, MAX(n_items, (size_t)1));
    *n = o->pool ? MIN(o->pool, n_items) : n_items;
    *out = MEM_NEW_N(looked, MAX(*n, (size_t)1));
    if (!all || !*out) {
        mem_free(all);
        FAIL(err, MOTE_E_MEMORY, "out of memory");
    }
    rng r;
    rng_seed(&r, o->seed, 31);
    for (size_t i = 0; i < n_items; i++) all[i] = (uint32_t)i;
    for (size_t i = 0; i < *n; i++) {
        size_t j = i + rng_below(&r, (uint32_t)(n_items - i));
        uint32_t swap = all[i];
        all[i] = all[j];
        all[j] = swap;
        (*out)[i].item = all[i];
    }
    mem_free(all);
    return MOTE_OK;
}

/* ---- clusters ---- */
static void normalize(float *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    float by = sum > 0 ? (float)(1 / sqrt(sum)) : 0;
    for (size_t i = 0; i < n; i++) x[i] *= by;
}

static void assign(looked *l, size_t n, const float *x, const float *centre, size_t k, size_t w, const struct kern_table *kern) {
    for (size_t i = 0; i < n; i++) {
        float best = -2;
        for (size_t c = 0; c < k; c++) {
            float near = kern->dot(x + i * w, centre + c * w, w);
            if (near > best) {
                best = near;
                l[i].cluster = (uint32_t)c;
            }
        }
        l[i].far = 1 - best;
    }
}

/* Spherical k-means; the first centres are the first items, which were drawn at random. */
static mote_status cluster(looked *l, size_t n, const float *x, size_t k, size_t w, const struct kern_table *kern, mote_error *err) {
    float *centre = mem_calloc(k, w * sizeof *centre);
    if (!centre) FAIL(err, MOTE_E_MEMORY, "out of memory");
    memcpy(centre, x, k * w * sizeof *x);
    for (int round = 0; round < ROUNDS; round++) {
        assign(l, n, x, centre, k, w, kern);
        memset(centre, 0, k * w * sizeof *centre);
        for (size_t i = 0; i < n; i++) kern->axpy(centre + l[i].cluster * w, x + i * w, 1, w);
        for (size_t c = 0; c < k; c++) normalize(centre + c * w, w);
    }
    assign(l, n, x, centre, k, w, kern);
    mem_free(centre);
    return MOTE_OK;
}

/* ---- the choice ---- */
static int by_loss(const void *a, const void *b) {
    const looked *x = a, *y = b;
    if (x->loss > y->loss || x->loss < y->loss) return x->loss > y->loss ? -1 : 1;
    return x->item < y->item ? -1 : x->item > y->item;
}
static int by_nearness(const void *a, const void *b) {
    const looked *x = a, *y = b;
    if (x->far > y->far || x->far < y->far) return x->far < y->far ? -1 : 1;
    return x->item < y->item ? -1 : x->item > y->item;
}
static int by_turn(const void *a, const void *b) {
    const looked *x = a, *y = b;
    if (x->turn != y->turn) return x->turn < y->turn ? -1 : 1;
    return x->cluster < y->cluster ? -1 : x->cluster > y->cluster;
}

static mote_status order(looked *l, size_t n, size_t k, const distil_select *o, mote_error *err) {
    bool clusters = o->kind == DISTIL_SELECT_DIVERSE || o->kind == DISTIL_SELECT_BOTH;
    if (o->kind == DISTIL_SELECT_RANDOM) return MOTE_OK;
    qsort(l, n, sizeof *l, o->kind == DISTIL_SELECT_DIVERSE ? by_nearness : by_loss);
    if (!clusters) return MOTE_OK;
    uint32_t *turns = MEM_NEW_N(uint32_t, k);
    if (!turns) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < n; i++) l[i].turn = turns[l[i].cluster]++;
    mem_free(turns);
    qsort(l, n, sizeof *l, by_turn);
    return MOTE_OK;
}

mote_status distil_choose(distil *d, tape *t, data *from, const distil_select *o, uint32_t **items, size_t *n, uint64_t *tokens_read, mote_error *err) {
    looked *l = NULL;
    float *x = NULL;
    size_t pool_n = 0, w = distil_state_width(d), most = o->tokens ? o->tokens : TOKENS;
    mote_status s = MOTE_OK;
    *items = NULL;
    TRYG(s, draw_pool(&l, &pool_n, data_n_items(from), o, err));
    bool clusters = o->kind == DISTIL_SELECT_DIVERSE || o->kind == DISTIL_SELECT_BOTH;
    if (clusters && !(x = mem_calloc(pool_n, w * sizeof *x))) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < pool_n && o->kind != DISTIL_SELECT_RANDOM; i++) {
        data_batch b;
        double loss;
        TRYG(s, data_item(from, l[i].item, &b, err));
        TRYG(s, distil_look(d, t, &b, most, &loss, x ? x + i * w : NULL, tokens_read, err));
        l[i].loss = (float)loss;
        if (x) normalize(x + i * w, w);
        if (o->stop && i % 8 == 7 && o->stop(o->ctx, i, pool_n)) FAILG(s, err, MOTE_E_CANCELLED, "cancelled");
    }
    size_t k = o->clusters ? o->clusters : (size_t)sqrt((double)pool_n);
    k = MAX(MIN(MIN(k, pool_n), (size_t)CLUSTERS_MAX), (size_t)1);
    if (clusters) TRYG(s, cluster(l, pool_n, x, k, w, tape_kern(t), err));
    TRYG(s, order(l, pool_n, k, o, err));
    *n = MIN(MAX((size_t)(o->keep * (double)pool_n + 0.5), (size_t)1), pool_n);
    *items = MEM_NEW_N(uint32_t, MAX(*n, (size_t)1));
    if (!*items) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < *n; i++) (*items)[i] = l[i].item;
out:
    mem_free(l);
    mem_free(x);
    return s;
}
