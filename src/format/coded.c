/* coded.c: a tensor into coded bytes, and back (coded.h).
 *
 *   u32 magic, u16 type, u16 dimensions, u64 ne[4], u32 rows of a chunk, u32 chunks
 *   a distribution for each stream (levels; low, high bytes of the scales, then of the minima): 32 bytes, a bit for each symbol that occurs; u16
 *     frequencies of those
 *   for each chunk: u32 bytes of its streams, u64 sum over them and over all that stands before this list
 *   the streams
 *
 * Symbols of the levels are the bytes of a block as they lie in the file, one to five weights each; of Q3_96, whose three bits are apart
 * there, two weights side by side. */
#include "format/coded.h"

#include "base/base.h"
#include "quant/layout.h"
#include "quant/rans.h"

#include <string.h>

enum { STREAMS_MAX = 5, MAGIC = 0x3143524d /* "MRC1" */, HEAD = 4 + 2 + 2 + 8 * TENSOR_DIMS_MAX + 4 + 4, CHUNK_WEIGHTS = 1 << 18 };

/* How a format's blocks fall into symbols: half-precision numbers come first, and the levels follow. */
typedef struct shape {
    quant_type type;
    size_t symbols; /* of the levels of a block */
    int streams;    /* 1 + 2 for each half-precision number */
} shape;
static const shape shapes[] = {{QUANT_Q4_96, 48, 3}, {QUANT_Q3_96, 48, 3}, {QUANT_Q2_96, 24, 3}, {QUANT_TQ1_192, 39, 3},
                               {QUANT_Q4_0, 16, 3},  {QUANT_Q4_1, 16, 5},  {QUANT_Q8_0, 32, 3}};
static const shape *shape_of(quant_type t) {
    for (size_t i = 0; i < COUNT_OF(shapes); i++)
        if (shapes[i].type == t) return &shapes[i];
    return NULL;
}
bool coded_can(quant_type t) { return shape_of(t) != NULL; }
static size_t chunk_head(const shape *s) { return 4 * (size_t)s->streams + 8; }

/* ---- blocks and symbols ---- */

/* Eight symbols of six bits: weights 2i and 2i + 1 with their low pairs in bits 0, 1 and 3, 4, their third bits in 2 and 5. */
static void join_q3(uint8_t *s, const uint8_t *qs, const uint8_t *qh) {
    for (int i = 0; i < 8; i++) {
        unsigned low = qs[i / 2] >> i % 2 * 4 & 15u, high = qh[i / 4] >> i % 4 * 2 & 3u;
        s[i] = (uint8_t)((low & 3) | (low & 12) << 1 | (high & 1) << 2 | (high & 2) << 4);
    }
}
/* Its reverse, eight bytes in one word at a time. */
static void split_q3(const uint8_t *s, uint8_t *qs, uint8_t *qh) {
    const uint64_t ones = 0x0101010101010101u;
    uint64_t v;
    memcpy(&v, s, 8);
    uint64_t low = (v & 3 * ones) | (v >> 1 & 12 * ones), high = (v >> 2 & ones) | (v >> 4 & 2 * ones);
    low = (low | low >> 4) & 0x00ff00ff00ff00ffu; /* two symbols to a byte, in every second one */
    low = (low | low >> 8) & 0x0000ffff0000ffffu;
    low |= low >> 16;
    high = (high | high >> 6) & 0x000f000f000f000fu;
    high = (high | high >> 12) & 0x000000ff000000ffu;
    high |= high >> 24;
    uint32_t l = (uint32_t)low;
    uint16_t h = (uint16_t)high;
    memcpy(qs, &l, 4);
    memcpy(qh, &h, 2);
}

static void take_block(const shape *s, const uint8_t *block, uint8_t *symbols) {
    if (s->type != QUANT_Q3_96) {
        memcpy(symbols, block + s->streams - 1, s->symbols);
        return;
    }
    const q3_96_block *b = (const q3_96_block *)block;
    for (int i = 0; i < 6; i++) join_q3(symbols + 8 * i, b->qs + 4 * i, b->qh + 2 * i);
}
static void put_block(const shape *s, uint8_t *block, const uint8_t *symbols) {
    if (s->type != QUANT_Q3_96) {
        memcpy(block + s->streams - 1, symbols, s->symbols);
        return;
    }
    q3_96_block *b = (q3_96_block *)block;
    for (int i = 0; i < 6; i++) split_q3(symbols + 8 * i, b->qs + 4 * i, b->qh + 2 * i);
}

