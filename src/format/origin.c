/* origin.c: where a folder's rules took each element from, and the way back. See origin.h. */
#include "format/origin.h"

#include "format/hf_int.h"

#include <math.h>
#include <stdio.h>

#define DIGIT_BITS 10
#define DIGITS (1u << DIGIT_BITS)

/* What the stand-ins hold in a run: a constant, or one digit of each element's number, in steps of 1/DIGITS so that it
 * goes through exp and through sums with small numbers unharmed. */
typedef struct probe {
    bool number;
    unsigned digit;
    float constant;
} probe;

typedef struct stand_in {
    const st_tensor *real;
    st_tensor made; /* float32, real's shape */
    float *x;
    uint64_t first;
    bool filled;    /* in this run */
} stand_in;

struct origin {
    hf h;
    model_file *sources; /* h.f of the folder; h.f itself is a new one in each run */
    size_t cap_kv, cap_tensors; /* of its arrays, while h works on another file */
    probe now;
    stand_in *ins;       /* of the tensor being looked at, in the order of first use */
    size_t n_ins, cap_ins;
    uint64_t total;      /* their elements */
    bool failed;         /* out of memory where no error could be told */
};

static const st_tensor no_tensor = {.dtype = {"F32", 3}};

static void fill(stand_in *in, const probe *p) {
    for (uint64_t i = 0, n = in->made.size / sizeof(float); i < n; i++)
        in->x[i] = p->number ? (float)((in->first + i) >> (p->digit * DIGIT_BITS) & (DIGITS - 1)) / (float)DIGITS
                             : p->constant;
    in->filled = true;
}

static stand_in *add_stand_in(origin *o, const st_tensor *t) {
    if (mem_grow(&o->ins, &o->cap_ins, o->n_ins + 1, sizeof *o->ins, FORMAT_TENSORS_MAX, NULL) != MOTE_OK) return NULL;
    stand_in *in = &o->ins[o->n_ins];
    uint64_t n = hf_elements(t);
    *in = (stand_in){.real = t, .made = *t, .first = o->total};
    in->made.dtype = STR("F32");
    if (!ckd_mul_size(&in->made.size, (size_t)n, sizeof(float))) return NULL;
    in->x = MEM_NEW_N(float, (size_t)n);
    if (!in->x) return NULL;
    in->made.data = (const unsigned char *)in->x;
    o->total += n;
    o->n_ins++;
    return in;
}

/* The st_tensor lives in a growing array: ops read it before they look up the next one, or copy it. */
static const st_tensor *stand_in_for(void *ctx, const st_tensor *t) {
    origin *o = ctx;
    stand_in *in = NULL;
    for (size_t i = o->n_ins; i-- > 0 && !in;)
        if (o->ins[i].real == t) in = &o->ins[i];
    if (!in) in = add_stand_in(o, t);
    if (!in) {
        o->failed = true;
        return &no_tensor;
    }
    if (!in->filled) fill(in, &o->now);
    return &in->made;
}

static void forget(origin *o) {
    for (size_t i = 0; i < o->n_ins; i++) mem_free(o->ins[i].x);
    o->n_ins = 0;
    o->total = 0;
}

static void end_run(origin *o) {
    if (o->h.f && o->h.f != o->sources) {
        if (o->h.cap_tensors) mem_free(o->h.f->tensors);
        if (o->h.cap_kv) mem_free(o->h.f->kvs);
        o->h.f->n_tensors = o->h.f->n_kv = 0;
        model_file_close(&o->h.f);
    }
    o->h.cap_tensors = o->h.cap_kv = 0;
    o->h.f = NULL;
}

