/* bind.c: from the file's tensors to slots, and the shape checks of the blocks. Invariant: after bind_tensors
 * every slot's data has exactly the size its shape says; after the blocks' binds every used shape is checked. */
#include "model/bind.h"

#include <string.h>

typedef enum role_kind { KIND_MAT, KIND_VEC } role_kind;
static const struct {
    const char *name;
    role_kind kind;
    char scope;
} roles[R_COUNT] = {
#define SCOPE_L 'L'
#define SCOPE_G 'G'
#define ROLE(id, text, k, s) [R_##id] = {text, KIND_##k, SCOPE_##s},
#include "model/roles.def"
#undef ROLE
};

/* "blk.12.attn_q.weight" -> layer 12, rest "attn_q.weight"; false when it is no layer's tensor. */
static bool split_layer(str name, size_t *il, str *rest) {
    if (!str_starts(name, STR("blk."))) return false;
    size_t i = 4, v = 0;
    while (i < name.n && name.p[i] >= '0' && name.p[i] <= '9' && v < 100000) v = v * 10 + (size_t)(name.p[i++] - '0');
    if (i == 4 || i >= name.n || name.p[i] != '.') return false;
    *il = v;
    *rest = str_sub(name, i + 1, name.n - i - 1);
    return true;
}

static int find_role(str base, char scope) {
    for (int r = 0; r < R_COUNT; r++)
        if (roles[r].scope == scope && str_is(base, roles[r].name)) return r;
    return -1;
}

static mote_status elements(const tensor_info *t, size_t *n, mote_error *err) {
    uint64_t v = 1;
    for (int d = 0; d < TENSOR_DIMS_MAX; d++)
        if (!ckd_mul_u64(&v, v, t->ne[d])) FAIL(err, MOTE_E_RANGE, "tensor '%.*s' is too large", STR_ARG(t->name));
    if (v > SIZE_MAX / 8) FAIL(err, MOTE_E_RANGE, "tensor '%.*s' is too large", STR_ARG(t->name));
    *n = (size_t)v;
    return MOTE_OK;
}

/* All elements as f32, in the model's arena. */
static mote_status load_vec(model *m, const tensor_info *t, float **out, size_t *n, mote_error *err) {
    const quant_format *f = quant_get(t->type);
    TRY(elements(t, n, err));
    if (!f || !f->decode) FAIL(err, MOTE_E_UNSUPPORTED, "tensor '%.*s': type %d cannot be read as numbers", STR_ARG(t->name), (int)t->type);
    float *v = ARENA_NEW_N(&m->mem, float, *n ? *n : 1);
    if (!v) FAIL(err, MOTE_E_MEMORY, "out of memory for tensor '%.*s'", STR_ARG(t->name));
    f->decode(v, t->data, *n);
    *out = v;
    return MOTE_OK;
}

static mote_status load_mat(model *m, const tensor_info *t, slot *s, mote_error *err) {
    const quant_format *f = quant_get(t->type);
    weight *w = ARENA_NEW(&m->mem, weight);
    if (!w) FAIL(err, MOTE_E_MEMORY, "out of memory");
    if (!f || !f->decode) FAIL(err, MOTE_E_UNSUPPORTED, "tensor '%.*s': weights of type %d are not supported", STR_ARG(t->name), (int)t->type);
    if (t->ne[3] != 1) FAIL(err, MOTE_E_FORMAT, "tensor '%.*s' has four dimensions", STR_ARG(t->name));
    w->name = arena_dup(&m->mem, t->name);
    if (!w->name) FAIL(err, MOTE_E_MEMORY, "out of memory");
    w->type = t->type;
    w->cols = (size_t)t->ne[0];
    w->rows = (size_t)t->ne[1];
    w->n_mat = (size_t)t->ne[2];
    w->data = t->data;
    w->decoded = t->coded.n > 0;
    TRY(quant_row_bytes(f, t->ne[0], &w->row_bytes, err));
    w->mat_bytes = w->row_bytes * w->rows; /* cannot overflow: the reader checked the whole tensor against the file */
    if (w->mat_bytes * w->n_mat != t->size) FAIL(err, MOTE_E_FORMAT, "tensor '%.*s': %zu bytes, its shape needs %zu", STR_ARG(t->name), t->size, w->mat_bytes * w->n_mat);
    s->mat = w;
    m->weights[m->n_weights++] = w;
    return MOTE_OK;
}

static mote_status bind_main(model *m, const tensor_info *t, slot *s, role_kind kind, mote_error *err) {
    if (s->info) FAIL(err, MOTE_E_FORMAT, "tensor '%.*s' occurs twice", STR_ARG(t->name));
    s->info = t;
    memcpy(s->ne, t->ne, sizeof s->ne);
    if (kind == KIND_MAT) return load_mat(m, t, s, err);
    return load_vec(m, t, &s->vec, &s->n, err);
}

