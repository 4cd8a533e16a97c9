/* linear.c: y = W f(x), dense and for experts.
 *
 * First the input rows are normed, activated and quantized, once for all outputs. With few rows every thread
 * does that for itself, which costs less than a barrier; with many they are split, then one barrier.
 * Then the rows of all outputs, in units of 16, are one range that is split over the threads. */
#include "tensor/tensor_int.h"

enum { PRIVATE_ROWS_MAX = 4, TILES_FROM = 5 }; /* tokens from which on the interleaved form pays */

/* The input as the kernels take it. */
typedef struct input {
    unsigned char *q; /* rows of kern_acts, or NULL */
    size_t q_bytes;
    kern_acts_block *tiles; /* or all of them interleaved */
    const float *f; /* rows of f32, or NULL */
    size_t ld;
    uint16_t *b; /* rows of bf16, or NULL */
    size_t ldb;
    size_t k;
    bool zeros;    /* as in linear_in */
    size_t jump;   /* panels that are left out behind the rows that are multiplied; 0: unknown */
    void *scratch; /* this thread's: kern_mul_scratch(k) and MERGED panels, or ROWS_AT_ONCE decoded rows */
} input;

/* What the products of an op take. */
typedef struct forms {
    bool int8, f32, bf16;
} forms;

static size_t row_floats(size_t k) { return (k + 15) / 16 * 16; }
static size_t row_bf16(size_t k) { return (k + 31) / 32 * 32; }
/* Panels are merged from their parts, or packed because nobody has yet, behind the kernel's own scratch. */
static size_t thread_bytes(size_t k) {
    size_t rows = ROWS_AT_ONCE * row_floats(k) * sizeof(float);
    size_t panels = MERGED * kern_acts_blocks(k) * KERN_PANEL_BLOCK_MAX;
    return (MAX(rows, kern_mul_scratch(k) + panels) + 63) / 64 * 64;
}

/* Tiles that a thread of op_experts makes of an expert's rows at a time. */
enum { EXPERT_TILES = 8 };
static size_t expert_tile_bytes(size_t n_rows, size_t k) {
    size_t tiles = MIN((size_t)EXPERT_TILES, (n_rows + KERN_TILE - 1) / KERN_TILE);
    return (tiles * kern_acts_blocks(k) * sizeof(kern_acts_block) + 63) / 64 * 64; /* rows of kern_acts lie behind it */
}

size_t tensor_scratch_bytes(size_t n_rows, size_t k_max, int nth) {
    size_t row = kern_acts_bytes(k_max) + row_floats(k_max) * sizeof(float) + row_bf16(k_max) * sizeof(uint16_t);
    size_t rows = MAX(n_rows, MIN(n_rows, (size_t)KERN_TILE) * (size_t)nth);
    size_t tiles = MAX(n_rows / KERN_TILE + 1, (size_t)nth) * kern_acts_blocks(k_max) * sizeof(kern_acts_block);
    size_t thread = thread_bytes(k_max) + row_floats(k_max) * sizeof(float) + KERN_TILE * kern_acts_bytes(k_max) +
                    expert_tile_bytes(n_rows, k_max);
    return rows * row + tiles + (size_t)nth * thread + 512;
}

static bool is_fused(const linear_in *in) {
    return in->norm.kind != NORM_NONE || in->act != ACT_NONE || in->up;
}

/* One input row before quantization, in dst. */
static void fuse_row(const team *t, const linear_in *in, size_t row, float *dst, size_t k) {
    const float *x = in->x + row * in->ld, *up = in->up ? in->up + row * in->ld_up : NULL;
    if (in->norm.kind != NORM_NONE) {
        norm_row_local(t, &in->norm, dst, x, k);
        x = dst;
    }
    if (in->act != ACT_NONE || up) t->kern->act(in->act, dst, x, up, k);
}

/* For the profile. */
static const char *what_input(const linear_in *in, bool quantized) {
    if (in->norm.kind != NORM_NONE) return quantized ? "norm, quantize" : "norm";
    if (in->act != ACT_NONE || in->up) return quantized ? "activation, quantize" : "activation";
    return "quantize";
}

