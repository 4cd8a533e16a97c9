/* hf_quantized.c: checkpoints whose matrices others have quantized: GPTQ, AWQ, compressed-tensors and FP8.
 *
 * Wherever such a matrix lies in the folder as levels, scales and zeros (X.qweight, X.scales, …), one tensor X.weight takes their
 * place before names are mapped. Levels of whole blocks of 32 under halves as scales are Q4_0 or Q8_0 exactly, and become
 * that; everything else becomes float32, exactly what the checkpoint's own kernels multiply with.
 *
 * Sources: AutoGPTQ and GPTQModel (qlinear's pack), AutoAWQ (utils/packing_utils), compressed-tensors
 * (compressors/quantized_compressors/pack_quantized), DeepSeek-V3 (inference/fp8_cast_bf16). */
#include "format/hf_quantized.h"

#include <math.h>

typedef enum method { METHOD_GPTQ, METHOD_AWQ, METHOD_COMPRESSED, METHOD_FP8 } method;

typedef struct unpacker {
    hf *h;
    method m;
    int64_t bits, group_size; /* group_size -1: all columns of a row */
    bool old_zeros;           /* GPTQ's first form: zeros are stored less one */
    uint64_t block[2];        /* FP8: rows and columns that share a scale; 0: see the scales' shape */
    const hf_tensor *src;     /* as they lie in the folder */
    size_t n_src;
    hf_tensor *out;
    size_t n_out;
} unpacker;

/* A matrix being unpacked: w[r, c] = scale[r, group[c]] level[r, c]. */
typedef struct matrix {
    str name;             /* of the weight, in full: "model.layers.0.mlp.up_proj.weight" */
    size_t rows, cols, n_groups, group_size;
    int16_t *level;       /* [rows, cols] zeros are off already */
    float *scale;         /* [rows, n_groups] */
    uint32_t *group;      /* [cols] */
    bool ordered;         /* group[c] = c / group_size */
} matrix;

static bool is_int(const st_tensor *t, int dims) { return t && t->n_dims == dims && str_is(t->dtype, "I32"); }

static const st_tensor *beside(const unpacker *u, str base, const char *suffix) {
    char name[512];
    if (base.n + strlen(suffix) >= sizeof name) return NULL;
    (void)snprintf(name, sizeof name, "%.*s%s", (int)base.n, base.p, suffix);
    return hf_find(u->h, name);
}

/* Number k of those of `bits` bits that lie one behind the other in words, `stride` words apart. */
static unsigned packed_at(const unsigned char *words, size_t stride, size_t k, unsigned bits) {
    size_t bit = k * bits, at = bit / 32;
    unsigned shift = (unsigned)(bit % 32);
    uint32_t low, high = 0;
    memcpy(&low, words + 4 * at * stride, 4);
    if (shift + bits > 32) memcpy(&high, words + 4 * (at + 1) * stride, 4);
    uint64_t both = (uint64_t)high << 32 | low;
    return (unsigned)(both >> shift) & ((1u << bits) - 1);
}

static void matrix_free(matrix *m) {
    mem_free(m->level);
    mem_free(m->scale);
    mem_free(m->group);
}

static mote_status matrix_open(matrix *m, str name, size_t rows, size_t cols, size_t n_groups, mote_error *err) {
    size_t n;
    *m = (matrix){.name = name, .rows = rows, .cols = cols, .n_groups = n_groups};
    if (!rows || !cols || !n_groups || !ckd_mul_size(&n, rows, cols) || n > SIZE_MAX / 8)
        FAIL(err, MOTE_E_FORMAT, "'%.*s': a matrix of %zu rows of %zu in %zu groups", STR_ARG(name), rows, cols, n_groups);
    m->level = MEM_NEW_N(int16_t, n);
    m->scale = mem_calloc(rows, n_groups * sizeof(float));
    m->group = MEM_NEW_N(uint32_t, cols);
    if (!m->level || !m->scale || !m->group) FAIL(err, MOTE_E_MEMORY, "out of memory for '%.*s'", STR_ARG(name));
    return MOTE_OK;
}

