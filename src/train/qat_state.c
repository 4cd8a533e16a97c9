/* qat_state.c: weights' places inside their cells, and the files they lie in. See qat_state.h. */
#include "train/qat_state.h"

#include "train/qat_int.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, RUN = 768 /* weights that are coded at once; a multiple of all blocks of grids */ };

bool qat_state_there(const char *path) {
    char next[PATH_BYTES];
    (void)snprintf(next, sizeof next, "%s.next", path);
    return access(path, F_OK) == 0 || access(next, F_OK) == 0;
}

/* ---- codes ---- */
/* Codes of `bits` bits, the lowest first. A run of them begins at a whole byte: n is a multiple of 8 but at the end of a tensor. */
static void put_codes(unsigned char *dst, const uint8_t *codes, size_t n, int bits) {
    uint32_t held = 0;
    int have = 0;
    for (size_t i = 0; i < n; i++) {
        held |= (uint32_t)codes[i] << have;
        for (have += bits; have >= 8; have -= 8, held >>= 8) *dst++ = (unsigned char)held;
    }
    if (have > 0) *dst = (unsigned char)held;
}

static void get_codes(uint8_t *codes, const unsigned char *src, size_t n, int bits) {
    uint32_t held = 0;
    int have = 0;
    for (size_t i = 0; i < n; i++) {
        for (; have < bits; have += 8) held |= (uint32_t)*src++ << have;
        codes[i] = (uint8_t)(held & ((1u << bits) - 1));
        held >>= bits;
        have -= bits;
    }
}

/* x in [0, 1] as the number of one of 2^bits parts, whose middle it becomes: the part is drawn so that its middle is x on average. */
static uint8_t draw_part(float x, int bits, rng *r) {
    float parts = (float)(1 << bits), at = floorf(x * parts - 0.5f + (float)rng_double(r));
    return (uint8_t)(at > 0 ? (at < parts - 1 ? at : parts - 1) : 0); /* NaN: 0 */
}
static float middle(uint8_t part, int bits) { return ((float)part + 0.5f) / (float)(1 << bits); }

/* The cell of a level: half-way to its neighbours (a table may have two zeros); outermost cells go on for one and a half steps. */
static void cell_of(const quant_grid *g, int place, float *left, float *right) {
    float at = quant_grid_level(g, place);
    int last = quant_grid_places(g) - 1, below = place, above = place;
    while (below > 0 && quant_grid_level(g, below) >= at) below--;
    while (above < last && quant_grid_level(g, above) <= at) above++;
    float before = quant_grid_level(g, below), after = quant_grid_level(g, above);
    *left = below < place ? (at + before) / 2 : at - 1.5f * (after - at);
    *right = above > place ? (at + after) / 2 : at + 1.5f * (at - before);
}

struct coding {
    const qat *q;
    const qat_entry *e;
    int bits;
    uint64_t seed;
    unsigned char *codes;
    float *most;    /* of formats without a grid: the greatest distance in each run */
    bool back;      /* from codes to weights */
};

static void code_block(const struct coding *a, size_t b, uint8_t *codes, rng *r) {
    const qat_entry *e = a->e;
    const quant_grid *g = e->grid;
    float *w = e->latent + b * g->block;
    const float *y = (a->back ? e->latent : e->rounded) + b * g->block; /* what a packed file gives is what is packed */
    quant_grid_scales s;
    quant_grid_read(g, e->bytes + b * e->f->bytes, &s);
    for (size_t i = 0; i < g->block; i++) {
        float scale = s.d * s.a[i / g->group], off = s.m * s.b[i / g->group], inv = qat_inverse(scale), left, right;
        int place = qat_place(g, (y[i] - off) * inv);
        cell_of(g, place, &left, &right);
        if (a->back) w[i] = (left + (right - left) * middle(codes[i], a->bits)) * scale + off;
        else codes[i] = draw_part(((w[i] - off) * inv - left) / (right - left), a->bits, r);
    }
}

static void code_run(const struct coding *a, size_t run, uint8_t *codes, size_t n, rng *r) {
    const qat_entry *e = a->e;
    float *w = e->latent + run * RUN;
    const float *y = (a->back ? e->latent : e->rounded) + run * RUN;
    float most = 0;
    for (size_t i = 0; !a->back && i < n; i++) most = fmaxf(most, fabsf(w[i] - y[i]));
    if (a->back) most = a->most[run];
    else a->most[run] = most;
    for (size_t i = 0; i < n; i++) {
        if (a->back) w[i] = y[i] + most * (2 * middle(codes[i], a->bits) - 1);
        else codes[i] = draw_part(most > 0 ? ((w[i] - y[i]) / most + 1) / 2 : 0.5f, a->bits, r);
    }
}

