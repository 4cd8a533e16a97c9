/* token_int.h: what the files of src/token share. */
#ifndef MOTE_TOKEN_TOKEN_INT_H
#define MOTE_TOKEN_TOKEN_INT_H

#include "token/token.h"

/* Limits on what a file may ask for. */
#define TOK_VOCAB_MAX ((size_t)4 << 20)   /* tokens */
#define TOK_MERGES_MAX ((size_t)8 << 20)  /* merges */
#define TOK_TOKEN_BYTES_MAX ((size_t)16384) /* one token's text */
#define TOK_TRIE_NODES_MAX ((size_t)0xFFFFFF) /* a node number and a byte share 32 bits */
#define TOK_JOINT_BITS 22 /* of the Bloom filter of joints */
#define TOK_AROUND_MAX 8 /* tokens before or after a text */

/* ---- map.c: text -> symbol id, and (symbol, symbol) -> merge ---- */

/* Open addressing; the texts themselves stand in an array indexed by id. The hash is seeded per vocabulary, so a
 * file cannot be made to collide. */
typedef struct tok_map {
    struct tok_slot {
        uint32_t hash;
        int32_t id; /* −1: empty */
    } *slot;
    uint32_t mask;
    uint32_t n;
    uint64_t seed;
} tok_map;
mote_status tok_map_init(tok_map *m, size_t n, mote_error *err); /* room for n */
void tok_map_free(tok_map *m);
/* Puts id under texts[id]; a later id takes an earlier one's place. */
mote_status tok_map_put(tok_map *m, const str *texts, int32_t id, mote_error *err);
int32_t tok_map_get(const tok_map *m, const str *texts, const char *p, size_t n);
/* The same for n ≤ TOK_MANY_MAX keys at once, waiting for memory only once. */
#define TOK_MANY_MAX 64
void tok_map_get_many(const tok_map *m, const str *texts, const str *keys, int32_t *ids, size_t n);

typedef struct tok_merges {
    struct tok_merge {
        int32_t left, right; /* left −1: empty */
        uint32_t rank;
        int32_t made;
    } *slot;
    uint32_t mask;
    uint64_t seed;
} tok_merges;
mote_status tok_merges_init(tok_merges *m, size_t n, mote_error *err);
void tok_merges_free(tok_merges *m);
void tok_merges_put(tok_merges *m, int32_t left, int32_t right, uint32_t rank, int32_t made); /* the first stays */
void tok_merges_expect(const tok_merges *m, int32_t left, int32_t right); /* it will be put soon */
const struct tok_merge *tok_merges_get(const tok_merges *m, int32_t left, int32_t right);

/* A byte trie whose edges lie in one hash table. Node 0 is the root. */
typedef struct tok_trie {
    struct tok_edge {
        uint32_t from_byte; /* node << 8 | byte; UINT32_MAX: empty */
        uint32_t to;
    } *edge;
    int32_t *value; /* per node; TOK_NONE */
    uint32_t mask, n_nodes, cap_nodes;
    uint64_t seed;
} tok_trie;
mote_status tok_trie_init(tok_trie *t, mote_error *err);
void tok_trie_free(tok_trie *t);
/* Puts value under the text lead+s; a later value takes an earlier one's place. */
mote_status tok_trie_put(tok_trie *t, str lead, str s, int32_t value, mote_error *err);
uint32_t tok_trie_step(const tok_trie *t, uint32_t node, unsigned char c); /* 0 when there is no such child */
static inline int32_t tok_trie_value(const tok_trie *t, uint32_t node) { return t->value[node]; }
static inline bool tok_trie_is_empty(const tok_trie *t) { return t->n_nodes <= 1; }

/* ---- unicode.c ---- */

typedef enum tok_class { /* general categories as the tokenizers' regexes see them */
    TOK_CLS_OTHER, TOK_CLS_LU, TOK_CLS_LL, TOK_CLS_LT, TOK_CLS_LM, TOK_CLS_LO, TOK_CLS_M, TOK_CLS_ND, TOK_CLS_NO,
    TOK_CLS_P, TOK_CLS_S, TOK_CLS_SPACE, TOK_CLS_CONTROL, TOK_CLS_UNASSIGNED
} tok_class;
tok_class tok_uni_class(uint32_t cp);
bool tok_uni_space(uint32_t cp); /* White_Space */
bool tok_uni_han(uint32_t cp);   /* the blocks of Chinese characters */
uint32_t tok_uni_lower(uint32_t cp);

/* ---- pre.c: cutting text into words before merging ---- */