/* Groups of size columns, in order. */
static mote_status order_groups(matrix *m, size_t size, mote_error *err) {
    if (size == 0 || (m->cols + size - 1) / size != m->n_groups)
        FAIL(err, MOTE_E_MISMATCH, "'%.*s': %zu columns in groups of %zu, but there are %zu scales a row", STR_ARG(m->name), m->cols, size, m->n_groups);
    for (size_t c = 0; c < m->cols; c++) m->group[c] = (uint32_t)(c / size);
    m->group_size = size;
    m->ordered = true;
    return MOTE_OK;
}

/* g_idx: the group of each column. */
static mote_status read_groups(matrix *m, const st_tensor *t, size_t size, mote_error *err) {
    if (t->n_dims != 1 || t->shape[0] != m->cols || !str_is(t->dtype, "I32"))
        FAIL(err, MOTE_E_MISMATCH, "'%.*s': its g_idx does not name a group for each of %zu columns", STR_ARG(m->name), m->cols);
    bool ordered = size > 0;
    for (size_t c = 0; c < m->cols; c++) {
        int32_t g;
        memcpy(&g, t->data + 4 * c, 4);
        if (g < 0 || (size_t)g >= m->n_groups) FAIL(err, MOTE_E_FORMAT, "'%.*s': column %zu is in group %d of %zu", STR_ARG(m->name), c, g, m->n_groups);
        m->group[c] = (uint32_t)g;
        ordered = ordered && (size_t)g == c / size;
    }
    m->ordered = ordered;
    m->group_size = size;
    return MOTE_OK;
}

/* ---- what comes out ---- */
static mote_status add_out(unpacker *u, str name, const char *dtype, size_t rows, size_t cols, const void *data, size_t size, mote_error *err) {
    st_tensor *t = ARENA_NEW(&u->h->f->mem, st_tensor);
    char *copy = arena_dup(&u->h->f->mem, name);
    if (!t || !copy) FAIL(err, MOTE_E_MEMORY, "out of memory");
    *t = (st_tensor){.name = {copy, name.n}, .dtype = str_of(dtype), .n_dims = 2, .shape = {rows, cols}, .data = data, .size = size};
    u->out[u->n_out++] = (hf_tensor){hf_relative_name(t->name), t};
    return MOTE_OK;
}

/* The format that says the same with not a bit lost, or F32. */
static quant_type exact_type(const matrix *m) {
    if (!m->ordered || m->cols % 32 || (m->group_size % 32 && m->n_groups > 1)) return QUANT_F32;
    for (size_t i = 0; i < m->rows * m->n_groups; i++) {
        float s = m->scale[i];
        if (!(fabsf(s) <= 65504) || quant_f16_to_f32(quant_f32_to_f16(s)) != s) return QUANT_F32;
    }
    int lo = 0, hi = 0;
    for (size_t i = 0; i < m->rows * m->cols; i++) {
        lo = MIN(lo, m->level[i]);
        hi = MAX(hi, m->level[i]);
    }
    return lo >= -8 && hi <= 7 ? QUANT_Q4_0 : lo >= -128 && hi <= 127 ? QUANT_Q8_0 : QUANT_F32;
}

static void write_block(const matrix *m, quant_type type, size_t row, size_t col, unsigned char *dst) {
    const int16_t *q = m->level + row * m->cols + col;
    uint16_t d = quant_f32_to_f16(m->scale[row * m->n_groups + m->group[col]]);
    memcpy(dst, &d, 2);
    for (size_t j = 0; j < 32; j++) {
        if (type == QUANT_Q8_0) dst[2 + j] = (unsigned char)(int8_t)q[j];
        else if (j < 16) dst[2 + j] = (unsigned char)((q[j] + 8) | (q[j + 16] + 8) << 4);
    }
}

