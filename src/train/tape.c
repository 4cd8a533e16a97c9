/* tape.c: the tape: a growing memory, the list of notes, and the walk back. */
#include "train/tape.h"

#include "tensor/tensor.h"

#include <string.h>

enum { ALIGN = 64, BLOCKS_MAX = 4096 };
#define BLOCK_BYTES ((size_t)32 << 20)

typedef struct note {
    struct note *before;
    tape_back_fn *back;
} note;

typedef struct block {
    unsigned char *p;
    size_t size;
} block;

struct tape {
    tape_opts o;
    gemm *gemm;
    block blocks[BLOCKS_MAX];
    size_t n_blocks, at, used; /* the block in use, and how much of it */
    size_t total, before;      /* bytes of all blocks; of those before the one in use, as far as they were used */
    size_t peak;
    note *last;
    int paused;
    bool failed;
    const char *fault;
};

mote_status tape_open(tape **out, const tape_opts *o, mote_error *err) {
    tape *t = MEM_NEW(tape);
    if (!t) FAIL(err, MOTE_E_MEMORY, "out of memory");
    t->o = *o;
    mote_status s = gemm_open(&t->gemm, o->pool, o->kern, err);
    if (s != MOTE_OK) mem_free(t);
    else *out = t;
    return s;
}

void tape_close(tape **t) {
    if (!*t) return;
    for (size_t i = 0; i < (*t)->n_blocks; i++) mem_free_aligned((*t)->blocks[i].p);
    gemm_close(&(*t)->gemm);
    mem_free(*t);
    *t = NULL;
}

void tape_reset(tape *t) {
    t->at = t->used = t->before = 0;
    t->last = NULL;
    t->paused = 0;
    t->failed = false;
    t->fault = NULL;
}

mote_status tape_status(const tape *t, mote_error *err) {
    if (t->fault) FAIL(err, MOTE_E_INTERNAL, "%s", t->fault);
    if (t->failed)
        FAIL(err, MOTE_E_MEMORY, "a training pass needs more than %zu MiB: use shorter sequences, a smaller batch or activation checkpointing",
             t->total >> 20);
    return MOTE_OK;
}

void tape_fault(tape *t, const char *what) {
    if (!t->fault) t->fault = what;
}

size_t tape_peak_bytes(const tape *t) { return t->peak; }

/* ---- memory ---- */
/* Makes blocks[at] one that holds `bytes`: one that is there, or a new one. */
static bool next_block(tape *t, size_t bytes) {
    size_t i = t->n_blocks ? t->at + 1 : 0;
    while (i < t->n_blocks && t->blocks[i].size < bytes) i++;
    if (i == t->n_blocks) {
        size_t size = MAX(bytes, BLOCK_BYTES);
        if (t->n_blocks == BLOCKS_MAX || (t->o.max_bytes && t->total + size > t->o.max_bytes)) return false;
        unsigned char *p = mem_alloc_aligned(size);
        if (!p) return false;
        t->blocks[t->n_blocks++] = (block){p, size};
        t->total += size;
    }
    /* those that were passed over come behind it, so that `at` alone tells which are in use */
    size_t to = t->n_blocks == 1 ? 0 : t->at + 1;
    block b = t->blocks[i];
    memmove(t->blocks + to + 1, t->blocks + to, (i - to) * sizeof b);
    t->blocks[to] = b;
    if (to) t->before += t->used;
    t->at = to;
    t->used = 0;
    return true;
}

void *tape_mem(tape *t, size_t bytes) {
    size_t n;
    if (t->failed || !ckd_add_size(&n, bytes, ALIGN - 1)) return NULL;
    n = n / ALIGN * ALIGN;
    if (!t->n_blocks || n > t->blocks[t->at].size - t->used)
        if (!next_block(t, n)) {
            t->failed = true;
            return NULL;
        }
    void *p = t->blocks[t->at].p + t->used;
    t->used += n;
    t->peak = MAX(t->peak, t->before + t->used);
    return p;
}

tape_spot tape_mark(const tape *t) { return (tape_spot){t->at, t->used, t->before}; }

void tape_release(tape *t, tape_spot s) {
    t->at = s.block;
    t->used = s.used;
    t->before = s.before;
}

/* ---- vars ---- */
static var *new_var(tape *t, size_t rows, size_t cols, bool wants) {
    var *v = tape_mem(t, sizeof *v);
    if (v) *v = (var){.rows = rows, .cols = cols, .wants = wants && tape_records(t)};
    return v;
}

var *tape_var(tape *t, size_t rows, size_t cols, bool wants) {
    size_t n;
    var *v = new_var(t, rows, cols, wants);
    if (!v) return NULL;
    if (!ckd_mul_size(&n, rows, cols) || !ckd_mul_size(&n, n, sizeof(float))) {
        t->failed = true;
        return NULL;
    }
    v->x = tape_mem(t, n);
    return v->x ? v : NULL;
}

var *tape_const(tape *t, size_t rows, size_t cols, const float *x) {
    var *v = new_var(t, rows, cols, false);
    if (!v) return NULL;
    union { /* values of operands are only read */
        const float *from;
        float *to;
    } u = {x};
    v->x = u.to;
    return v;
}