typedef struct tok_pre tok_pre; /* a compiled list of passes */
typedef enum tok_split {        /* what happens to what a pass matches (names of tokenizer.json) */
    TOK_SPLIT_ISOLATED, TOK_SPLIT_REMOVED, TOK_SPLIT_MERGED_PREVIOUS, TOK_SPLIT_MERGED_NEXT, TOK_SPLIT_CONTIGUOUS
} tok_split;
mote_status tok_pre_new(tok_pre **out, mote_error *err);
void tok_pre_free(tok_pre **p);
/* The cuts that a GGUF's tokenizer.ggml.pre names. E_NOT_FOUND: an unknown name. */
mote_status tok_pre_named(tok_pre **out, str name, mote_error *err);
/* Adds a pass: a regex in the syntax of pre.def. With invert, what lies between matches counts as matched. */
mote_status tok_pre_add(tok_pre *p, str regex, tok_split how, bool invert, mote_error *err);

typedef struct tok_pieces { /* lengths in bytes; they cover the text from its beginning */
    uint32_t *len;
    bool *dropped;
    size_t n, cap, cap_dropped;
} tok_pieces;
void tok_pieces_free(tok_pieces *p);

typedef struct tok_cut tok_cut; /* scratch of one encode call */
mote_status tok_cut_open(tok_cut **out, const tok_pre *p, mote_error *err);
void tok_cut_close(tok_cut **c);
/* The pieces of text, valid until the next call. Without passes: one piece. */
mote_status tok_cut_run(tok_cut *c, str text, const tok_pieces **out, mote_error *err);

/* ---- the vocabulary ---- */

typedef struct tok_norm tok_norm; /* the normalizer of a tokenizer.json (json_norm.c) */
typedef struct tok_charsmap {     /* SentencePiece's precompiled normalization (unigram.c) */
    const unsigned char *units;   /* XOR-compressed double array: n_units little-endian u32 */
    size_t n_units;
    const char *texts; /* NUL-terminated replacements */
    size_t n_texts;
} tok_charsmap;

enum { TOK_FLAG_LSTRIP = 1, TOK_FLAG_RSTRIP = 2, TOK_FLAG_DELIMITER = 4, TOK_FLAG_EOG = 8, TOK_FLAG_WORD = 16,
       TOK_FLAG_NORMALIZED = 32, TOK_FLAG_ADDED = 64 /* tokenizer.json: not known to the model itself */ };

struct tok_vocab {
    tok_kind kind;
    arena mem; /* everything below that is not a view into the file */
    size_t n;  /* tokens */
    str *text; /* n tokens, then the symbols of merges that are not tokens */
    size_t n_syms, cap_syms;
    uint8_t *type, *flag;
    double *score; /* SPM, unigram */
    tok_map map;
    int32_t role[TOK_ROLES];
    int32_t before[TOK_AROUND_MAX], after[TOK_AROUND_MAX];
    int n_before, n_after;

    buf piece_bytes;
    str pieces;           /* the bytes of all tokens, end to end */
    uint32_t *piece_from; /* n + 1 offsets */

    tok_trie special;  /* CONTROL, UNKNOWN and USER_DEFINED tokens, to be found in text */
    size_t token_len_max;

    /* BPE */
    tok_merges merges;
    tok_pre *pre;
    int32_t byte_sym[256]; /* the symbol each byte starts as (byte-level), or is spelled with (<0x0A>) */
    bool byte_level;       /* text is mapped to GPT-2's printable stand-ins; otherwise raw UTF-8 */
    bool byte_fallback;    /* <0xXX> for what has no token */
    bool ignore_merges;    /* a word that is a token is that token */
    bool newline_words;    /* Gemma 4: a run of newlines that is a token is that token */
    bool fuse_unk;
    tok_pre *pre2;        /* tokenizer.json: passes after the text was changed */
    uint64_t *joints;      /* Bloom filter of the character pairs that occur inside symbols; NULL: cut nowhere */

    /* SPM, unigram, BPE without byte-level */
    bool escape_space, add_space_prefix, merge_spaces;
    /* unigram, WordPiece, RWKV */
    tok_trie trie;
    double unk_score;
    tok_charsmap charsmap;
    tok_trie user_trie; /* unigram: user-defined tokens are not normalized */
    bool lower, strip_accents; /* WordPiece from GGUF */
    size_t word_chars_max;

    /* tokenizer.json */
    bool from_json;
    tok_norm *norm;
    tok_trie late;    /* added tokens that are looked for after normalization */
    bool meta;        /* Metaspace: ▁ for spaces, one in front by meta_prefix */
    bool byte_prefix; /* ByteLevel: a space in front */
    enum { TOK_PREFIX_NEVER, TOK_PREFIX_ALWAYS, TOK_PREFIX_FIRST } meta_prefix;
    str char_prefix; /* WordPiece: continuing_subword_prefix */
};