static mote_status emit(unpacker *u, const matrix *m, mote_error *err) {
    quant_type type = exact_type(m);
    const quant_format *f = quant_get((int)type);
    size_t row_bytes, size;
    void *p;
    TRY(quant_row_bytes(f, m->cols, &row_bytes, err));
    if (!ckd_mul_size(&size, row_bytes, m->rows)) FAIL(err, MOTE_E_LIMIT, "'%.*s' is too large", STR_ARG(m->name));
    TRY(model_file_own(u->h->f, size, &p, err));
    for (size_t r = 0; r < m->rows; r++) {
        if (type == QUANT_F32) {
            float *y = (float *)p + r * m->cols;
            for (size_t c = 0; c < m->cols; c++) y[c] = m->scale[r * m->n_groups + m->group[c]] * (float)m->level[r * m->cols + c];
        } else {
            for (size_t c = 0; c < m->cols; c += 32) write_block(m, type, r, c, (unsigned char *)p + r * row_bytes + c / 32 * f->bytes);
        }
    }
    return add_out(u, m->name, type == QUANT_F32 ? "F32" : type == QUANT_Q4_0 ? "Q4_0" : "Q8_0", m->rows, m->cols, p, size, err);
}

/* Scales as the file has them, of any float type, to m->scale. transposed: [group, row] in the file. */
static mote_status read_scales(matrix *m, const st_tensor *t, bool transposed, mote_error *err) {
    size_t n = m->rows * m->n_groups;
    if (hf_elements(t) != n) FAIL(err, MOTE_E_MISMATCH, "'%.*s': %llu scales where %zu are needed", STR_ARG(m->name), (unsigned long long)hf_elements(t), n);
    float *v = MEM_NEW_N(float, n);
    if (!v) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu scales", n);
    mote_status s = hf_read_f32(t, v, err);
    for (size_t i = 0; s == MOTE_OK && i < n; i++) {
        if (!isfinite(v[i])) s = ERR(err, MOTE_E_FORMAT, "'%.*s': scale %zu is not finite", STR_ARG(m->name), i);
        m->scale[transposed ? i % m->rows * m->n_groups + i / m->rows : i] = v[i];
    }
    mem_free(v);
    return s;
}

/* "model.x.qweight" -> "model.x.weight" */
static mote_status weight_name(const unpacker *u, str full, size_t suffix, str *out, mote_error *err) {
    char name[512];
    int n = snprintf(name, sizeof name, "%.*s.weight", (int)(full.n - suffix), full.p);
    if (n < 0 || (size_t)n >= sizeof name) FAIL(err, MOTE_E_LIMIT, "a tensor name of %zu bytes", full.n);
    out->p = arena_dup(&u->h->f->mem, (str){name, (size_t)n});
    out->n = (size_t)n;
    if (!out->p) FAIL(err, MOTE_E_MEMORY, "out of memory");
    return MOTE_OK;
}

/* ---- GPTQ: qweight [cols bits / 32, rows], columns packed; qzeros [groups, rows bits / 32]; scales [groups, rows]; g_idx [cols] ---- */
static mote_status gptq_levels(const unpacker *u, matrix *m, const st_tensor *q, const st_tensor *zeros, mote_error *err) {
    unsigned bits = (unsigned)u->bits, mask = (1u << bits) - 1;
    size_t zero_words = zeros->n_dims == 2 ? (size_t)zeros->shape[1] : 0;
    if (!is_int(zeros, 2) || zeros->shape[0] != m->n_groups || zero_words * 32 < m->rows * bits)
        FAIL(err, MOTE_E_MISMATCH, "'%.*s': qzeros do not fit %zu groups of %zu rows", STR_ARG(m->name), m->n_groups, m->rows);
    for (size_t r = 0; r < m->rows; r++)
        for (size_t c = 0; c < m->cols; c++) {
            unsigned v = packed_at(q->data + 4 * r, m->rows, c, bits);
            unsigned z = packed_at(zeros->data + 4 * m->group[c] * zero_words, 1, r, bits);
            if (u->old_zeros) z = (z + 1) & mask;
            m->level[r * m->cols + c] = (int16_t)((int)v - (int)z);
        }
    return MOTE_OK;
}