/* ---- numbers ---- */
static void put_next(uint8_t **p, uint64_t v, size_t n) {
    le_put(*p, v, n);
    *p += n;
}
/* Four running sums, each word multiplied in; what falls behind the last word is added byte by byte. */
static uint64_t sum_of(const uint8_t *p, size_t n) {
    enum { LANES = 4 };
    const uint64_t prime = 0x9e3779b97f4a7c15u;
    uint64_t h[LANES] = {1, 2, 3, 4}, w, all = n;
    size_t i = 0;
    for (; i + 8 * LANES <= n; i += 8 * LANES)
        for (size_t l = 0; l < LANES; l++) {
            memcpy(&w, p + i + 8 * l, 8);
            h[l] = (h[l] ^ w) * prime;
            h[l] ^= h[l] >> 29;
        }
    for (; i < n; i++) h[0] = (h[0] ^ p[i]) * prime;
    for (size_t l = 0; l < LANES; l++) all = (all ^ h[l]) * prime, all ^= all >> 32;
    return all;
}

/* ---- writing ---- */
typedef struct coder {
    const shape *s;
    const quant_format *f;
    const tensor_info *t;
    size_t row_bytes, row_blocks, rows, chunk_rows, chunks;
    uint8_t *symbols[STREAMS_MAX]; /* of a chunk */
    rans_model m[STREAMS_MAX];
} coder;

static mote_status coder_open(coder *c, const tensor_info *t, mote_error *err) {
    *c = (coder){.s = shape_of(t->type), .f = quant_get((int)t->type), .t = t};
    if (!c->s) FAIL(err, MOTE_E_UNSUPPORTED, "tensor '%.*s' is %s, which is not entropy-coded", STR_ARG(t->name), c->f ? c->f->name : "unknown");
    TRY(quant_row_bytes(c->f, t->ne[0], &c->row_bytes, err));
    c->rows = t->size / c->row_bytes;
    c->row_blocks = c->row_bytes / c->f->bytes;
    c->chunk_rows = MAX(CHUNK_WEIGHTS / (size_t)t->ne[0], (size_t)1);
    c->chunks = (c->rows + c->chunk_rows - 1) / c->chunk_rows;
    return MOTE_OK;
}

/* The symbols of a chunk into c->symbols; returns its blocks. */
static size_t take_chunk(coder *c, size_t chunk) {
    size_t from = chunk * c->chunk_rows, n = (MIN(c->chunk_rows, c->rows - from)) * c->row_blocks;
    const uint8_t *block = c->t->data + from * c->row_bytes;
    for (size_t i = 0; i < n; i++, block += c->f->bytes) {
        take_block(c->s, block, c->symbols[0] + i * c->s->symbols);
        for (int k = 1; k < c->s->streams; k++) c->symbols[k][i] = block[k - 1];
    }
    return n;
}
static size_t stream_symbols(const shape *s, size_t blocks, int stream) { return stream ? blocks : blocks * s->symbols; }

/* Room for the symbols of so many blocks; false: out of memory. symbols_close in any case. */
static bool symbols_open(const shape *s, size_t blocks, uint8_t *symbols[STREAMS_MAX]) {
    bool all = true;
    for (int k = 0; k < s->streams; k++) all &= (symbols[k] = MEM_NEW_N(uint8_t, stream_symbols(s, blocks, k))) != NULL;
    return all;
}
static void symbols_close(uint8_t *symbols[STREAMS_MAX]) {
    for (int k = 0; k < STREAMS_MAX; k++) mem_free(symbols[k]);
}

static void write_models(const coder *c, uint8_t **p) {
    for (int k = 0; k < c->s->streams; k++) {
        memset(*p, 0, RANS_SYMBOLS / 8);
        for (int i = 0; i < RANS_SYMBOLS; i++) (*p)[i / 8] |= (uint8_t)((c->m[k].freq[i] != 0) << i % 8);
        *p += RANS_SYMBOLS / 8;
        for (int i = 0; i < RANS_SYMBOLS; i++)
            if (c->m[k].freq[i]) put_next(p, c->m[k].freq[i], 2);
    }
}

static void fit_models(coder *c) {
    uint64_t counts[STREAMS_MAX][RANS_SYMBOLS] = {{0}};
    for (size_t chunk = 0; chunk < c->chunks; chunk++) {
        size_t n = take_chunk(c, chunk);
        for (int k = 0; k < c->s->streams; k++)
            for (size_t i = 0; i < stream_symbols(c->s, n, k); i++) counts[k][c->symbols[k][i]]++;
    }
    for (int k = 0; k < c->s->streams; k++) rans_fit(&c->m[k], counts[k]);
}

