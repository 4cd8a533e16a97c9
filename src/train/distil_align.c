/* distil_align.c: two vocabularies over the same text. See distil.h. */
#include "train/distil.h"

#include <string.h>

/* Bytes of a token to its id: open addressing. */
typedef struct piece_table {
    int32_t *slots; /* [mask + 1] ids, or TOK_NONE */
    size_t mask, longest;
    const tok_vocab *v;
} piece_table;

struct distil_align {
    const tok_vocab *student, *teacher;
    int32_t *map, *same; /* [teacher's vocabulary] */
    double shared;
    buf text;
    tok_ids ids; /* of all sequences, one after the other */
    uint32_t *start;
    int32_t *pos, *ours_at, *theirs_at;
    distil_span *spans;
    size_t cap_start, cap_pos, cap_at, cap_spans;
};

static uint64_t hash_of(str s) {
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < s.n; i++) h = (h ^ (unsigned char)s.p[i]) * 1099511628211u;
    return h ^ h >> 29;
}

static bool table_open(piece_table *t, const tok_vocab *v) {
    size_t n = tok_count(v), room = 1;
    while (room < 2 * n + 2) room *= 2;
    *t = (piece_table){.slots = MEM_NEW_N(int32_t, room), .mask = room - 1, .v = v};
    if (!t->slots) return false;
    for (size_t i = 0; i < room; i++) t->slots[i] = TOK_NONE;
    for (int32_t id = 0; id < (int32_t)n; id++) {
        str p = tok_piece(v, id, 0);
        if (p.n == 0) continue;
        size_t at = hash_of(p) & t->mask;
        while (t->slots[at] != TOK_NONE && !str_eq(tok_piece(v, t->slots[at], 0), p)) at = (at + 1) & t->mask;
        if (t->slots[at] == TOK_NONE) t->slots[at] = id; /* of equal ones the first */
        t->longest = MAX(t->longest, p.n);
    }
    return true;
}

static int32_t table_find(const piece_table *t, str p) {
    for (size_t at = hash_of(p) & t->mask; t->slots[at] != TOK_NONE; at = (at + 1) & t->mask)
        if (str_eq(tok_piece(t->v, t->slots[at], 0), p)) return t->slots[at];
    return TOK_NONE;
}

static int32_t longest_prefix(const piece_table *t, str p) {
    for (size_t n = MIN(p.n, t->longest); n > 0; n--) {
        int32_t id = table_find(t, (str){p.p, n});
        if (id != TOK_NONE) return id;
    }
    return TOK_NONE;
}

bool distil_same_vocab(const tok_vocab *a, const tok_vocab *b) {
    size_t na = tok_count(a), nb = tok_count(b), n = MIN(na, nb);
    const tok_vocab *longer = na > nb ? a : b;
    for (int32_t i = 0; i < (int32_t)n; i++)
        if (!str_eq(tok_text(a, i), tok_text(b, i)) || tok_type_of(a, i) != tok_type_of(b, i)) return false;
    for (int32_t i = (int32_t)n; i < (int32_t)tok_count(longer); i++)
        if (tok_type_of(longer, i) != TOK_UNUSED) return false;
    return true;
}

/* What ends a text or a turn in one ends it in the other; other control tokens are known by their names. */
static int32_t control_of(const tok_vocab *student, const tok_vocab *teacher, int32_t id) {
    int32_t same = tok_find(student, tok_text(teacher, id));
    if (same != TOK_NONE && tok_is_control(student, same)) return same;
    static const tok_role ends[] = {TOK_ROLE_EOT, TOK_ROLE_EOS};
    for (size_t i = 0; i < COUNT_OF(ends); i++)
        if (id == tok_id(teacher, ends[i]) && tok_id(student, ends[i]) != TOK_NONE) return tok_id(student, ends[i]);
    return tok_is_eog(teacher, id) ? tok_id(student, TOK_ROLE_EOS) : TOK_NONE;
}

mote_status distil_align_open(distil_align **out, const tok_vocab *student, const tok_vocab *teacher, mote_error *err) {
    distil_align *a = MEM_NEW(distil_align);
    piece_table t = {0};
    size_t n = tok_count(teacher), same = 0, texts = 0;
    mote_status s = MOTE_OK;
    if (!a) FAIL(err, MOTE_E_MEMORY, "out of memory");
    a->student = student;
    a->teacher = teacher;
    buf_init(&a->text, TOK_TEXT_BYTES_MAX);
    a->map = MEM_NEW_N(int32_t, n ? n : 1);
    a->same = MEM_NEW_N(int32_t, n ? n : 1);
    if (!a->map || !a->same || !table_open(&t, student)) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    for (int32_t i = 0; i < (int32_t)n; i++) {
        str p = tok_piece(teacher, i, 0);
        a->map[i] = p.n ? longest_prefix(&t, p) : control_of(student, teacher, i);
        bool whole = a->map[i] != TOK_NONE && (p.n == 0 || tok_piece(student, a->map[i], 0).n == p.n);
        a->same[i] = whole ? a->map[i] : TOK_NONE;
        if (p.n == 0 || tok_type_of(teacher, i) == TOK_UNUSED) continue;
        texts++;
        same += whole;
    }
    a->shared = texts ? (double)same / (double)texts : 0;
    if (same == 0) FAILG(s, err, MOTE_E_MISMATCH, "the student's vocabulary of %zu tokens and the teacher's of %zu have no token in common", tok_count(student), n);
    *out = a;
    a = NULL;
out:
    mem_free(t.slots);
    distil_align_close(&a);
    return s;
}