static mote_status unpack_gptq(unpacker *u, const hf_tensor *src, mote_error *err) {
    str base = str_sub(src->name, 0, src->name.n - strlen(".qweight")), name;
    const st_tensor *q = src->t, *scales = beside(u, base, ".scales"), *zeros = beside(u, base, ".qzeros"), *order = beside(u, base, ".g_idx");
    if (!is_int(q, 2) || !scales || !zeros || scales->n_dims != 2 || (q->shape[0] * 32) % (uint64_t)u->bits)
        FAIL(err, MOTE_E_FORMAT, "'%.*s' is no GPTQ matrix of %d bits: qweight, qzeros and scales are needed", STR_ARG(q->name), (int)u->bits);
    matrix m;
    size_t cols = (size_t)(q->shape[0] * 32 / (uint64_t)u->bits), groups = (size_t)scales->shape[0];
    TRY(weight_name(u, q->name, strlen(".qweight"), &name, err));
    mote_status s = matrix_open(&m, name, (size_t)q->shape[1], cols, groups, err);
    size_t size = u->group_size > 0 ? (size_t)u->group_size : cols;
    if (s == MOTE_OK) s = order ? read_groups(&m, order, size, err) : order_groups(&m, size, err);
    if (s == MOTE_OK) s = read_scales(&m, scales, true, err);
    if (s == MOTE_OK) s = gptq_levels(u, &m, q, zeros, err);
    if (s == MOTE_OK) s = emit(u, &m, err);
    matrix_free(&m);
    return s;
}

/* ---- AWQ (gemm): qweight [cols, rows / 8], eight rows to a word in the order 0 2 4 6 1 3 5 7; qzeros [groups, rows / 8]; scales [groups, rows] ---- */
static unsigned awq_at(const unsigned char *row, size_t i) {
    static const unsigned nibble[8] = {0, 4, 1, 5, 2, 6, 3, 7}; /* where the i-th of eight lies */
    uint32_t w;
    memcpy(&w, row + i / 8 * 4, 4);
    return w >> 4 * nibble[i % 8] & 15;
}

static mote_status unpack_awq(unpacker *u, const hf_tensor *src, mote_error *err) {
    str base = str_sub(src->name, 0, src->name.n - strlen(".qweight")), name;
    const st_tensor *q = src->t, *scales = beside(u, base, ".scales"), *zeros = beside(u, base, ".qzeros");
    if (!is_int(q, 2) || !scales || scales->n_dims != 2 || !is_int(zeros, 2) || zeros->shape[1] != q->shape[1] || zeros->shape[0] != scales->shape[0])
        FAIL(err, MOTE_E_FORMAT, "'%.*s' is no AWQ matrix: qweight, qzeros and scales are needed", STR_ARG(q->name));
    matrix m;
    size_t cols = (size_t)q->shape[0], words = (size_t)q->shape[1];
    TRY(weight_name(u, q->name, strlen(".qweight"), &name, err));
    mote_status s = matrix_open(&m, name, 8 * words, cols, (size_t)scales->shape[0], err);
    if (s == MOTE_OK) s = order_groups(&m, u->group_size > 0 ? (size_t)u->group_size : cols, err);
    if (s == MOTE_OK) s = read_scales(&m, scales, true, err);
    for (size_t c = 0; s == MOTE_OK && c < cols; c++)
        for (size_t r = 0; r < m.rows; r++)
            m.level[r * cols + c] = (int16_t)((int)awq_at(q->data + 4 * c * words, r) - (int)awq_at(zeros->data + 4 * m.group[c] * words, r));
    if (s == MOTE_OK) s = emit(u, &m, err);
    matrix_free(&m);
    return s;
}

/* ---- compressed-tensors: levels in X.weight_packed [rows, words] (32 / bits to a word, plus half the range) or X.weight (int8);
 * X.weight_scale [rows, groups] or fewer; X.weight_zero_point, packed along the rows or int8; X.weight_g_idx ---- */
static mote_status compressed_zeros(const unpacker *u, matrix *m, const st_tensor *z, mote_error *err) {
    unsigned bits = (unsigned)u->bits, per = 32 / bits, mask = (1u << bits) - 1;
    bool packed = is_int(z, 2) && z->shape[0] * per >= m->rows && z->shape[1] == m->n_groups;
    bool plain = str_is(z->dtype, "I8") && z->size == m->rows * m->n_groups;
    if (!packed && !plain) FAIL(err, MOTE_E_MISMATCH, "'%.*s': its zero points do not fit %zu rows of %zu groups", STR_ARG(m->name), m->rows, m->n_groups);
    for (size_t r = 0; r < m->rows; r++)
        for (size_t c = 0; c < m->cols; c++) {
            size_t g = m->group[c];
            int zero;
            if (packed) {
                uint32_t w;
                memcpy(&w, z->data + 4 * (r / per * m->n_groups + g), 4);
                zero = (int)(w >> bits * (r % per) & mask) - (1 << (bits - 1));
            } else zero = (int8_t)z->data[r * m->n_groups + g];
            m->level[r * m->cols + c] = (int16_t)(m->level[r * m->cols + c] - zero);
        }
    return MOTE_OK;
}