mote_status origin_open(origin **out, const char *dir, mote_error *err) {
    *out = NULL;
    if (!file_is_dir(dir))
        FAIL(err, MOTE_E_UNSUPPORTED, "%s: not a Hugging Face folder, so there are no other tensor names than its own", dir);
    origin *o = MEM_NEW(origin);
    if (!o) FAIL(err, MOTE_E_MEMORY, "out of memory");
    mote_status s = hf_open_sources(&o->h, dir, 0, err);
    if (s != MOTE_OK) {
        hf_drop(&o->h);
        mem_free(o);
        return err_prefix(err, s, "%s", dir);
    }
    o->sources = o->h.f;
    o->cap_kv = o->h.cap_kv;
    o->cap_tensors = o->h.cap_tensors;
    o->h.stand_in = stand_in_for;
    o->h.stand_in_ctx = o;
    *out = o;
    return MOTE_OK;
}

/* The rules need little of config.json that a GGUF file does not say too. */
static mote_status read_sizes(hf *h, const model_file *f, mote_error *err) {
    str arch;
    char key[160];
    uint32_t *const to[] = {&h->n_layer, &h->n_embd, &h->n_head, &h->n_head_kv, &h->n_expert};
    static const char *const keys[] = {"block_count", "embedding_length", "attention.head_count", "attention.head_count_kv",
                                       "expert_count"};
    TRY(kv_get_str(f, "general.architecture", &arch, STR(""), err));
    TRY(hf_find_gguf_arch(arch, &h->arch, err));
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        (void)snprintf(key, sizeof key, "%.*s.%s", STR_ARG(arch), keys[i]);
        const kv *k = model_file_find(f, key);
        int64_t most = 0, v;
        for (uint64_t j = 0; k && k->type == KV_ARRAY && j < k->count; j++) /* per layer: 0 where there is no attention */
            if (kv_at_int(k, j, &v)) most = MAX(most, v);
        if (k && k->type == KV_ARRAY) *to[i] = most > 0 && most <= UINT32_MAX ? (uint32_t)most : 0;
        else TRY(kv_get_u32(f, key, to[i], 0, err));
    }
    if (!h->n_head_kv) h->n_head_kv = h->n_head;
    return MOTE_OK;
}

mote_status origin_open_like(origin **out, const model_file *f, mote_error *err) {
    if (file_is_dir(model_file_path(f))) return origin_open(out, model_file_path(f), err);
    *out = NULL;
    origin *o = MEM_NEW(origin);
    if (!o) FAIL(err, MOTE_E_MEMORY, "out of memory");
    o->h = (hf){.dir = "", .f = model_file_new(), .root = json_object()};
    o->h.cfg = o->h.root;
    o->sources = o->h.f;
    o->h.stand_in = stand_in_for;
    o->h.stand_in_ctx = o;
    mote_status s = o->h.f && o->h.root ? read_sizes(&o->h, f, err) : ERR(err, MOTE_E_MEMORY, "out of memory");
    if (s != MOTE_OK) origin_close(&o);
    *out = o;
    return s;
}

void origin_close(origin **po) {
    origin *o = po ? *po : NULL;
    if (!o) return;
    *po = NULL;
    forget(o);
    mem_free(o->ins);
    end_run(o);
    o->h.f = o->sources;
    o->h.cap_kv = o->cap_kv;
    o->h.cap_tensors = o->cap_tensors;
    hf_drop(&o->h);
    mem_free(o);
}

size_t origin_n_sources(const origin *o) { return o->h.n_src; }
const st_tensor *origin_source(const origin *o, size_t i) { return i < o->h.n_src ? o->h.src[i].t : NULL; }

static size_t find_source(const origin *o, str name) {
    for (size_t i = 0; i < o->h.n_src; i++)
        if (str_eq(o->h.src[i].t->name, name)) return i;
    return SIZE_MAX;
}

/* Runs the rule of source `from` on stand-ins; the results are h.f's tensors. */
static mote_status run_rule(origin *o, const hf_tensor *from, probe p, mote_error *err) {
    end_run(o);
    o->now = p;
    for (size_t i = 0; i < o->n_ins; i++) o->ins[i].filled = false;
    o->h.f = model_file_new();
    if (!o->h.f) FAIL(err, MOTE_E_MEMORY, "out of memory");
    const st_tensor *made = stand_in_for(o, from->t);
    st_tensor first = *made; /* a copy: the array may move */
    hf_tensor src = {from->name, &first};
    mote_status s = o->failed ? MOTE_E_MEMORY : hf_map_tensor(&o->h, &src, err);
    if (o->failed) FAIL(err, MOTE_E_MEMORY, "out of memory for the origin of '%.*s'", STR_ARG(from->t->name));
    return s;
}