/* Makes the input; ends with a barrier when rows were shared out. */
static input make_input(team *t, const linear_in *in, size_t n_rows, size_t k, forms want, bool interleave) {
    bool fused = is_fused(in), private = n_rows <= PRIVATE_ROWS_MAX || t->nth == 1;
    size_t copies = private ? (size_t)t->nth : 1, mine = private ? (size_t)t->ith : 0;
    size_t q_bytes = kern_acts_bytes(k), ldf = row_floats(k);
    input r = {.q_bytes = q_bytes, .k = k, .f = in->x, .ld = in->ld, .ldb = row_bf16(k), .zeros = in->zeros};
    unsigned char *scratch = bump_bytes(&t->scratch, (size_t)t->nth * thread_bytes(k));
    r.scratch = scratch + (size_t)t->ith * thread_bytes(k);
    float *rows = NULL, *temp = bump_f32(&t->scratch, (size_t)t->nth * ldf) + (size_t)t->ith * ldf;
    size_t n_tiles = (n_rows + KERN_TILE - 1) / KERN_TILE, step = 1;
    interleave = interleave && want.int8 && n_rows >= TILES_FROM;
    if (interleave) { /* rows are quantized where one tile of this thread finds room */
        step = KERN_TILE;
        private = t->nth == 1 || n_tiles == 1; /* one tile would be one thread's work anyway */
        copies = private ? (size_t)t->nth : 1, mine = private ? (size_t)t->ith : 0;
        r.tiles = bump_bytes(&t->scratch, copies * n_tiles * kern_acts_blocks(k) * sizeof *r.tiles);
        r.tiles += mine * n_tiles * kern_acts_blocks(k);
        r.q = (unsigned char *)bump_bytes(&t->scratch, (size_t)t->nth * KERN_TILE * q_bytes);
        r.q += (size_t)t->ith * KERN_TILE * q_bytes;
    } else if (want.int8) {
        r.q = bump_bytes(&t->scratch, copies * n_rows * q_bytes);
        r.q += mine * n_rows * q_bytes;
    }
    if (want.f32 && fused) {
        rows = bump_f32(&t->scratch, copies * n_rows * ldf) + mine * n_rows * ldf;
        r.f = rows;
        r.ld = ldf;
    }
    if (want.bf16) {
        r.b = bump_bytes(&t->scratch, copies * n_rows * r.ldb * sizeof *r.b);
        r.b += mine * n_rows * r.ldb;
    }
    if (!want.int8 && !want.bf16 && !rows) return r;
    if (t->prof) prof_enter(t->prof, PROF_INPUT, what_input(in, want.int8), -1);
    size_t from = 0, to = n_rows;
    if (!private) pool_share(n_rows, step, t->ith, t->nth, &from, &to);
    for (size_t i = from; i < to; i++) {
        const float *x = in->x + i * in->ld;
        if (fused) {
            float *dst = rows ? rows + i * ldf : temp;
            fuse_row(t, in, i, dst, k);
            x = dst;
        }
        if (want.bf16) t->kern->bf16_of_f32(r.b + i * r.ldb, x, 1.0f, k);
        if (want.int8) t->kern->quantize(r.q + (interleave ? i % KERN_TILE : i) * q_bytes, x, k);
        if (interleave && (i % KERN_TILE == KERN_TILE - 1 || i == to - 1)) {
            kern_acts_block *tile = r.tiles + i / KERN_TILE * kern_acts_blocks(k);
            t->kern->interleave(tile, r.q, q_bytes, i % KERN_TILE + 1, k);
        }
    }
    if (!private) team_barrier(t);
    return r;
}

size_t seen_floats(size_t n_rows, size_t k_max) { return n_rows * row_floats(k_max); }