static mote_status compressed_levels(const unpacker *u, matrix *m, const st_tensor *q, mote_error *err) {
    unsigned bits = (unsigned)u->bits, per = 32 / bits, mask = (1u << bits) - 1;
    if (str_is(q->dtype, "I8")) {
        for (size_t i = 0; i < m->rows * m->cols; i++) m->level[i] = (int8_t)q->data[i];
        return MOTE_OK;
    }
    size_t words = (size_t)q->shape[1];
    if (words * per < m->cols) FAIL(err, MOTE_E_MISMATCH, "'%.*s': %zu words a row for %zu columns of %u bits", STR_ARG(m->name), words, m->cols, bits);
    for (size_t r = 0; r < m->rows; r++)
        for (size_t c = 0; c < m->cols; c++) {
            uint32_t w;
            memcpy(&w, q->data + 4 * (r * words + c / per), 4);
            m->level[r * m->cols + c] = (int16_t)((int)(w >> bits * (c % per) & mask) - (1 << (bits - 1)));
        }
    return MOTE_OK;
}

/* Scales for each group, for each row, or one for all. */
static mote_status compressed_scales(matrix *m, const st_tensor *t, mote_error *err) {
    uint64_t n = hf_elements(t);
    if (n == m->rows * m->n_groups) return read_scales(m, t, false, err);
    float one;
    if (n != 1 || m->n_groups != 1) FAIL(err, MOTE_E_MISMATCH, "'%.*s': %llu scales for %zu rows", STR_ARG(m->name), (unsigned long long)n, m->rows);
    TRY(hf_read_f32(t, &one, err));
    for (size_t r = 0; r < m->rows; r++) m->scale[r] = one;
    return isfinite(one) ? MOTE_OK : ERR(err, MOTE_E_FORMAT, "'%.*s': its scale is not finite", STR_ARG(m->name));
}

static mote_status unpack_compressed(unpacker *u, const hf_tensor *src, mote_error *err) {
    const st_tensor *q = src->t;
    bool packed = str_ends(src->name, STR(".weight_packed"));
    size_t suffix = packed ? strlen(".weight_packed") : strlen(".weight");
    str base = str_sub(src->name, 0, src->name.n - suffix), name;
    const st_tensor *scales = beside(u, base, ".weight_scale"), *zeros = beside(u, base, ".weight_zero_point"),
                    *order = beside(u, base, ".weight_g_idx"), *shape = beside(u, base, ".weight_shape");
    if (q->n_dims != 2 || !scales || (packed && !is_int(q, 2))) FAIL(err, MOTE_E_FORMAT, "'%.*s' has no weight_scale, or no two dimensions", STR_ARG(q->name));
    size_t rows = (size_t)q->shape[0], cols = packed ? (size_t)q->shape[1] * (32 / (size_t)u->bits) : (size_t)q->shape[1];
    if (packed && shape && shape->size >= 16 && str_is(shape->dtype, "I64")) {
        int64_t said[2];
        memcpy(said, shape->data, sizeof said);
        if (said[0] != (int64_t)rows || said[1] < 1 || said[1] > (int64_t)cols)
            FAIL(err, MOTE_E_MISMATCH, "'%.*s': weight_shape says %lld × %lld", STR_ARG(q->name), (long long)said[0], (long long)said[1]);
        cols = (size_t)said[1];
    }
    matrix m;
    size_t groups = hf_elements(scales) % rows == 0 ? MAX((size_t)(hf_elements(scales) / rows), (size_t)1) : 1;
    size_t size = groups == 1 ? cols : u->group_size > 0 ? (size_t)u->group_size : cols / groups;
    TRY(weight_name(u, q->name, suffix, &name, err));
    mote_status s = matrix_open(&m, name, rows, cols, groups, err);
    if (s == MOTE_OK) s = order ? read_groups(&m, order, size, err) : order_groups(&m, size, err);
    if (s == MOTE_OK) s = compressed_scales(&m, scales, err);
    if (s == MOTE_OK) s = compressed_levels(u, &m, q, err);
    if (s == MOTE_OK && zeros) s = compressed_zeros(u, &m, zeros, err);
    if (s == MOTE_OK) s = emit(u, &m, err);
    matrix_free(&m);
    return s;
}

