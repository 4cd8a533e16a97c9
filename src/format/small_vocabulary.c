/* small_vocabulary.c: a vocabulary stored small. The three lists of a byte-pair vocabulary (tokens, their types, merges) say most things
 * twice: merge k makes token first + k, so that where it is cut says all of it. What is left is compressed into one key:
 *
 *   mote.vocabulary   u8[]: zstd of
 *       u32 tokens, u32 merges, u32 first; u16 length of each token; u8 type of each; u8 length of each merge's left part; the tokens' bytes
 *
 * Opening a file gives it the three lists again. */
#include "base/zip.h"
#include "format/coded.h"
#include "format/format_int.h"

#define KEY "mote.vocabulary"
#define TOKENS "tokenizer.ggml.tokens"
#define TYPES "tokenizer.ggml.token_type"
#define MERGES "tokenizer.ggml.merges"
enum { HEAD = 12, RAW_MAX = 1 << 26, TOKENS_MAX = 1 << 22 };

/* Where the merge is cut; 0: it is not the token's two parts with one space between. */
static size_t cut_of(str merge, str token) {
    if (merge.n != token.n + 1) return 0;
    for (size_t i = 1; i < token.n && i < 256; i++)
        if (merge.p[i] == ' ' && memcmp(merge.p, token.p, i) == 0 && memcmp(merge.p + i + 1, token.p + i, token.n - i) == 0) return i;
    return 0;
}

/* Fills raw, whose lists have their places, or says that the lists are not of this kind. */
static bool fill(unsigned char *raw, const kv *tokens, const kv *types, const kv *merges, size_t first) {
    unsigned char *lengths = raw + HEAD, *kinds = lengths + 2 * tokens->count, *cuts = kinds + tokens->count, *text = cuts + merges->count;
    le_put(raw, tokens->count, 4);
    le_put(raw + 4, merges->count, 4);
    le_put(raw + 8, first, 4);
    for (size_t i = 0; i < tokens->count; i++) {
        str t = kv_at_str(tokens, i);
        int64_t kind;
        if (t.n > UINT16_MAX || !kv_at_int(types, i, &kind) || kind < 0 || kind > 255) return false;
        le_put(lengths + 2 * i, t.n, 2);
        kinds[i] = (unsigned char)kind;
        memcpy(text, t.p, t.n);
        text += t.n;
    }
    for (size_t k = 0; k < merges->count; k++) {
        size_t cut = cut_of(kv_at_str(merges, k), kv_at_str(tokens, first + k));
        if (cut == 0) return false;
        cuts[k] = (unsigned char)cut;
    }
    return true;
}

/* The token that the first merge makes: all that follow are merges', but for some at the end. */
static size_t first_merged(const kv *tokens, const kv *merges) {
    for (size_t i = 0; i + merges->count <= tokens->count; i++)
        if (cut_of(kv_at_str(merges, 0), kv_at_str(tokens, i))) return i;
    return SIZE_MAX;
}

mote_status vocabulary_pack(const model_file *f, unsigned char **out, size_t *n, mote_error *err) {
    const kv *tokens = model_file_find(f, TOKENS), *types = model_file_find(f, TYPES), *merges = model_file_find(f, MERGES);
    *out = NULL;
    bool lists = tokens && types && merges && tokens->elem == KV_STRING && merges->elem == KV_STRING && types->type == KV_ARRAY && types->elem == KV_I32;
    if (!lists || merges->count == 0 || tokens->count != types->count || tokens->count > TOKENS_MAX) return MOTE_OK;
    size_t first = first_merged(tokens, merges), size = HEAD + 3 * (size_t)tokens->count + (size_t)merges->count;
    if (first == SIZE_MAX) return MOTE_OK;
    for (size_t i = 0; i < tokens->count; i++) size += kv_at_str(tokens, i).n;
    if (size > RAW_MAX) return MOTE_OK;
    unsigned char *raw = MEM_NEW_N(unsigned char, size);
    if (!raw) FAIL(err, MOTE_E_MEMORY, "out of memory for a vocabulary of %llu tokens", (unsigned long long)tokens->count);
    mote_status s = fill(raw, tokens, types, merges, first) ? zip_pack(raw, size, out, n, err) : MOTE_OK;
    mem_free(raw);
    return s;
}

const char *const vocabulary_keys[] = {KEY, TOKENS, TYPES, MERGES, NULL};

/* ---- reading ---- */
typedef struct parts {
    const unsigned char *lengths, *kinds, *cuts;
    char *text;
    size_t n_tokens, n_merges, first, n_text;
} parts;