/* Runs it and gives the tensor t of the result, valid until the next run. */
static mote_status run_for(origin *o, const hf_tensor *from, const tensor_info *t, probe p, const float **x, mote_error *err) {
    TRY(run_rule(o, from, p, err));
    for (size_t i = 0; i < o->h.f->n_tensors; i++) {
        const tensor_info *made_t = &o->h.f->tensors[i];
        if (!str_eq(made_t->name, t->name)) continue;
        if (made_t->type != QUANT_F32 || memcmp(made_t->ne, t->ne, sizeof t->ne) != 0) break;
        *x = (const float *)(const void *)made_t->data;
        return MOTE_OK;
    }
    FAIL(err, MOTE_E_MISMATCH, "tensor '%.*s' does not come from '%.*s' of this folder", STR_ARG(t->name),
         STR_ARG(from->t->name));
}

typedef struct found { /* an origin_map and its memory */
    origin_map map;
    arena mem;
} found;

/* From the results for zeros, ones and twos: the value's form. */
static mote_status find_form(found *f, const float *zero, const float *one, const tensor_info *t, mote_error *err) {
    origin_map *m = &f->map;
    m->add = zero[0];
    m->scale = one[0] - zero[0];
    m->minus_exp = fabsf(zero[0] + 1) < 1e-6f && fabsf(one[0] + 2.7182818f) < 1e-5f;
    if (m->minus_exp) return MOTE_OK;
    if (fabsf(m->scale - 1) < 1e-6f) m->scale = 1;
    bool same = true;
    for (size_t i = 0; i < m->n; i++) {
        float scale = one[i] - zero[i];
        if (!(fabsf(scale) > 0) || fabsf(zero[i] - m->add) > 1e-6f)
            FAIL(err, MOTE_E_UNSUPPORTED, "tensor '%.*s' cannot be traced back: element %zu does not follow from one of the folder",
                 STR_ARG(t->name), i);
        same = same && fabsf(scale - m->scale) <= 1e-6f * fabsf(scale);
    }
    if (same) return MOTE_OK;
    float *scales = ARENA_NEW_N(&f->mem, float, m->n);
    if (!scales) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu factors", m->n);
    for (size_t i = 0; i < m->n; i++) scales[i] = one[i] - zero[i];
    m->scales = scales;
    return MOTE_OK;
}

static double undo(const origin_map *m, size_t i, float y) {
    if (m->minus_exp) return log(-(double)y);
    return ((double)y - (double)m->add) / (double)(m->scales ? m->scales[i] : m->scale);
}

/* Looks at an opened rule: a view of one source, or digit by digit. */
static mote_status trace(found *f, origin *o, const hf_tensor *from, const tensor_info *t, mote_error *err) {
    origin_map *m = &f->map;
    const float *x;
    TRY(run_for(o, from, t, (probe){.constant = 0}, &x, err));
    for (size_t k = 0; k < o->n_ins; k++) {
        size_t n = o->ins[k].made.size / sizeof(float);
        if (x < o->ins[k].x || x >= o->ins[k].x + n) continue;
        m->from = o->ins[k].first + (uint64_t)(x - o->ins[k].x);
        m->scale = 1;
        return MOTE_OK;
    }
    float *zero = ARENA_NEW_N(&f->mem, float, m->n);
    uint64_t *at = ARENA_NEW_N(&f->mem, uint64_t, m->n);
    if (!zero || !at) FAIL(err, MOTE_E_MEMORY, "out of memory for the origin of %zu elements", m->n);
    memcpy(zero, x, m->n * sizeof *zero);
    TRY(run_for(o, from, t, (probe){.constant = 1}, &x, err));
    TRY(find_form(f, zero, x, t, err));
    for (unsigned d = 0; d == 0 || o->total >> (d * DIGIT_BITS); d++) {
        TRY(run_for(o, from, t, (probe){.number = true, .digit = d}, &x, err));
        for (size_t i = 0; i < m->n; i++) {
            double v = undo(m, i, x[i]) * DIGITS;
            if (!(v > -0.25 && v < DIGITS && fabs(v - floor(v + 0.5)) < 0.25))
                FAIL(err, MOTE_E_UNSUPPORTED, "tensor '%.*s' cannot be traced back: a rule mixes elements of the folder",
                     STR_ARG(t->name));
            at[i] |= (uint64_t)(v + 0.5) << (d * DIGIT_BITS);
        }
    }
    for (size_t i = 0; i < m->n; i++)
        if (at[i] >= o->total) FAIL(err, MOTE_E_INTERNAL, "tensor '%.*s': an origin beyond its sources", STR_ARG(t->name));
    m->at = at;
    return MOTE_OK;
}