/* ---- FP8: X.weight of F8_E4M3 or F8_E5M2, and X.weight_scale_inv or X.weight_scale: of blocks, of rows, or one; they multiply ---- */
static float fp8_value(unsigned char v, bool e5m2) {
    int mantissa_bits = e5m2 ? 2 : 3, bias = e5m2 ? 15 : 7, mantissa = v & ((1 << mantissa_bits) - 1), e = (v & 127) >> mantissa_bits;
    float sign = v & 128 ? -1.0f : 1.0f, whole = (float)(mantissa + (e ? 1 << mantissa_bits : 0));
    if (!e5m2 && (v & 127) == 127) return NAN;
    if (e5m2 && e == 31) return mantissa ? NAN : sign * INFINITY;
    return sign * ldexpf(whole, (e ? e : 1) - bias - mantissa_bits);
}

static bool is_fp8(const st_tensor *t) { return str_is(t->dtype, "F8_E4M3") || str_is(t->dtype, "F8_E5M2"); }

static mote_status unpack_fp8(unpacker *u, const hf_tensor *src, mote_error *err) {
    const st_tensor *q = src->t, *s;
    str base = str_sub(src->name, 0, src->name.n - strlen(".weight"));
    float table[256], *scale;
    s = beside(u, base, ".weight_scale_inv");
    if (!s) s = beside(u, base, ".weight_scale");
    if (q->n_dims != 2 || !s || q->shape[0] == 0 || q->shape[1] == 0) FAIL(err, MOTE_E_FORMAT, "'%.*s': FP8 weights without a scale beside them", STR_ARG(q->name));
    size_t rows = (size_t)q->shape[0], cols = (size_t)q->shape[1], n = (size_t)hf_elements(s), down = 1, across = 1;
    if (s->n_dims == 2 && n > 1) {
        down = (size_t)s->shape[0];
        across = (size_t)s->shape[1];
    } else if (n == rows) down = rows;
    size_t high = u->block[0] && across > 1 ? (size_t)u->block[0] : (rows + down - 1) / MAX(down, (size_t)1);
    size_t wide = u->block[1] && across > 1 ? (size_t)u->block[1] : (cols + across - 1) / MAX(across, (size_t)1);
    if (n != down * across || n == 0 || (rows + high - 1) / high != down || (cols + wide - 1) / wide != across)
        FAIL(err, MOTE_E_MISMATCH, "'%.*s': %zu scales do not divide %zu rows of %zu", STR_ARG(q->name), n, rows, cols);
    void *p;
    TRY(model_file_own(u->h->f, rows * cols * sizeof(float), &p, err));
    scale = MEM_NEW_N(float, n);
    if (!scale) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu scales", n);
    mote_status st = hf_read_f32(s, scale, err);
    for (int v = 0; v < 256; v++) table[v] = fp8_value((unsigned char)v, str_is(q->dtype, "F8_E5M2"));
    for (size_t i = 0; st == MOTE_OK && i < rows * cols; i++) {
        float y = table[q->data[i]] * scale[i / cols / high * across + i % cols / wide];
        if (!isfinite(y)) st = ERR(err, MOTE_E_FORMAT, "'%.*s': weight %zu is not finite", STR_ARG(q->name), i);
        ((float *)p)[i] = y;
    }
    mem_free(scale);
    TRY(st);
    return add_out(u, q->name, "F32", rows, cols, p, rows * cols * sizeof(float), err);
}

/* ---- which tensors ---- */