/* vocab.c */
mote_status tok_vocab_new(tok_vocab **out, mote_error *err);
/* Fills the map from text[0..n). */
mote_status tok_vocab_index(tok_vocab *v, mote_error *err);
/* The symbol for a text, made when it is new; the bytes are copied then. */
mote_status tok_vocab_symbol(tok_vocab *v, str s, int32_t *id, mote_error *err);
/* Roles and end-of-generation by well-known names, pieces, the special trie. chat_template may be empty. */
mote_status tok_vocab_finish(tok_vocab *v, str chat_template, mote_error *err);
/* The token that merging may produce: TOK_NONE for control, unknown and byte tokens and for symbols. */
static inline int32_t tok_plain(const tok_vocab *v, int32_t sym) {
    if (sym < 0 || (size_t)sym >= v->n) return TOK_NONE;
    uint8_t t = v->type[sym];
    bool never = t == TOK_CONTROL || t == TOK_UNKNOWN || t == TOK_BYTE || (v->flag[sym] & TOK_FLAG_ADDED);
    return never ? TOK_NONE : sym;
}
/* "<0x0A>" -> 10; −1 when s is not a byte token's text. */
int tok_byte_value(str s);
/* GPT-2's stand-in for a byte, as UTF-8 (1 or 2 bytes). */
size_t tok_byte_char(unsigned char byte, char out[4]);
int tok_char_byte(uint32_t cp); /* the reverse, −1 */
/* Loads n merges; at() gives the two sides of the i-th, false when it is none. With tokens_only, sides that are no
 * tokens make it none as well. *odd counts those. */
typedef bool (*tok_merge_at)(const void *list, size_t i, str *left, str *right);
mote_status tok_merges_load(tok_vocab *v, size_t n, tok_merge_at at, const void *list, bool tokens_only, size_t *odd,
                            mote_error *err);
mote_status tok_joints_build(tok_vocab *v, mote_error *err);
bool tok_joined(const tok_vocab *v, uint32_t a, uint32_t b);

/* ---- encoding ---- */

typedef struct tok_work { /* scratch of one encode call */
    const tok_vocab *v;
    tok_ids *out;
    mote_error *err;
    struct tok_links *links; /* merge.c */
    size_t cap_links;
    struct tok_queue *queue;
    tok_cut *cut, *cut2;
    buf text, norm, norm2, piece;
    bool parse_control;
    bool first;       /* what is encoded now begins at the beginning of the text */
    size_t word_from; /* ids before it belong to earlier words */
    void *path;     /* unigram.c */
    size_t cap_path;
} tok_work;
mote_status tok_emit(tok_work *w, int32_t id);
mote_status tok_emit_unknown(tok_work *w);
/* One stretch of text between special tokens. */
mote_status tok_bpe_encode(tok_work *w, str text);
mote_status tok_bpe_word(tok_work *w, str word);
mote_status tok_spm_encode(tok_work *w, str text);
mote_status tok_escape_spaces(str text, bool prefix, buf *out, mote_error *err); /* appends, ' ' as ▁ */
/* charsmap.c: p must outlive m. match: how many bytes are replaced by what, 0 for none. */
mote_status tok_charsmap_open(tok_charsmap *m, const unsigned char *p, size_t n, mote_error *err);
size_t tok_charsmap_match(const tok_charsmap *m, const char *p, size_t n, str *replacement);
/* Each kind: what is made when a vocabulary opens, text to ids, and that without its normalization. */
mote_status tok_unigram_prepare(tok_vocab *v, const kv *charsmap, mote_error *err);
mote_status tok_unigram_encode(tok_work *w, str text);
mote_status tok_unigram_words(tok_work *w, str text);
mote_status tok_wordpiece_prepare(tok_vocab *v, mote_error *err);
mote_status tok_wordpiece_encode(tok_work *w, str text);
mote_status tok_wordpiece_word(tok_work *w, str word);
mote_status tok_trie_prepare(tok_vocab *v, mote_error *err);
mote_status tok_trie_encode(tok_work *w, str text);
mote_status tok_plamo2_prepare(tok_vocab *v, mote_error *err);
mote_status tok_plamo2_encode(tok_work *w, str text);
mote_status tok_json_encode(tok_work *w, str text, bool first);
/* merge.c: merges a run of text and emits what it comes to. */
mote_status tok_merge_run(tok_work *w, str text);
void tok_queue_free(struct tok_queue **q);
/* rwkv.c: \n, \xHH, … in a token's text. */
void tok_trie_unescape(str s, buf *out);
/* json_norm.c */
void tok_norm_free(tok_norm **n);
void tok_work_free(tok_work *w);

/* special.c: calls raw() for the stretches between special tokens and emits those. */
mote_status tok_partition(tok_work *w, const tok_trie *specials, str text, const tok_span *spans, size_t n_spans, bool parse_control,
                          mote_status (*raw)(tok_work *w, str text, bool first));

/* vocab_gguf.c */
/* Ids of roles that the metadata names take the place of those known so far. */
mote_status tok_roles_read(tok_vocab *v, const model_file *f, const log_sink *log, mote_error *err);
mote_status tok_open_gguf(tok_vocab *v, const model_file *f, const log_sink *log, mote_error *err);

#endif