/* Finds the slot of one tensor. Unknown names are counted, not refused here: the message lists several. */
static mote_status bind_one(model *m, const tensor_info *t, bool *known, mote_error *err) {
    static const str suffix[] = {{".weight", 7}, {".bias", 5}, {".scale", 6}, {".input_scale", 12}};
    size_t il = 0;
    str rest = t->name;
    bool in_layer = split_layer(t->name, &il, &rest);
    *known = false;
    if (in_layer && il >= m->hp.n_layer) {
        *known = il < m->hp.n_layer + m->hp.n_layer_skipped;
        return MOTE_OK;
    }
    int which = 0, n_suffix = 0;
    for (int i = 0; i < (int)COUNT_OF(suffix); i++)
        if (str_ends(rest, suffix[i])) {
            which = i;
            n_suffix = (int)suffix[i].n;
        }
    int r = find_role(str_sub(rest, 0, rest.n - (size_t)n_suffix), in_layer ? 'L' : 'G');
    if (r < 0 && n_suffix) { /* names that keep their suffix */
        r = find_role(rest, in_layer ? 'L' : 'G');
        which = 0;
    }
    if (r < 0) return MOTE_OK;
    *known = true;
    slot *s = in_layer ? &m->layers[il].slots[r] : &m->slots[r];
    switch (which) {
    case 1: return load_vec(m, t, &s->bias, &s->n_bias, err);
    case 2: return load_vec(m, t, &s->scale, &s->n_scale, err);
    case 3: return MOTE_OK; /* scale of quantized activations: ours are scaled per block of 32 */
    default: TRY(bind_main(m, t, s, roles[r].kind, err));
    }
    if (s->mat) s->mat->role = roles[r].name;
    return MOTE_OK;
}

mote_status bind_tensors(model *m, mote_error *err) {
    size_t n = model_file_n_tensors(m->file), unknown = 0;
    char names[200] = "";
    m->weights = ARENA_NEW_N(&m->mem, weight *, n ? n : 1);
    if (!m->weights) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < n; i++) {
        bool known;
        const tensor_info *t = model_file_tensor(m->file, i);
        TRY(bind_one(m, t, &known, err));
        if (known) continue;
        size_t used = strlen(names);
        if (unknown++ < 4) (void)snprintf(names + used, sizeof names - used, "%s'%.*s'", unknown > 1 ? ", " : "", (int)MIN(t->name.n, 40), t->name.p);
    }
    if (unknown) FAIL(err, MOTE_E_UNSUPPORTED, "%zu tensors are not known to architecture '%s': %s", unknown, m->arch->name, names);
    for (size_t il = 0; m->arch->post_norm_is_ffn_norm && il < m->hp.n_layer; il++) {
        slot *s = m->layers[il].slots;
        if (s[R_FFN_NORM].info) continue;
        s[R_FFN_NORM] = s[R_ATTN_POST_NORM];
        s[R_ATTN_POST_NORM] = (slot){0};
    }
    if (m->arch->bound) m->arch->bound(m);
    return MOTE_OK;
}

static mote_status scale_bias(model *m, slot *s, mote_error *err) {
    if (!s->bias || m->hp.residual_scale == 1) return MOTE_OK;
    s->bias_scaled = ARENA_NEW_N(&m->mem, float, s->n_bias);
    if (!s->bias_scaled) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < s->n_bias; i++) s->bias_scaled[i] = s->bias[i] * m->hp.residual_scale;
    return MOTE_OK;
}

mote_status bind_scaled_biases(model *m, mote_error *err) {
    for (size_t il = 0; il < m->hp.n_layer; il++)
        for (int r = 0; r < R_COUNT; r++) TRY(scale_bias(m, &m->layers[il].slots[r], err));
    return MOTE_OK;
}

static void note_unused(const slot *s, int r, size_t *n, char *names, size_t cap) {
    if (s->used || (!s->info && !s->bias && !s->scale)) return;
    size_t len = strlen(names);
    if ((*n)++ < 4) (void)snprintf(names + len, cap - len, "%s'%s'", *n > 1 ? ", " : "", s->mat ? s->mat->name : roles[r].name);
}

mote_status bind_check_all_used(const model *m, mote_error *err) {
    size_t n = 0;
    char names[200] = "";
    for (int r = 0; r < R_COUNT; r++) {
        note_unused(&m->slots[r], r, &n, names, sizeof names);
        for (size_t il = 0; il < m->hp.n_layer; il++) note_unused(&m->layers[il].slots[r], r, &n, names, sizeof names);
    }
    if (n) FAIL(err, MOTE_E_UNSUPPORTED, "architecture '%s' does not use %zu tensors of this file: %s", m->arch->name, n, names);
    return MOTE_OK;
}