static mote_status note_sources(found *f, const origin *o, mote_error *err) {
    const st_tensor **src = ARENA_NEW_N(&f->mem, const st_tensor *, o->n_ins);
    uint64_t *first = ARENA_NEW_N(&f->mem, uint64_t, o->n_ins + 1);
    if (!src || !first) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t k = 0; k < o->n_ins; k++) {
        src[k] = o->ins[k].real;
        first[k] = o->ins[k].first;
    }
    first[o->n_ins] = o->total;
    f->map.n_src = o->n_ins;
    f->map.src = src;
    f->map.first = first;
    return MOTE_OK;
}

static mote_status open_map(origin_map **out, origin *o, const hf_tensor *from, const tensor_info *t, mote_error *err) {
    *out = NULL;
    found *f = MEM_NEW(found);
    if (!f) FAIL(err, MOTE_E_MEMORY, "out of memory");
    arena_init(&f->mem, (size_t)1 << 36);
    f->map.n = 1;
    for (int d = 0; d < TENSOR_DIMS_MAX; d++) f->map.n *= (size_t)t->ne[d];
    mote_status s = MOTE_OK;
    if (from) {
        quant_type type;
        o->failed = false;
        TRYG(s, hf_quant_type(from->t, &type, err));
        TRYG(s, trace(f, o, from, t, err));
        TRYG(s, note_sources(f, o, err));
    }
    *out = &f->map;
    f = NULL;
out:
    end_run(o);
    forget(o);
    if (f) {
        arena_free(&f->mem);
        mem_free(f);
    }
    return s;
}

mote_status origin_map_open(origin_map **out, origin *o, const tensor_info *t, mote_error *err) {
    size_t from = find_source(o, t->origin);
    return open_map(out, o, from == SIZE_MAX ? NULL : &o->h.src[from], t, err);
}

mote_status origin_trace(origin *o, const st_tensor *t, origin_traced_fn *fn, void *ctx, mote_error *err) {
    hf_tensor from = {hf_relative_name(t->name), t};
    arena mem;
    mote_status s = MOTE_OK;
    if (!from.name.p) FAIL(err, MOTE_E_UNSUPPORTED, "tensor '%.*s' is no part of the text model", STR_ARG(t->name));
    arena_init(&mem, FORMAT_ARENA_MAX);
    o->failed = false;
    s = run_rule(o, &from, (probe){.constant = 0}, err);
    size_t n = s == MOTE_OK ? o->h.f->n_tensors : 0;
    tensor_info *made = ARENA_NEW_N(&mem, tensor_info, n);
    if (!made) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < n; i++) {
        made[i] = o->h.f->tensors[i];
        made[i].name.p = arena_dup(&mem, made[i].name);
        made[i].data = NULL;
        if (!made[i].name.p) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    }
    for (size_t i = 0; s == MOTE_OK && i < n; i++) {
        origin_map *m;
        TRYG(s, open_map(&m, o, &from, &made[i], err));
        s = fn(ctx, &made[i], m, err);
        origin_map_close(&m);
    }