static void code_part(void *arg, int ith, int nth) {
    const struct coding *a = arg;
    const qat_entry *e = a->e;
    size_t total = qat_weights(e), from, to;
    pool_share(total, RUN, ith, nth, &from, &to);
    for (size_t at = from; at < to; at += RUN) {
        size_t n = MIN((size_t)RUN, to - at);
        uint8_t codes[RUN];
        rng r;
        rng_seed(&r, a->seed, at / RUN);
        if (a->back) get_codes(codes, a->codes + at / 8 * (size_t)a->bits, n, a->bits);
        if (!e->grid) code_run(a, at / RUN, codes, n, &r);
        for (size_t i = 0; e->grid && i < n; i += e->grid->block) code_block(a, (at + i) / e->grid->block, codes + i, &r);
        if (!a->back) put_codes(a->codes + at / 8 * (size_t)a->bits, codes, n, a->bits);
    }
}

static size_t n_runs(const qat_entry *e) { return (qat_weights(e) + RUN - 1) / RUN; }

/* Floats of runs first, then the codes. */
static size_t bytes_of(const qat_entry *e, int bits) {
    return (e->grid ? 0 : n_runs(e) * sizeof(float)) + (qat_weights(e) * (size_t)bits + 7) / 8;
}

static void code_entry(const qat_state *s, size_t i, unsigned char *room, bool back) {
    const qat_entry *e = &s->q->e[i];
    if (!back) (void)qat_get(s->q, i); /* what is packed is up to date */
    struct coding a = {s->q, e, s->bits, trainer_at(s->t) * 1000 + i, room + (e->grid ? 0 : n_runs(e) * sizeof(float)),
                       e->grid ? NULL : (float *)(void *)room, back};
    pool_run(s->q->p, code_part, &a);
}

/* ---- which packed file ---- */
/* opened: as the file has it; encoding anew what was decoded may give other codes where there is no grid. */
static mote_status packed_hash(qat *q, bool opened, char hex[SHA256_HEX], mote_error *err) {
    sha256 *h = sha256_new();
    if (!h) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < q->count; i++) {
        const qat_entry *e = &q->e[i];
        if (!opened) (void)qat_get(q, i);
        sha256_update(h, e->tensor, strlen(e->tensor));
        sha256_update(h, e->bytes, e->rows * e->row_bytes);
    }
    sha256_final(h, hex);
    sha256_free(h);
    return MOTE_OK;
}

static const qat_entry *of_var(const qat *q, const var *v) {
    for (size_t i = 0; i < q->count; i++)
        if (&q->e[i].p->v == v || &q->e[i].by == v) return &q->e[i];
    return NULL;
}

/* Whether a parameter's floats go into the state as they are. */
static bool whole(const qat_state *s, const train_param *p) { return !of_var(s->q, p->v) && !s->in_file(s->ctx, p->v); }

static void section_name(char *dst, size_t cap, char kind, str name) { (void)snprintf(dst, cap, "%c:%.*s", kind, STR_ARG(name)); }

/* ---- writing ---- */
mote_status qat_state_write(const qat_state *s, uint64_t *bytes, mote_error *err) {
    const qat *q = s->q;
    char hex[SHA256_HEX], next[PATH_BYTES];
    ckpt_section *list = MEM_NEW_N(ckpt_section, q->count + s->n_params + 2);
    unsigned char **rooms = MEM_NEW_N(unsigned char *, q->count + 1);
    mote_status st = MOTE_OK;
    size_t n = 0;
    uint8_t bits = (uint8_t)s->bits;
    struct stat file;
    if (!list || !rooms) FAILG(st, err, MOTE_E_MEMORY, "out of memory");
    TRYG(st, packed_hash(s->q, false, hex, err));
    list[n++] = (ckpt_section){"packed", hex, sizeof hex};
    list[n++] = (ckpt_section){"bits", &bits, 1};
    for (size_t i = 0; q->o.kind == QAT_WEIGHTS && i < q->count; i++) {
        size_t size = bytes_of(&q->e[i], s->bits);
        if (!(rooms[i] = mem_alloc_aligned(size))) FAILG(st, err, MOTE_E_MEMORY, "out of memory");
        code_entry(s, i, rooms[i], false);
        section_name(list[n].name, sizeof list[n].name, 'q', str_of(q->e[i].tensor));
        list[n].p = rooms[i];
        list[n++].n = size;
    }
    for (size_t i = 0; i < s->n_params; i++) {
        const train_param *p = &s->params[i];
        if (!whole(s, p)) continue;
        section_name(list[n].name, sizeof list[n].name, 'w', p->name);
        list[n].p = p->v->x;
        list[n++].n = p->v->rows * p->v->cols * sizeof(float);
    }
    (void)snprintf(next, sizeof next, "%s.next", s->path);
    TRYG(st, trainer_save_small(s->t, next, list, n, err));
    *bytes = stat(next, &file) == 0 ? (uint64_t)file.st_size : 0;
out:
    for (size_t i = 0; rooms && i < q->count; i++) mem_free_aligned(rooms[i]);
    mem_free(rooms);
    mem_free(list);
    return st;
}