mote_status coded_write(const tensor_info *t, unsigned char **out, size_t *n, mote_error *err) {
    coder c;
    mote_status s = MOTE_OK;
    uint8_t *all = NULL, *room = NULL;
    *out = NULL;
    TRY(coder_open(&c, t, err));
    size_t blocks = c.chunk_rows * c.row_blocks, level_room = rans_bound(blocks * c.s->symbols), most;
    const bool room_for_symbols = symbols_open(c.s, blocks, c.symbols);
    most = HEAD + STREAMS_MAX * (RANS_SYMBOLS / 8 + 2 * RANS_SYMBOLS) + c.chunks * (chunk_head(c.s) + level_room + (STREAMS_MAX - 1) * rans_bound(blocks));
    all = MEM_NEW_N(uint8_t, most);
    room = MEM_NEW_N(uint8_t, level_room);
    if (!all || !room || !room_for_symbols) FAILG(s, err, MOTE_E_MEMORY, "out of memory for coding '%.*s'", STR_ARG(t->name));
    fit_models(&c);
    uint8_t *p = all;
    put_next(&p, MAGIC, 4);
    put_next(&p, (uint64_t)t->type, 2);
    put_next(&p, (uint64_t)t->n_dims, 2);
    for (int d = 0; d < TENSOR_DIMS_MAX; d++) put_next(&p, t->ne[d], 8);
    put_next(&p, c.chunk_rows, 4);
    put_next(&p, c.chunks, 4);
    write_models(&c, &p);
    uint8_t *head = p;
    const uint64_t before = sum_of(all, (size_t)(p - all));
    p += c.chunks * chunk_head(c.s);
    for (size_t chunk = 0; chunk < c.chunks; chunk++) {
        size_t count = take_chunk(&c, chunk);
        uint8_t *from = p;
        for (int k = 0; k < c.s->streams; k++) {
            size_t symbols = stream_symbols(c.s, count, k), bytes = rans_encode(&c.m[k], c.symbols[k], symbols, room);
            memcpy(p, room + rans_bound(symbols) - bytes, bytes);
            p += bytes;
            put_next(&head, bytes, 4);
        }
        put_next(&head, sum_of(from, (size_t)(p - from)) + before, 8);
    }
    *n = (size_t)(p - all);
    *out = all;
    all = NULL;
out:
    mem_free(all);
    mem_free(room);
    symbols_close(c.symbols);
    return s;
}

/* ---- reading ---- */

mote_status coded_read_head(const unsigned char *p, size_t n, tensor_info *t, mote_error *err) {
    if (n < HEAD || le_get(p, 4) != MAGIC) FAIL(err, MOTE_E_FORMAT, "'%.*s' is no coded tensor", STR_ARG(t->name));
    const shape *s = shape_of((quant_type)le_get(p + 4, 2));
    uint64_t dims = le_get(p + 6, 2), elements = 1, rows = 1;
    if (!s || dims < 1 || dims > TENSOR_DIMS_MAX) FAIL(err, MOTE_E_FORMAT, "coded tensor '%.*s': type %u, %u dimensions", STR_ARG(t->name), p[4] + 256u * p[5], (unsigned)dims);
    t->type = s->type;
    t->n_dims = (int)dims;
    for (int d = 0; d < TENSOR_DIMS_MAX; d++) {
        t->ne[d] = le_get(p + 8 + 8 * d, 8);
        if (t->ne[d] == 0 || (d >= t->n_dims && t->ne[d] != 1) || !ckd_mul_u64(&elements, elements, t->ne[d]) || elements > INT64_MAX)
            FAIL(err, MOTE_E_FORMAT, "coded tensor '%.*s': dimension %d is %llu", STR_ARG(t->name), d, (unsigned long long)t->ne[d]);
    }
    const quant_format *f = quant_get((int)s->type);
    size_t row_bytes, chunk_rows = (size_t)le_get(p + HEAD - 8, 4), chunks = (size_t)le_get(p + HEAD - 4, 4);
    mote_error why;
    if (quant_row_bytes(f, t->ne[0], &row_bytes, &why) != MOTE_OK) FAIL(err, MOTE_E_FORMAT, "coded tensor '%.*s': %s", STR_ARG(t->name), why.message);
    rows = elements / t->ne[0];
    if (!ckd_mul_size(&t->size, row_bytes, (size_t)rows)) FAIL(err, MOTE_E_FORMAT, "the dimensions of coded tensor '%.*s' are too large", STR_ARG(t->name));
    if (chunk_rows == 0 || chunks != (rows + chunk_rows - 1) / chunk_rows || chunks > n / chunk_head(s))
        FAIL(err, MOTE_E_FORMAT, "coded tensor '%.*s': %zu chunks of %zu rows, and %llu rows", STR_ARG(t->name), chunks, chunk_rows, (unsigned long long)rows);
    return MOTE_OK;
}