out:
    end_run(o);
    forget(o);
    arena_free(&mem);
    return s;
}

void origin_map_close(origin_map **m) {
    found *f = m ? (found *)(void *)*m : NULL; /* the map is its first member */
    if (!f) return;
    *m = NULL;
    arena_free(&f->mem);
    mem_free(f);
}
_Static_assert(offsetof(found, map) == 0, "origin_map_close relies on it");

static uint64_t place(const origin_map *m, size_t i) { return m->at ? m->at[i] : m->from + i; }

static size_t source_of(const origin_map *m, uint64_t at) {
    size_t lo = 0, hi = m->n_src;
    while (hi - lo > 1) {
        size_t mid = (lo + hi) / 2;
        if (m->first[mid] <= at) lo = mid;
        else hi = mid;
    }
    return lo;
}

bool origin_map_matrix(const origin_map *m, const tensor_info *t, size_t *src, uint64_t *rows, uint64_t *cols, bool *turned) {
    size_t n_cols = (size_t)t->ne[0], n_rows = n_cols ? m->n / n_cols : 0;
    if (m->n_src == 0 || n_rows == 0) return false;
    *src = source_of(m, place(m, 0));
    const st_tensor *s = m->src[*src];
    uint64_t first = m->first[*src], end = m->first[*src + 1], wide = s->n_dims ? s->shape[s->n_dims - 1] : 1;
    if (wide == 0) return false;
    for (size_t r = 0; r < n_rows; r++) rows[r] = place(m, r * n_cols) - first;
    for (size_t c = 0; c < n_cols; c++) cols[c] = place(m, c) - first;
    /* Across a row the source's column changes, or its row when the matrix was turned. */
    *turned = n_cols > 1 ? cols[0] % wide == cols[1] % wide && wide > 1 : n_rows > 1 && rows[0] / wide == rows[1] / wide;
    for (size_t r = 0; r < n_rows; r++) rows[r] = *turned ? rows[r] % wide : rows[r] / wide;
    for (size_t c = 0; c < n_cols; c++) cols[c] = *turned ? cols[c] / wide : cols[c] % wide;
    for (size_t i = 0; i < m->n; i++) {
        uint64_t r = rows[i / n_cols], c = cols[i % n_cols], at = *turned ? c * wide + r : r * wide + c;
        if (at + first != place(m, i) || at + first >= end) return false;
    }
    return true;
}

bool origin_name(const origin *o, str gguf, char *name, size_t cap) { return hf_name_for(&o->h, gguf, name, cap); }

/* ---- writing ---- */

typedef struct target {
    const st_tensor *t;
    const float *x; /* the values: mine, or the caller's when they need no change */
    float *mine;
    void *encoded;
} target;

static size_t find_target(const target *all, size_t n, const st_tensor *t) {
    for (size_t i = 0; i < n; i++)
        if (all[i].t == t) return i;
    return SIZE_MAX;
}

/* Begins a target's own array: with the folder's values, or zeros for gradients. */
static mote_status begin(target *g, int kind, mote_error *err) {
    if (g->mine) return MOTE_OK;
    size_t n = (size_t)hf_elements(g->t);
    g->mine = MEM_NEW_N(float, n);
    if (!g->mine) FAIL(err, MOTE_E_MEMORY, "out of memory for tensor '%.*s'", STR_ARG(g->t->name));
    if (g->x) memcpy(g->mine, g->x, n * sizeof(float));
    else if (kind == ORIGIN_WEIGHTS) TRY(hf_read_f32(g->t, g->mine, err));
    g->x = g->mine;
    return MOTE_OK;
}

/* A whole source, element for element: the caller's array serves as it is. */
static bool is_whole(const origin_map *m) {
    return !m->at && m->n_src == 1 && m->from == 0 && m->n == m->first[1];
}