void distil_align_close(distil_align **a) {
    if (!*a) return;
    mem_free((*a)->map);
    mem_free((*a)->same);
    mem_free((*a)->start);
    mem_free((*a)->pos);
    mem_free((*a)->ours_at);
    mem_free((*a)->theirs_at);
    mem_free((*a)->spans);
    buf_free(&(*a)->text);
    tok_ids_free(&(*a)->ids);
    mem_free(*a);
    *a = NULL;
}

const int32_t *distil_align_map(const distil_align *a) { return a->map; }
const int32_t *distil_align_same(const distil_align *a) { return a->same; }
double distil_align_shared(const distil_align *a) { return a->shared; }

static size_t bytes_of(const tok_vocab *v, int32_t id) { return tok_piece(v, id, 0).n; }

/* Whether the teacher's tokens spell the text; *extra: bytes that its tokenizer put in front (a space). If it changes text in another way,
 * no border can be trusted. */
static bool spells(const distil_align *a, size_t first, size_t *extra) {
    size_t whole = 0, at = 0;
    for (size_t j = first; j < a->ids.n; j++) whole += bytes_of(a->teacher, a->ids.p[j]);
    *extra = whole == a->text.n + 1;
    if (whole != a->text.n + *extra) return false;
    for (size_t j = first; j < a->ids.n; j++) {
        str p = tok_piece(a->teacher, a->ids.p[j], 0);
        for (size_t i = 0; i < p.n; i++, at++)
            if (at < *extra ? p.p[i] != ' ' : p.p[i] != a->text.p[at - *extra]) return false;
    }
    return true;
}

/* One sequence: its text in the teacher's tokens, and the rows where both end at the same byte. */
static mote_status align_one(distil_align *a, const data_batch *b, size_t from, size_t to, distil_aligned *out, mote_error *err) {
    size_t first = a->ids.n, at = first, extra, theirs, ours = 0;
    a->text.n = 0;
    for (size_t i = from; i < to; i++) buf_put_str(&a->text, tok_piece(a->student, b->ids[i], 0));
    TRY(buf_check(&a->text, "a row's text", err));
    TRY(tok_encode(a->teacher, buf_str(&a->text), TOK_BOS, &a->ids, err));
    if (a->ids.n == first || !spells(a, first, &extra)) return MOTE_OK;
    theirs = bytes_of(a->teacher, a->ids.p[at]);
    for (size_t i = from; i < to; i++) {
        ours += bytes_of(a->student, b->ids[i]);
        while (theirs < ours + extra && at + 1 < a->ids.n) theirs += bytes_of(a->teacher, a->ids.p[++at]);
        if (ours == 0 || theirs != ours + extra || (b->target && b->target[i] < 0)) continue;
        a->ours_at[out->n] = (int32_t)i;
        a->theirs_at[out->n++] = (int32_t)at;
    }
    return MOTE_OK;
}

/* Between the borders [first, out->n) of one sequence. */
static void find_spans(distil_align *a, const data_batch *b, size_t first, distil_aligned *out) {
    for (size_t i = first; i + 1 < out->n; i++) {
        size_t ours = (size_t)a->ours_at[i], theirs = (size_t)a->theirs_at[i];
        size_t n_ours = (size_t)a->ours_at[i + 1] - ours, n_theirs = (size_t)a->theirs_at[i + 1] - theirs;
        bool good = n_ours + n_theirs > 2 && n_theirs > 0 && n_ours <= DISTIL_SPAN_TOKENS && n_theirs <= DISTIL_SPAN_TOKENS;
        for (size_t k = 0; good && k < n_ours; k++) good = !b->target || b->target[ours + k] >= 0;
        if (good) a->spans[out->n_spans++] = (distil_span){(uint32_t)ours, (uint32_t)n_ours, (uint32_t)theirs, (uint32_t)n_theirs};
    }
}

mote_status distil_align_batch(distil_align *a, const data_batch *b, distil_aligned *out, mote_error *err) {
    *out = (distil_aligned){0};
    a->ids.n = 0;
    size_t cap = a->cap_at;
    TRY(mem_grow(&a->start, &a->cap_start, b->seqs.n_seq + 1, sizeof *a->start, SIZE_MAX / 8, err));
    TRY(mem_grow(&a->ours_at, &cap, b->seqs.n + 1, sizeof *a->ours_at, SIZE_MAX / 8, err));
    TRY(mem_grow(&a->theirs_at, &a->cap_at, b->seqs.n + 1, sizeof *a->theirs_at, SIZE_MAX / 8, err));
    TRY(mem_grow(&a->spans, &a->cap_spans, b->seqs.n + 1, sizeof *a->spans, SIZE_MAX / 32, err));
    for (size_t i = 0; i < b->seqs.n_seq; i++) {
        size_t first = out->n;
        a->start[i] = (uint32_t)a->ids.n;
        TRY(align_one(a, b, b->seqs.start[i], b->seqs.start[i + 1], out, err));
        find_spans(a, b, first, out);
    }
    a->start[b->seqs.n_seq] = (uint32_t)a->ids.n;
    TRY(mem_grow(&a->pos, &a->cap_pos, a->ids.n + 1, sizeof *a->pos, SIZE_MAX / 8, err));
    for (size_t i = 0; i < b->seqs.n_seq; i++)
        for (size_t j = a->start[i]; j < a->start[i + 1]; j++) a->pos[j] = (int32_t)(j - a->start[i]);
    out->theirs = (data_batch){.seqs = {.n = a->ids.n, .n_seq = b->seqs.n_seq, .start = a->start, .pos = a->pos}, .ids = a->ids.p};
    out->ours_at = a->ours_at;
    out->theirs_at = a->theirs_at;
    out->spans = a->spans;
    return MOTE_OK;
}