/* s->x = the input as f32, shared by all threads; false when there is no room. Barrier when something was computed. */
static bool show_rows(team *t, const linear_in *in, size_t n_rows, size_t k, linear_seen *s) {
    *s = (linear_seen){.n = n_rows, .x = in->x, .ld = in->ld, .ith = t->ith, .nth = t->nth, .pool = t->pool};
    if (!is_fused(in)) return true;
    s->ld = row_floats(k);
    s->x = t->seen->rows;
    if (n_rows * s->ld > t->seen->cap) return false;
    size_t from, to;
    pool_share(n_rows, 1, t->ith, t->nth, &from, &to);
    for (size_t i = from; i < to; i++) fuse_row(t, in, i, t->seen->rows + i * s->ld, k);
    team_barrier(t);
    return true;
}

static size_t rows_of(const linear_out *o) { return o->rows ? MIN(o->rows, o->w->rows) : o->w->rows; }
static size_t units(size_t rows) { return (rows + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE; }
static size_t units_of(const weight *w) { return units(w->rows); }

static bool takes_int8(const team *t, const weight *w) { return t->fast && w->packing; }
static bool takes_bf16(const team *t, const weight *w) { return t->fast && t->kern->bmul && w->type == QUANT_BF16; }
static void add_form(const team *t, const weight *w, forms *want) {
    *(takes_int8(t, w) ? &want->int8 : takes_bf16(t, w) ? &want->bf16 : &want->f32) = true;
}

/* Rows [from, to) of w are about to be multiplied with n_x tokens. */
static void enter_product(const team *t, prof_op op, const weight *w, size_t from, size_t to, size_t n_x) {
    const uint64_t rows = to - from;
    prof_enter(t->prof, op, w->role, (int)w->type);
    prof_count(t->prof, takes_int8(t, w) ? PROF_INT8 : takes_bf16(t, w) ? PROF_BF16 : PROF_F32, rows * w->row_bytes, 2 * rows * w->cols * n_x);
}

void split_multiply(const team *t, const weight *w, size_t from, size_t to, unsigned char *merged, kern_mul m) {
    if (m.n_x == 1 && !m.tiles && !m.index.xi && !m.index.yi && !m.out.bias && !m.out.add) {
        split_panel p = split_panel_at(w, from / KERN_PANEL);
        t->kern->split_mul(&(kern_split_mul){w->split, p.high, p.rest, to - from, w->cols, m.x, m.out.scale, m.out.y});
        return;
    }
    m.panels = merged;
    for (; from < to; from += m.n_rows) {
        m.n_rows = MIN((size_t)MERGED * KERN_PANEL, to - from);
        for (size_t r = 0; r < m.n_rows; r += KERN_PANEL) {
            split_panel p = split_panel_at(w, (from + r) / KERN_PANEL);
            t->kern->merge(w->split, merged + r / KERN_PANEL * m.panel_bytes, p.high, p.rest, w->cols);
        }
        t->kern->mul[w->type](&m);
        m.out.y += m.n_rows;
        if (m.out.bias) m.out.bias += m.n_rows;
    }
}

/* Panels that are not packed: each is, where the cache still holds it when it is multiplied. What is read of the file
 * is dropped as it is passed, or a model's first answer would leave all of it in memory. */
static void multiply_unpacked(team *t, const weight *w, size_t panel, kern_mul *m, size_t n_rows, unsigned char *scratch) {
    const kern_out out = m->out;
    m->panels = scratch;
    for (size_t r = 0; r < n_rows; r += KERN_PANEL, panel++) {
        weight_pack_panel(w, panel, scratch);
        m->n_rows = MIN((size_t)KERN_PANEL, n_rows - r);
        m->out.y = out.y + r;
        if (out.bias) m->out.bias = out.bias + r;
        t->kern->mul[w->type](m);
        weight_pass_panel(t, w, panel);
    }
}

/* Rows [from, to) of matrix mat of w times the n_x input rows; out.y, out.bias: those of row 0. */
static void multiply(team *t, const input *in, const weight *w, size_t mat, size_t from, size_t to, size_t n_x,
                     kern_index index, kern_out out) {
    out.y += from;
    if (out.bias) out.bias += from;
    if (takes_int8(t, w)) {
        kern_mul m = {
            .pk = w->packing,
            .panel_bytes = kern_panel_bytes(w->packing, w->cols),
            .k = w->cols,
            .x = in->q,
            .x_bytes = in->q_bytes,
            .n_x = n_x,
            .tiles = in->tiles,
            .zeros = in->zeros,
            .index = index,
            .out = out,
            .scratch = in->scratch,
        };
        unsigned char *panels = (unsigned char *)in->scratch + kern_mul_scratch(w->cols);
        if (!w->packed) {
            multiply_unpacked(t, w, mat * units_of(w) + from / KERN_PANEL, &m, to - from, panels);
            return;
        }
        if (w->split) {
            split_multiply(t, w, from, to, panels, m);
            return;
        }
        if (w->sliced) {
            m.panel_bytes = weight_slice_bytes(w);
            m.group_bytes = units_of(w) * m.panel_bytes;
        }
        m.panels = (const unsigned char *)w->packed + mat * w->packed_mat_bytes + from / KERN_PANEL * m.panel_bytes;
        m.n_rows = to - from;
        if (in->jump) {
            m.end = m.panels + (to - from) / KERN_PANEL * m.panel_bytes;
            m.jump = in->jump * m.panel_bytes;
        }
        t->kern->mul[w->type](&m);
        return;
    }
    kern_fmul f = {w->data + mat * w->mat_bytes + from * w->row_bytes, w->row_bytes, to - from, w->cols, in->f,
                   in->ld, n_x, index, out, in->b};
    if (takes_bf16(t, w)) {
        f.ldx = in->ldb;
        t->kern->bmul(&f);
        return;
    }
    if (t->kern->fmul[w->type]) {
        t->kern->fmul[w->type](&f);
        return;
    }
    /* decoded to f32, some rows at a time */
    size_t ld = row_floats(w->cols);
    float *rows = in->scratch;
    for (size_t r = from; r < to; r += ROWS_AT_ONCE) {
        size_t n = MIN((size_t)ROWS_AT_ONCE, to - r);
        for (size_t i = 0; i < n; i++) weight_row_of(w, mat, r + i, rows + i * ld);
        f.w = (const unsigned char *)rows;
        f.row_bytes = ld * sizeof(float);
        f.n_rows = n;
        t->kern->fmul[QUANT_F32](&f);
        f.out.y += n;
        if (f.out.bias) f.out.bias += n;
    }
}

/* ---- low-rank adapters ----
 * u = A x for the adapters of all outputs side by side, before the products; then every thread adds B u to the rows
 * it has made. Both with f32 inputs, row by row as any product: the result does not depend on threads or batch. */
enum { ADAPTED_OUTS = 8 }; /* more than any layer gives to one op */

typedef struct adapted {
    size_t rank;   /* of all together: floats of a row of u; 0: no adapters */
    const float *u;
} adapted;

size_t adapter_scratch_bytes(size_t n_rows, size_t rank, int nth) {
    size_t row = row_floats(ADAPTED_OUTS * rank) * sizeof(float);
    return rank ? MAX(n_rows, (size_t)nth * MIN(n_rows, (size_t)PRIVATE_ROWS_MAX)) * row + 64 : 0;
}

static adapted make_adapted(team *t, const input *x, size_t n_rows, const linear_out *outs, size_t n_outs) {
    adapted r = {0};
    for (size_t i = 0; i < n_outs; i++) r.rank += outs[i].w->adapter ? outs[i].w->adapter->rank : 0;
    if (r.rank == 0) return r;
    bool private = n_rows <= PRIVATE_ROWS_MAX || t->nth == 1;
    float *u = bump_f32(&t->scratch, (private ? (size_t)t->nth : 1) * n_rows * r.rank);
    if (private) u += (size_t)t->ith * n_rows * r.rank;
    size_t from = 0, to = n_rows;
    if (!private) pool_share(n_rows, 1, t->ith, t->nth, &from, &to);
    float *at = u + from * r.rank;
    if (t->prof) prof_enter(t->prof, PROF_INPUT, "adapter", -1);
    for (size_t i = 0; i < n_outs && from < to; i++) {
        const weight_adapter *a = outs[i].w->adapter;
        if (!a) continue;
        t->kern->fmul[QUANT_F32](&(kern_fmul){(const unsigned char *)a->a, x->k * sizeof(float), a->rank, x->k, x->f + from * x->ld,
                                              x->ld, to - from, {0}, {at, r.rank, NULL, 1, false}, NULL});
        at += a->rank;
    }
    r.u = u;
    if (!private) team_barrier(t);
    return r;
}

/* Rows [from, to) of output o, whose part of u begins at u. */
static void add_adapted(const team *t, const adapted *ad, const float *u, const linear_out *o, size_t from, size_t to, size_t n_rows) {
    const weight_adapter *a = o->w->adapter;
    t->kern->fmul[QUANT_F32](&(kern_fmul){(const unsigned char *)(a->b + from * a->rank), a->rank * sizeof(float), to - from, a->rank, u,
                                          ad->rank, n_rows, {0}, {o->y + from, o->ld, NULL, o->scale == 0.0f ? 1.0f : o->scale, true}, NULL});
}

/* Rows [from, to) of output o, whose adapter's part of u begins at u. */
static void make_rows(team *t, const input *x, const adapted *ad, const float *u, const linear_out *o, size_t from, size_t to, size_t n_rows) {
    float scale = o->scale == 0.0f ? 1.0f : o->scale;
    if (t->prof) enter_product(t, PROF_LINEAR, o->w, from, to, n_rows);
    multiply(t, x, o->w, o->mat, from, to, n_rows, (kern_index){0}, (kern_out){o->y, o->ld, o->bias, scale, o->add});
    if (o->w->adapter) add_adapted(t, ad, u, o, from, to, n_rows);
}

static void show_linear(team *t, const linear_in *in, size_t n_rows, const linear_out *outs, size_t n_outs) {
    linear_seen seen;
    if (!t->seen || !show_rows(t, in, n_rows, outs[0].w->cols, &seen)) return;
    for (size_t i = 0; i < n_outs; i++) {
        seen.w = outs[i].w, seen.mat = outs[i].mat, seen.out = i, seen.n_outs = n_outs, seen.in = in;
        t->seen->fn(t->seen->ctx, &seen);
    }
}

/* The first run of live groups in [from, to): its beginning, to when there is none; *end: where it ends. */
static size_t live_run(const uint8_t *skip, size_t from, size_t to, size_t *end) {
    while (from < to && skip[from]) from++;
    for (*end = from; *end < to && !skip[*end];) ++*end;
    return from;
}

/* This thread's part of the n groups: as many live ones for each. Dead ones belong to the live one before, the first to the first. */
static void live_share(const team *t, const uint8_t *skip, size_t n, size_t *from, size_t *to) {
    size_t live = 0, a, b, at = 0;
    for (size_t g = 0; g < n; g++) live += !skip[g];
    pool_share(live, 1, t->ith, t->nth, &a, &b);
    *from = 0;
    *to = a < b || (live == 0 && t->ith == 0) ? n : 0;
    for (size_t g = 0; a < b && g < n; g++) {
        if (skip[g]) continue;
        if (at > 0 && at == a) *from = g;
        if (at++ == b) *to = g;
    }
}

void op_gated_live(team *t, const linear_in *in, const linear_out *gate, const linear_out *up, const live_rows *live) {
    const size_t mark = bump_mark(&t->scratch), group = live->group, n_groups = up->w->rows / group;
    const linear_out outs[2] = {*gate, *up};
    assert(group % ROWS_AT_ONCE == 0 && up->w->rows % group == 0);
    forms want = {0};
    for (int i = 0; i < 2; i++) {
        add_form(t, outs[i].w, &want);
        if (outs[i].w->adapter) want.f32 = true;
    }
    show_linear(t, in, 1, outs, 2);
    input x = make_input(t, in, 1, up->w->cols, want, true);
    const adapted ad = make_adapted(t, &x, 1, outs, 2);
    const float *u = gate->w->adapter ? ad.u + gate->w->adapter->rank : ad.u;
    size_t from, to, end;
    pool_share(n_groups, 1, t->ith, t->nth, &from, &to);
    if (from < to) make_rows(t, &x, &ad, ad.u, gate, from * group, to * group, 1);
    team_enter(t, PROF_ACT);
    for (size_t g = from; g < to; g++) live->skip[g] = live->skips(live->ctx, t->kern, gate->y, g);
    team_barrier(t);
    live_share(t, live->skip, n_groups, &from, &to);
    size_t g = live_run(live->skip, from, to, &end), next_end;
    memset(up->y + from * group, 0, (g - from) * group * sizeof *up->y);
    for (size_t next; g < to; g = next, end = next_end) {
        next = live_run(live->skip, end, to, &next_end);
        x.jump = next < to ? (next - end) * group / KERN_PANEL : 0;
        make_rows(t, &x, &ad, u, up, g * group, end * group, 1);
        team_enter(t, PROF_ACT);
        t->kern->act(live->act, up->y + g * group, gate->y + g * group, up->y + g * group, (end - g) * group);
        memset(up->y + end * group, 0, (next - end) * group * sizeof *up->y);
    }
    team_barrier(t);
    bump_reset(&t->scratch, mark);
}

/* The parts of a stacked matrix as outputs beside one another. Returns how many. */
static size_t spread(const linear_out *o, linear_out *dst) {
    size_t n = 0, at = 0, left = o->rows ? o->rows : SIZE_MAX;
    for (const weight *w = o->w; w && left; w = w->below) {
        linear_out *part = &dst[n++];
        *part = *o;
        part->w = w;
        part->y = o->y + at;
        part->bias = o->bias ? o->bias + at : NULL;
        part->rows = MIN(left, w->rows);
        at += part->rows;
        left -= part->rows;
    }
    return n;
}

static void linear(team *t, const linear_in *in, size_t n_rows, const linear_out *outs, size_t n_outs) {
    size_t mark = bump_mark(&t->scratch), k = outs[0].w->cols, n_units = 0;
    forms want = {0};
    for (size_t i = 0; i < n_outs; i++) {
        assert(outs[i].w->cols == k);
        add_form(t, outs[i].w, &want);
        if (outs[i].w->adapter) want.f32 = true;
        n_units += units(rows_of(&outs[i]));
    }
    show_linear(t, in, n_rows, outs, n_outs);
    input x = make_input(t, in, n_rows, k, want, true);
    const adapted ad = make_adapted(t, &x, n_rows, outs, n_outs);
    const float *u = ad.u;
    size_t from, to;
    pool_share(n_units, 1, t->ith, t->nth, &from, &to);
    for (size_t i = 0, first = 0; i < n_outs && first < to; i++) {
        const linear_out *o = &outs[i];
        size_t n = units(rows_of(o)), a = MAX(from, first), b = MIN(to, first + n);
        if (a < b) {
            size_t row0 = (a - first) * ROWS_AT_ONCE, row1 = MIN((b - first) * ROWS_AT_ONCE, rows_of(o));
            make_rows(t, &x, &ad, u, o, row0, row1, n_rows);
        }
        if (o->w->adapter) u += o->w->adapter->rank;
        first += n;
    }
    team_barrier(t);
    bump_reset(&t->scratch, mark);
}

void op_linear(team *t, const linear_in *in, size_t n_rows, const linear_out *outs, size_t n_outs) {
    linear_out parts[LINEAR_OUTS_MAX];
    size_t n = 0;
    bool stacked = false;
    if (n_rows == 0 || n_outs == 0) return;
    for (size_t i = 0; i < n_outs; i++) stacked |= outs[i].w->below != NULL;
    for (size_t i = 0; stacked && i < n_outs; i++) n += spread(&outs[i], parts + n);
    assert(n <= LINEAR_OUTS_MAX);
    linear(t, in, n_rows, stacked ? parts : outs, stacked ? n : n_outs);
}

/* op_experts' products, expert by expert. */
static void show_experts(team *t, const linear_in *in, size_t n_in_rows, const expert_assign *assign, size_t n_assign,
                         const expert_out *outs, size_t n_outs) {
    linear_seen s;
    if (!show_rows(t, in, n_in_rows, outs[0].w->cols, &s)) return;
    for (size_t a = 0, end; a < n_assign; a = end) {
        for (end = a; end < n_assign && assign[end].expert == assign[a].expert; end++) {}
        s.mat = (size_t)assign[a].expert;
        s.assign = assign + a;
        s.n = end - a;
        s.n_outs = n_outs;
        for (s.out = 0; s.out < n_outs; s.out++) {
            s.w = outs[s.out].w;
            t->seen->fn(t->seen->ctx, &s);
        }
    }
}

/* An expert's rows, n of them, in tiles for this thread alone; rows: room for KERN_TILE of them. */
static void make_expert_tiles(const team *t, const input *x, const expert_assign *assign, size_t n, kern_acts_block *tiles,
                              unsigned char *rows) {
    for (size_t i = 0; i < n; i += KERN_TILE) {
        size_t here = MIN((size_t)KERN_TILE, n - i);
        for (size_t j = 0; j < here; j++) memcpy(rows + j * x->q_bytes, x->q + (size_t)assign[i + j].xrow * x->q_bytes, x->q_bytes);
        t->kern->interleave(tiles + i / KERN_TILE * kern_acts_blocks(x->k), rows, x->q_bytes, here, x->k);
    }
}

void op_experts(team *t, const linear_in *in, size_t n_in_rows, const expert_assign *assign, size_t n_assign,
                const expert_out *outs, size_t n_outs) {
    if (n_assign == 0 || n_outs == 0) return;
    size_t mark = bump_mark(&t->scratch), k = outs[0].w->cols;
    forms want = {0};
    for (size_t i = 0; i < n_outs; i++) {
        assert(outs[i].w->cols == k);
        add_form(t, outs[i].w, &want);
    }
    if (t->seen) show_experts(t, in, n_in_rows, assign, n_assign, outs, n_outs);
    input x = make_input(t, in, n_in_rows, k, want, false), tiled = x;
    const size_t tile_bytes = expert_tile_bytes(n_in_rows, k), row_bytes = KERN_TILE * x.q_bytes;
    unsigned char *mine = bump_bytes(&t->scratch, (size_t)t->nth * (tile_bytes + row_bytes));
    mine += (size_t)t->ith * (tile_bytes + row_bytes);
    tiled.tiles = (kern_acts_block *)(void *)(mine + row_bytes);
    const size_t step = sizeof *assign / sizeof(int32_t);
    size_t turn = 0;
    for (size_t a = 0, end; a < n_assign; a = end) {
        const size_t e = (size_t)assign[a].expert;
        for (end = a; end < n_assign && assign[end].expert == assign[a].expert && end - a < EXPERT_TILES * KERN_TILE; end++) {}
        const bool in_tiles = x.q && end - a >= TILES_FROM;
        if (in_tiles) make_expert_tiles(t, &x, assign + a, end - a, tiled.tiles, mine);
        for (size_t i = 0; i < n_outs; i++, turn++) {
            const expert_out *o = &outs[i];
            size_t from, to;
            /* whoever has the smallest share changes from product to product */
            pool_share(units_of(o->w), 1, (int)(((size_t)t->ith + turn) % (size_t)t->nth), t->nth, &from, &to);
            if (from == to) continue;
            const size_t row0 = from * ROWS_AT_ONCE, row1 = MIN(to * ROWS_AT_ONCE, o->w->rows);
            if (t->prof) enter_product(t, PROF_EXPERTS, o->w, row0, row1, end - a);
            const kern_out out = {o->y, o->ld, o->bias ? o->bias + e * o->w->rows : NULL, o->scale ? o->scale[e] : 1.0f, false};
            const bool by_tiles = in_tiles && takes_int8(t, o->w);
            multiply(t, by_tiles ? &tiled : &x, o->w, e, row0, row1, end - a,
                     (kern_index){by_tiles ? NULL : &assign[a].xrow, &assign[a].yrow, step}, out);
        }
    }
    team_barrier(t);
    bump_reset(&t->scratch, mark);
}