static mote_status scatter(const origin_map *m, const origin_value *v, int kind, target *all, size_t n, mote_error *err) {
    target *g = NULL;
    const float *own = NULL; /* for gradients through exp: the folder's values */
    float *read = NULL;
    mote_status s = MOTE_OK;
    uint64_t first = 0, end = 0;
    for (size_t i = 0; i < m->n; i++) {
        uint64_t at = place(m, i);
        if (!g || at < first || at >= end) {
            size_t k = source_of(m, at), which = find_target(all, n, m->src[k]);
            if (which == SIZE_MAX) FAILG(s, err, MOTE_E_INTERNAL, "'%.*s' is nowhere", STR_ARG(m->src[k]->name));
            g = &all[which];
            first = m->first[k];
            end = m->first[k + 1];
            TRYG(s, begin(g, kind, err));
            if (kind == ORIGIN_GRADIENTS && m->minus_exp && !v->source_numbers) {
                mem_free(read);
                own = read = MEM_NEW_N(float, (size_t)(end - first));
                if (!read) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
                TRYG(s, hf_read_f32(g->t, read, err));
            }
        }
        float *y = &g->mine[at - first];
        if (kind == ORIGIN_WEIGHTS) *y = v->source_numbers ? v->x[i] : (float)undo(m, i, v->x[i]);
        else if (v->source_numbers) *y += v->x[i];
        else if (m->minus_exp) *y -= v->x[i] * expf(own[at - first]);
        else *y += v->x[i] * (m->scales ? m->scales[i] : m->scale);
    }
out:
    mem_free(read);
    return s;
}

static mote_status put_value(origin *o, const origin_value *v, int kind, target *all, size_t n, mote_error *err) {
    origin_map *m;
    TRY(origin_map_open(&m, o, v->t, err));
    mote_status s = MOTE_OK;
    size_t which = m->n_src && is_whole(m) ? find_target(all, n, m->src[0]) : SIZE_MAX;
    if (which != SIZE_MAX && !all[which].x) all[which].x = v->x;
    else if (m->n_src) s = scatter(m, v, kind, all, n, err);
    origin_map_close(&m);
    return s;
}

static mote_status encode(target *g, const char *dtype, st_tensor *out, mote_error *err) {
    *out = *g->t;
    if (!g->x) return MOTE_OK; /* the folder's bytes */
    quant_type type = QUANT_F32;
    if (dtype) out->dtype = str_of(dtype);
    TRY(hf_quant_type(out, &type, err));
    if (type == QUANT_F32) out->dtype = STR("F32");
    size_t n = (size_t)hf_elements(g->t);
    out->size = n * (type == QUANT_F32 ? 4 : 2);
    out->data = (const unsigned char *)g->x;
    if (type == QUANT_F32) return MOTE_OK;
    g->encoded = mem_calloc(n, 2);
    if (!g->encoded) FAIL(err, MOTE_E_MEMORY, "out of memory for tensor '%.*s'", STR_ARG(g->t->name));
    quant_get((int)type)->encode(g->encoded, g->x, n, NULL);
    out->data = g->encoded;
    return MOTE_OK;
}

mote_status origin_write(origin *o, const origin_value *v, size_t n, int kind, const char *dtype, const char *path,
                         mote_error *err) {
    mote_status s = MOTE_OK;
    size_t n_all = o->h.n_src, n_out = 0;
    target *all = MEM_NEW_N(target, n_all);
    st_tensor *out = MEM_NEW_N(st_tensor, n_all);
    json_t *meta = json_pack("{s:s}", "format", "pt");
    if (!all || !out || !meta) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < n_all; i++) all[i].t = o->h.src[i].t;
    for (size_t i = 0; i < n; i++)
        if (v[i].x) TRYG(s, put_value(o, &v[i], kind, all, n_all, err));
    for (size_t i = 0; i < n_all; i++)
        if (all[i].x || kind == ORIGIN_WEIGHTS) TRYG(s, encode(&all[i], dtype, &out[n_out++], err));
    TRYG(s, st_write(path, out, n_out, meta, err));
out:
    for (size_t i = 0; all && i < n_all; i++) {
        mem_free(all[i].mine);
        mem_free(all[i].encoded);
    }
    mem_free(all);
    mem_free(out);
    json_decref(meta);
    return s;
}