/* What belongs to a packed matrix, or to quantized activations and caches, which floats do without. */
static bool is_companion(const unpacker *u, str name) {
    static const char *const gptq[] = {".qzeros", ".scales", ".g_idx"};
    static const char *const rest[] = {".weight_scale", ".weight_scale_inv", ".weight_zero_point", ".weight_g_idx", ".weight_shape", ".input_scale",
                                       ".input_zero_point", ".output_scale", ".output_zero_point", ".k_scale", ".v_scale", ".q_scale",
                                       ".input_global_scale", ".activation_scale"};
    bool ints = u->m == METHOD_GPTQ || u->m == METHOD_AWQ;
    for (size_t i = 0; i < (ints ? COUNT_OF(gptq) : COUNT_OF(rest)); i++)
        if (str_ends(name, str_of(ints ? gptq[i] : rest[i]))) return true;
    return false;
}

static mote_status unpack_one(unpacker *u, const hf_tensor *src, mote_error *err) {
    bool weight = str_ends(src->name, STR(".weight"));
    if (is_companion(u, src->name)) return MOTE_OK;
    if (u->m == METHOD_GPTQ && str_ends(src->name, STR(".qweight"))) return unpack_gptq(u, src, err);
    if (u->m == METHOD_AWQ && str_ends(src->name, STR(".qweight"))) return unpack_awq(u, src, err);
    if (u->m == METHOD_COMPRESSED && (str_ends(src->name, STR(".weight_packed")) || (weight && str_is(src->t->dtype, "I8"))))
        return unpack_compressed(u, src, err);
    if (weight && is_fp8(src->t)) return unpack_fp8(u, src, err);
    u->out[u->n_out++] = *src;
    return MOTE_OK;
}

/* ---- the configuration ---- */
static mote_status get_int(const json_t *o, const char *key, int64_t otherwise, int64_t *v, mote_error *err) {
    const json_t *x = json_object_get(o, key);
    *v = otherwise;
    if (!x || json_is_null(x)) return MOTE_OK;
    if (!json_is_integer(x) || json_integer_value(x) < -1 || json_integer_value(x) > 1 << 20)
        FAIL(err, MOTE_E_FORMAT, "quantization_config: '%s' is not a number that is possible", key);
    *v = json_integer_value(x);
    return MOTE_OK;
}

static mote_status read_gptq(unpacker *u, const json_t *c, mote_error *err) {
    TRY(get_int(c, "bits", 4, &u->bits, err));
    TRY(get_int(c, "group_size", 128, &u->group_size, err));
    str form = json_get_str(c, "checkpoint_format");
    u->old_zeros = form.n == 0 || str_is(form, "gptq");
    if (!u->old_zeros && !str_is(form, "gptq_v2"))
        FAIL(err, MOTE_E_UNSUPPORTED, "a GPTQ checkpoint of form '%.*s': 'gptq' and 'gptq_v2' are read", STR_ARG(form));
    if (u->bits != 2 && u->bits != 3 && u->bits != 4 && u->bits != 8) FAIL(err, MOTE_E_UNSUPPORTED, "GPTQ of %d bits: 2, 3, 4 and 8 are read", (int)u->bits);
    return MOTE_OK;
}

static mote_status read_awq(unpacker *u, const json_t *c, mote_error *err) {
    TRY(get_int(c, "bits", 4, &u->bits, err));
    TRY(get_int(c, "group_size", 128, &u->group_size, err));
    str version = json_get_str(c, "version");
    if (u->bits != 4 || (version.n && !str_is(version, "gemm") && !str_is(version, "GEMM")))
        FAIL(err, MOTE_E_UNSUPPORTED, "AWQ of %d bits, version '%.*s': 4 bits, version 'gemm' is read", (int)u->bits, STR_ARG(version));
    return MOTE_OK;
}