var *tape_view(tape *t, var *v, size_t at, size_t rows, size_t cols) {
    if (!v) return NULL;
    var *r = new_var(t, rows, cols, v->wants);
    if (!r) return NULL;
    r->x = v->x + at;
    r->of = v;
    r->at = at;
    return r;
}

float *tape_grad(tape *t, var *v, bool *fresh) {
    *fresh = false;
    if (!v || !v->wants) return NULL;
    if (v->of) {
        float *g = tape_grad_zeroed(t, v->of);
        v->g = g ? g + v->at : NULL;
        return v->g;
    }
    if (v->g) return v->g;
    *fresh = true;
    v->g = v->room ? v->room : tape_mem(t, v->rows * v->cols * sizeof(float));
    return v->g;
}

struct zeroing {
    float *x;
};
static void zero_part(void *ctx, size_t from, size_t to, int ith) {
    const struct zeroing *z = ctx;
    (void)ith;
    memset(z->x + from, 0, (to - from) * sizeof(float));
}

float *tape_grad_zeroed(tape *t, var *v) {
    bool fresh;
    float *g = tape_grad(t, v, &fresh);
    if (g && fresh) tape_for(t, v->rows * v->cols, 4096, zero_part, &(struct zeroing){g});
    return g;
}

/* ---- work ---- */
struct sharing {
    size_t n, step;
    tape_part_fn *fn;
    void *ctx;
};
static void share(void *arg, int ith, int nth) {
    const struct sharing *s = arg;
    size_t from, to;
    pool_share(s->n, s->step, ith, nth, &from, &to);
    if (from < to) s->fn(s->ctx, from, to, ith);
}

void tape_for(tape *t, size_t n, size_t step, tape_part_fn *fn, void *ctx) {
    if (n <= step) {
        if (n) fn(ctx, 0, n, 0);
        return;
    }
    pool_run(t->o.pool, share, &(struct sharing){n, step, fn, ctx});
}

int tape_threads(const tape *t) { return pool_size(t->o.pool); }
const struct kern_table *tape_kern(const tape *t) { return t->o.kern; }
pool *tape_pool(const tape *t) { return t->o.pool; }
void tape_gemm(tape *t, const gemm_args *g) { gemm_run(t->gemm, t->o.prec, g); }
const struct kern_gemm *tape_panels(const tape *t) { return gemm_panels(t->gemm, t->o.prec); }

/* ---- passes ---- */
bool tape_records(const tape *t) { return t->paused == 0; }
void tape_pause(tape *t) { t->paused++; }
void tape_resume(tape *t) { t->paused--; }

void *tape_note(tape *t, tape_back_fn *back, size_t ctx_bytes) {
    enum { HEAD = ALIGN };
    _Static_assert(sizeof(note) <= HEAD, "a note's head");
    if (!tape_records(t)) return NULL;
    unsigned char *p = tape_mem(t, HEAD + ctx_bytes);
    if (!p) return NULL;
    note *n = (note *)(void *)p;
    *n = (note){t->last, back};
    memset(p + HEAD, 0, ctx_bytes);
    t->last = n;
    return p + HEAD;
}

static void walk_back(tape *t) {
    for (note *n = t->last; n && !t->failed; n = n->before) n->back(t, (unsigned char *)n + ALIGN);
    t->last = NULL;
}

void tape_back(tape *t, var *loss, float by) {
    if (!loss || t->failed || !loss->wants) return;
    bool fresh;
    float *g = tape_grad(t, loss, &fresh);
    if (!g) return;
    *g = fresh ? by : *g + by;
    walk_back(t);
}

/* ---- checkpoints ---- */
struct segment {
    tape_segment_fn *fn;
    var *x, *y;
};

static void segment_back(tape *t, void *ctx) {
    struct segment *s = ctx;
    if (!s->y->g) return;
    if (s->x->wants && !tape_grad_zeroed(t, s->x)) return;
    note *outer = t->last;
    tape_spot spot = tape_mark(t);
    t->last = NULL;
    var x = {.rows = s->x->rows, .cols = s->x->cols, .x = s->x->x, .g = s->x->g, .wants = s->x->wants};
    var *y = s->fn(t, s + 1, &x);
    if (y && y->wants) {
        y->g = s->y->g;
        walk_back(t);
    }
    t->last = outer;
    tape_release(t, spot);
}

var *tape_checkpoint(tape *t, tape_segment_fn *fn, const void *arg, size_t arg_bytes, var *x) {
    if (!x) return NULL;
    if (!tape_records(t)) return fn(t, arg, x);
    struct segment *s = tape_note(t, segment_back, sizeof *s + arg_bytes);
    if (!s) return NULL;
    memcpy(s + 1, arg, arg_bytes);
    tape_spot spot = tape_mark(t);
    tape_pause(t);
    var *y = fn(t, s + 1, x);
    tape_resume(t);
    if (!y) return NULL;
    /* the result moves to where the temporaries began; it lies above that place, so that moving down is safe */
    size_t rows = y->rows, cols = y->cols;
    const float *values = y->x;
    tape_release(t, spot);
    var *kept = tape_var(t, rows, cols, true);
    if (!kept) return NULL;
    memmove(kept->x, values, rows * cols * sizeof(float));
    *s = (struct segment){fn, x, kept};
    return kept;
}