size_t coded_chunks(const unsigned char *p) { return (size_t)le_get(p + HEAD - 4, 4); }

/* The distributions, from *at on, and *at behind them. */
static mote_status read_models(const shape *s, const uint8_t *p, size_t n, size_t *at, rans_model m[STREAMS_MAX], mote_error *err) {
    for (int k = 0; k < s->streams; k++) {
        const uint8_t *bits = p + *at;
        if (n - *at < RANS_SYMBOLS / 8) FAIL(err, MOTE_E_FORMAT, "a coded tensor ends in its distributions");
        *at += RANS_SYMBOLS / 8;
        for (int i = 0; i < RANS_SYMBOLS; i++) {
            m[k].freq[i] = 0;
            if (!(bits[i / 8] >> i % 8 & 1)) continue;
            if (n - *at < 2) FAIL(err, MOTE_E_FORMAT, "a coded tensor ends in its distributions");
            m[k].freq[i] = (uint16_t)le_get(p + *at, 2);
            *at += 2;
        }
    }
    return MOTE_OK;
}

/* Where a chunk's streams are: *at, their sizes, and those together. */
static mote_status find_chunk(const shape *s, const uint8_t *p, size_t n, size_t heads, size_t chunk, size_t *at, size_t bytes[STREAMS_MAX], size_t *together, uint64_t *sum,
                              mote_error *err) {
    size_t chunks = coded_chunks(p), each = chunk_head(s);
    if ((n - heads) / each < chunks) FAIL(err, MOTE_E_FORMAT, "a coded tensor ends in its list of chunks");
    *at = heads + chunks * each;
    for (size_t i = 0; i <= chunk; i++) {
        const uint8_t *h = p + heads + i * each;
        size_t all = 0;
        for (int k = 0; k < s->streams; k++) all += bytes[k] = (size_t)le_get(h + 4 * k, 4);
        *sum = le_get(h + 4 * s->streams, 8);
        *together = all;
        if (all > n - *at) FAIL(err, MOTE_E_FORMAT, "chunk %zu of a coded tensor ends beyond it", i);
        if (i < chunk) *at += all;
    }
    return MOTE_OK;
}

mote_status coded_read_chunk(const unsigned char *p, size_t n, const tensor_info *t, size_t chunk, unsigned char *dst, mote_error *err) {
    const shape *s = shape_of(t->type);
    const quant_format *f = quant_get((int)t->type);
    size_t chunk_rows = (size_t)le_get(p + HEAD - 8, 4), row_blocks = (size_t)t->ne[0] / f->block, rows = t->size / (row_blocks * f->bytes);
    size_t from = chunk * chunk_rows, blocks = MIN(chunk_rows, rows - from) * row_blocks, heads = HEAD, at = 0, bytes[STREAMS_MAX] = {0}, together = 0;
    uint64_t sum = 0;
    rans_model m[STREAMS_MAX];
    uint8_t *symbols[STREAMS_MAX] = {NULL};
    mote_status st = MOTE_OK;
    rans_table *table = mem_alloc_aligned(sizeof *table);
    const bool room = symbols_open(s, blocks, symbols);
    if (!table || !room) FAILG(st, err, MOTE_E_MEMORY, "out of memory for coded tensor '%.*s'", STR_ARG(t->name));
    TRYG(st, read_models(s, p, n, &heads, m, err));
    TRYG(st, find_chunk(s, p, n, heads, chunk, &at, bytes, &together, &sum, err));
    if (sum_of(p + at, together) + sum_of(p, heads) != sum) FAILG(st, err, MOTE_E_FORMAT, "chunk %zu of coded tensor '%.*s' is damaged", chunk, STR_ARG(t->name));
    for (int k = 0; k < s->streams; k++) {
        TRYG(st, rans_open(table, &m[k], err));
        TRYG(st, rans_decode(table, p + at, bytes[k], symbols[k], stream_symbols(s, blocks, k), err));
        at += bytes[k];
    }
    dst += from * row_blocks * f->bytes;
    for (size_t i = 0; i < blocks; i++, dst += f->bytes) {
        for (int k = 1; k < s->streams; k++) dst[k - 1] = symbols[k][i];
        put_block(s, dst, symbols[0] + i * s->symbols);
    }
out:
    mem_free_aligned(table);
    symbols_close(symbols);
    return st;
}