static mote_status read_compressed(unpacker *u, const json_t *c, mote_error *err) {
    static const char *const forms[] = {"pack-quantized", "int-quantized", "float-quantized", "naive-quantized", "dense"};
    str form = json_get_str(c, "format"), sparse = json_get_str(json_object_get(c, "sparsity_config"), "format");
    bool known = form.n == 0;
    for (size_t i = 0; i < COUNT_OF(forms); i++) known |= str_is(form, forms[i]);
    if (!known || (sparse.n && !str_is(sparse, "dense")))
        FAIL(err, MOTE_E_UNSUPPORTED, "compressed-tensors of format '%.*s' is not read (pack-quantized, int-quantized, float-quantized and naive-quantized are)",
             STR_ARG(known ? sparse : form));
    const char *key;
    json_t *group;
    bool first = true;
    u->bits = 8;
    json_object_foreach(json_object_get(c, "config_groups"), key, group) {
        const json_t *w = json_object_get(group, "weights");
        int64_t bits, size;
        if (!json_is_object(w)) continue;
        TRY(get_int(w, "num_bits", 8, &bits, err));
        TRY(get_int(w, "group_size", -1, &size, err));
        if (bits < 2 || bits > 8) FAIL(err, MOTE_E_UNSUPPORTED, "compressed-tensors of %d bits: 2 to 8 are read", (int)bits);
        if (!first && (bits != u->bits || size != u->group_size))
            FAIL(err, MOTE_E_UNSUPPORTED, "compressed-tensors with groups of different bits or sizes ('%s') are not read", key);
        u->bits = bits;
        u->group_size = size;
        first = false;
    }
    return MOTE_OK;
}

static mote_status read_fp8(unpacker *u, const json_t *c, mote_error *err) {
    const json_t *b = json_object_get(c, "weight_block_size");
    u->bits = 8;
    for (size_t i = 0; i < 2 && json_array_size(b) == 2; i++) {
        json_int_t v = json_integer_value(json_array_get(b, i));
        if (v < 1 || v > 1 << 20) FAIL(err, MOTE_E_FORMAT, "quantization_config: weight_block_size is no pair of sizes");
        u->block[i] = (uint64_t)v;
    }
    return MOTE_OK;
}

static const json_t *config_of(const hf *h) {
    const json_t *c = json_object_get(h->root, "quantization_config");
    if (!c) c = json_object_get(h->cfg, "quantization_config");
    return c ? c : json_object_get(h->root, "compression_config");
}

/* MXFP4 has its own ops (gpt-oss). */
static mote_status read_method(unpacker *u, const json_t *c, bool *any, mote_error *err) {
    str name = json_get_str(c, "quant_method");
    *any = c != NULL && !str_is(name, "mxfp4");
    if (!*any) return MOTE_OK;
    if (str_is(name, "gptq")) {
        u->m = METHOD_GPTQ;
        return read_gptq(u, c, err);
    }
    if (str_is(name, "awq")) {
        u->m = METHOD_AWQ;
        return read_awq(u, c, err);
    }
    if (str_is(name, "compressed-tensors")) {
        u->m = METHOD_COMPRESSED;
        return read_compressed(u, c, err);
    }
    if (str_is(name, "fp8") || str_is(name, "fbgemm_fp8")) {
        u->m = METHOD_FP8;
        return read_fp8(u, c, err);
    }
    FAIL(err, MOTE_E_UNSUPPORTED, "the checkpoint is quantized with '%.*s', which is not read (gptq, awq, compressed-tensors and fp8 are): take the original "
         "weights, or a GGUF file", STR_ARG(name));
}

mote_status hf_check_quantized(hf *h, mote_error *err) {
    unpacker u = {.h = h};
    bool any;
    return read_method(&u, config_of(h), &any, err);
}

mote_status hf_unpack(hf *h, mote_error *err) {
    unpacker u = {.h = h, .src = h->src, .n_src = h->n_src, .group_size = -1};
    bool any;
    TRY(read_method(&u, config_of(h), &any, err));
    if (!any) return MOTE_OK;
    u.out = ARENA_NEW_N(&h->f->mem, hf_tensor, u.n_src + 1);
    if (!u.out) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < u.n_src; i++) TRY(unpack_one(&u, &u.src[i], err));
    h->src = u.out;
    h->n_src = u.n_out;
    if (!index_init(&h->src_index, &h->f->mem, u.n_out)) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < u.n_out; i++)
        if (index_add(&h->src_index, h->src, sizeof *h->src, i) != INDEX_ADDED)
            FAIL(err, MOTE_E_FORMAT, "tensor '%.*s' occurs quantized and not", STR_ARG(h->src[i].t->name));
    return MOTE_OK;
}