mote_status qat_state_commit(const qat_state *s, mote_error *err) {
    char next[PATH_BYTES];
    (void)snprintf(next, sizeof next, "%s.next", s->path);
    if (rename(next, s->path) != 0) FAIL(err, MOTE_E_IO, "%s: %s", s->path, strerror(errno));
    return MOTE_OK;
}

/* ---- reading ---- */
static mote_status find_state(const qat_state *s, ckpt **out, mote_error *err) {
    char hex[SHA256_HEX], next[PATH_BYTES];
    const char *paths[] = {s->path, next};
    mote_error why = {0};
    bool damaged = false;
    (void)snprintf(next, sizeof next, "%s.next", s->path);
    TRY(packed_hash(s->q, true, hex, err));
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        ckpt *c = NULL;
        if (access(paths[i], F_OK) != 0) continue;
        if (ckpt_open(&c, paths[i], damaged ? NULL : &why) != MOTE_OK) {
            damaged = true;
            continue;
        }
        str own = ckpt_find(c, "packed");
        if (own.n == sizeof hex && memcmp(own.p, hex, sizeof hex) == 0) {
            *out = c;
            /* stopped before qat_state_commit: else the next one would be written over the only state that the packed file has */
            return i > 0 ? qat_state_commit(s, err) : MOTE_OK;
        }
        ckpt_close(&c);
    }
    if (damaged) {
        if (err) *err = why;
        return why.code;
    }
    FAIL(err, MOTE_E_MISMATCH, "%s: it belongs to another packed file than the one that is there; both are written together and stay together", s->path);
}

static mote_status take(const qat_state *s, const ckpt *c, char kind, str name, size_t want, str *out, mote_error *err) {
    char full[160];
    section_name(full, sizeof full, kind, name);
    *out = ckpt_find(c, full);
    if (!out->p || out->n != want)
        FAIL(err, MOTE_E_MISMATCH, "%s: %zu bytes for '%.*s', %zu expected: it was made for other formats", s->path, out->n, STR_ARG(name), want);
    return MOTE_OK;
}

static mote_status read_from(const qat_state *given, const ckpt *c, mote_error *err) {
    qat_state s = *given;
    str part = ckpt_find(c, "bits");
    s.bits = part.n == 1 ? (unsigned char)part.p[0] : 0;
    if (s.bits < QAT_STATE_LEAST || s.bits > QAT_STATE_MOST) FAIL(err, MOTE_E_FORMAT, "%s: places of %d bits", s.path, s.bits);
    for (int look = 0; look < 2; look++) { /* at all sizes first */
        for (size_t i = 0; s.q->o.kind == QAT_WEIGHTS && i < s.q->count; i++) {
            const qat_entry *e = &s.q->e[i];
            TRY(take(&s, c, 'q', str_of(e->tensor), bytes_of(e, s.bits), &part, err));
            if (look) code_entry(&s, i, (unsigned char *)(uintptr_t)part.p, true);
        }
        for (size_t i = 0; i < s.n_params; i++) {
            const train_param *p = &s.params[i];
            size_t bytes = p->v->rows * p->v->cols * sizeof(float);
            if (!whole(&s, p)) continue;
            TRY(take(&s, c, 'w', p->name, bytes, &part, err));
            if (look) memcpy(p->v->x, part.p, bytes);
        }
    }
    qat_changed(s.q);
    return trainer_load_small(s.t, c, err);
}

mote_status qat_state_read(const qat_state *s, mote_error *err) {
    ckpt *c = NULL;
    TRY(find_state(s, &c, err));
    mote_status st = read_from(s, c, err);
    ckpt_close(&c);
    return st;
}