static bool split(parts *p, unsigned char *raw, size_t n) {
    if (n < HEAD) return false;
    *p = (parts){.n_tokens = (size_t)le_get(raw, 4), .n_merges = (size_t)le_get(raw + 4, 4), .first = (size_t)le_get(raw + 8, 4)};
    if (p->n_tokens > TOKENS_MAX || p->n_merges > p->n_tokens || p->first > p->n_tokens - p->n_merges || n - HEAD < 3 * p->n_tokens + p->n_merges) return false;
    p->lengths = raw + HEAD;
    p->kinds = p->lengths + 2 * p->n_tokens;
    p->cuts = p->kinds + p->n_tokens;
    p->text = (char *)raw + HEAD + 3 * p->n_tokens + p->n_merges;
    p->n_text = n - HEAD - 3 * p->n_tokens - p->n_merges;
    size_t all = 0;
    for (size_t i = 0; i < p->n_tokens; i++) all += (size_t)le_get(p->lengths + 2 * i, 2);
    for (size_t k = 0; k < p->n_merges; k++)
        if (p->cuts[k] == 0 || p->cuts[k] >= (size_t)le_get(p->lengths + 2 * (p->first + k), 2)) return false;
    return all == p->n_text;
}

/* The lists, in f's arena. */
static mote_status build(model_file *f, const parts *p, kv out[3], mote_error *err) {
    str *tokens = ARENA_NEW_N(&f->mem, str, p->n_tokens), *merges = ARENA_NEW_N(&f->mem, str, p->n_merges);
    unsigned char *types = ARENA_NEW_N(&f->mem, unsigned char, 4 * p->n_tokens);
    char *text = ARENA_NEW_N(&f->mem, char, p->n_text), *joined = ARENA_NEW_N(&f->mem, char, p->n_text + p->n_merges);
    if (!tokens || !merges || !types || !text || !joined) FAIL(err, MOTE_E_MEMORY, "out of memory for a vocabulary of %zu tokens", p->n_tokens);
    memcpy(text, p->text, p->n_text);
    for (size_t i = 0; i < p->n_tokens; i++) {
        tokens[i] = (str){text, (size_t)le_get(p->lengths + 2 * i, 2)};
        text += tokens[i].n;
        le_put(types + 4 * i, p->kinds[i], 4);
    }
    for (size_t k = 0; k < p->n_merges; k++) {
        str t = tokens[p->first + k];
        size_t cut = p->cuts[k];
        merges[k] = (str){joined, t.n + 1};
        memcpy(joined, t.p, cut);
        joined[cut] = ' ';
        memcpy(joined + cut + 1, t.p + cut, t.n - cut);
        joined += t.n + 1;
    }
    out[0] = (kv){.key = STR(TOKENS), .type = KV_ARRAY, .elem = KV_STRING, .count = p->n_tokens, .strings = tokens};
    out[1] = (kv){.key = STR(TYPES), .type = KV_ARRAY, .elem = KV_I32, .count = p->n_tokens, .elems = types};
    out[2] = (kv){.key = STR(MERGES), .type = KV_ARRAY, .elem = KV_STRING, .count = p->n_merges, .strings = merges};
    return MOTE_OK;
}

mote_status model_file_open_vocabulary(model_file *f, mote_error *err) {
    const kv *k = model_file_find(f, KEY);
    if (!k) return MOTE_OK;
    unsigned char *raw = NULL;
    size_t n;
    parts p;
    mote_status s = MOTE_OK;
    kv *all = ARENA_NEW_N(&f->mem, kv, f->n_kv + 2);
    if (!all) FAIL(err, MOTE_E_MEMORY, "out of memory");
    if (k->type != KV_ARRAY || k->elem != KV_U8) FAIL(err, MOTE_E_FORMAT, "'" KEY "' is no list of bytes");
    TRYG(s, zip_unpack(k->elems, (size_t)k->count, RAW_MAX, &raw, &n, err));
    if (!split(&p, raw, n)) FAILG(s, err, MOTE_E_FORMAT, "'" KEY "' is damaged: its lists do not fit each other");
    size_t at = (size_t)(k - f->kvs);
    memcpy(all, f->kvs, at * sizeof *all);
    TRYG(s, build(f, &p, all + at, err));
    memcpy(all + at + 3, f->kvs + at + 1, (f->n_kv - at - 1) * sizeof *all);
    f->kvs = all;
    f->n_kv += 2;
    s = model_file_index(f, err); /* lists that the file has beside it are named twice */
out:
    mem_free(raw);
    return s;
}