static mote_status check_mat(slot *s, role r, size_t il, size_t cols, size_t rows, size_t n_mat, bool required, mote_error *err) {
    if (!s->info) {
        if (!required) return MOTE_OK;
        if (roles[r].scope == 'L') FAIL(err, MOTE_E_FORMAT, "tensor 'blk.%zu.%s.weight' is missing", il, roles[r].name);
        FAIL(err, MOTE_E_FORMAT, "tensor '%s.weight' is missing", roles[r].name);
    }
    const weight *w = s->mat;
    if (w->cols != cols || w->rows != rows || w->n_mat != n_mat)
        FAIL(err, MOTE_E_MISMATCH, "tensor '%s' has shape [%zu, %zu, %zu], the model's keys ask for [%zu, %zu, %zu]", w->name, w->cols, w->rows, w->n_mat, cols, rows, n_mat);
    if (s->bias && s->n_bias != rows * n_mat) FAIL(err, MOTE_E_MISMATCH, "the bias of '%s' has %zu elements, expected %zu", w->name, s->n_bias, rows * n_mat);
    if (s->scale && s->n_scale != n_mat) FAIL(err, MOTE_E_MISMATCH, "the scale of '%s' has %zu elements, expected %zu", w->name, s->n_scale, n_mat);
    s->used = true;
    return MOTE_OK;
}

static mote_status check_vec(slot *s, role r, size_t il, size_t n, bool required, mote_error *err) {
    if (!s->info) {
        if (!required) return MOTE_OK;
        if (roles[r].scope == 'L') FAIL(err, MOTE_E_FORMAT, "tensor 'blk.%zu.%s' is missing", il, roles[r].name);
        FAIL(err, MOTE_E_FORMAT, "tensor '%s' is missing", roles[r].name);
    }
    if (s->n != n) FAIL(err, MOTE_E_MISMATCH, "tensor '%.*s' has %zu elements, the model's keys ask for %zu", STR_ARG(s->info->name), s->n, n);
    if (s->bias && s->n_bias != n) FAIL(err, MOTE_E_MISMATCH, "the bias of '%.*s' has %zu elements, expected %zu", STR_ARG(s->info->name), s->n_bias, n);
    s->used = true;
    return MOTE_OK;
}

mote_status bind_mat(layer *l, role r, size_t cols, size_t rows, size_t n_mat, bool required, mote_error *err) {
    return check_mat(&l->slots[r], r, l->index, cols, rows, n_mat, required, err);
}

mote_status bind_vec(layer *l, role r, size_t n, bool required, mote_error *err) {
    return check_vec(&l->slots[r], r, l->index, n, required, err);
}

mote_status bind_bias(layer *l, role r, size_t n, bool required, mote_error *err) {
    slot *s = &l->slots[r];
    if (!s->bias) {
        if (!required) return MOTE_OK;
        FAIL(err, MOTE_E_FORMAT, "tensor 'blk.%zu.%s.bias' is missing", l->index, roles[r].name);
    }
    if (s->n_bias != n) FAIL(err, MOTE_E_MISMATCH, "tensor 'blk.%zu.%s.bias' has %zu elements, expected %zu", l->index, roles[r].name, s->n_bias, n);
    s->used = true;
    return MOTE_OK;
}

mote_status bind_model_mat(model *m, role r, size_t cols, size_t rows, bool required, mote_error *err) {
    return check_mat(&m->slots[r], r, 0, cols, rows, 1, required, err);
}

mote_status bind_model_vec(model *m, role r, size_t n, bool required, mote_error *err) {
    return check_vec(&m->slots[r], r, 0, n, required, err);
}

norm layer_norm_of(const model *m, const layer *l, role r) {
    const slot *s = &l->slots[r];
    bool bare = m->arch->norm_bare && (r == R_ATTN_NORM || r == R_FFN_NORM);
    return s->info || bare ? (norm){m->hp.norm, s->vec, s->bias, m->hp.eps} : (norm){0};
}

void slot_fold_bias(slot *s, float by) {
    for (size_t i = 0; s->bias && i < s->n_bias; i++) s->bias[i] *= by;
}

linear_out slot_out(const slot *s, float *y, size_t ld) {
    return (linear_out){.w = s->mat, .y = y, .ld = ld, .bias = s->bias, .scale = s->scale ? s->scale[0] : 1};
}

linear_out slot_sink(const slot *s, const sink *o) {
    linear_out r = slot_out(s, o->y, o->ld);
    r.scale *= o->scale;
    r.add = o->add;
    if (o->scale != 1 && s->bias) r.bias = s->bias_scaled;
    return r;
}
