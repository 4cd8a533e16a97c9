/* sampler_penalty.c: the steps that look at what has been said: repetition, frequency and presence penalties,
 * and DRY ("don't repeat yourself"). */
#include "run/sampler.h"

#include <math.h>
#include <stdlib.h>

/* The i-th token from the end, i < n_hist. */
static inline int32_t recent(const mote_sampler *s, size_t i) {
    return s->hist[s->hist_begin + s->n_hist - 1 - i];
}

static uint32_t next_stamp(mote_sampler *s) {
    if (++s->stamp_now == 0) { /* after 2^32 draws old stamps would look new */
        memset(s->stamp, 0, s->n_vocab * sizeof *s->stamp);
        s->stamp_now = 1;
    }
    return s->stamp_now;
}

static float penalised(const mote_sampler *s, float logit, uint32_t count) {
    /* Dividing a negative logit would make the token likelier: multiply it then. */
    logit = logit > 0 ? logit / s->o.repeat_penalty : logit * s->o.repeat_penalty;
    return logit - (float)count * s->o.frequency_penalty - s->o.presence_penalty;
}

/* Sources: repeat, Keskar et al. 2019, CTRL, §4.1; frequency and presence, OpenAI's API reference. */
void sample_penalties(mote_sampler *s) {
    if (!s->count) return;
    if (!s->dense) {
        for (size_t i = 0; i < s->n; i++)
            if (s->count[s->c[i].id]) s->c[i].logit = penalised(s, s->c[i].logit, s->count[s->c[i].id]);
        s->sorted = false;
        return;
    }
    uint32_t now = next_stamp(s);
    for (size_t i = 0; i < s->n_counted; i++) {
        int32_t id = recent(s, i);
        if (s->stamp[id] == now) continue;
        s->stamp[id] = now;
        s->work[id] = penalised(s, s->work[id], s->count[id]);
    }
}

/* ---- DRY. Source: p-e-w 2024, text-generation-webui PR 5677. A token that would make the text repeat a run
 * of L ≥ allowed_length earlier tokens loses multiplier · base^(L - allowed_length). ---- */

static size_t first_breaker(const mote_sampler *s, int32_t head) {
    size_t low = 0, high = s->n_breakers;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (s->breakers[mid].head < head) low = mid + 1;
        else high = mid;
    }
    return low;
}

/* How many tokens lie after the last breaker among the last n: repetitions do not reach across it. */
static size_t since_breaker(const mote_sampler *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        int32_t head = recent(s, i);
        bool found = false;
        size_t longest = 0;
        for (size_t b = first_breaker(s, head); b < s->n_breakers && s->breakers[b].head == head; b++) {
            size_t n_tail = s->breakers[b].n_tail, j = 0;
            if (n_tail > i || (found && n_tail <= longest)) continue;
            while (j < n_tail && s->dry_tails[s->breakers[b].tail + j] == recent(s, i - 1 - j)) j++;
            if (j < n_tail) continue;
            found = true;
            longest = n_tail;
        }
        if (found) return i - longest;
    }
    return n;
}

static bool is_breaker(const mote_sampler *s, int32_t id) {
    for (size_t b = first_breaker(s, id); b < s->n_breakers && s->breakers[b].head == id; b++)
        if (s->breakers[b].n_tail == 0) return true;
    return false;
}

/* z[k] = length of the longest run that ends both at the end of the last n tokens and k tokens before it.
 * Source: the Z algorithm (Gusfield 1997, Algorithms on Strings, §1.4), backwards. */
static void suffix_runs(const mote_sampler *s, size_t n, uint32_t *z) {
    size_t left = 0, right = 0; /* the window [left, right) known to match, counted from the end */
    z[0] = (uint32_t)n;
    for (size_t k = 1; k < n; k++) {
        size_t len = k < right ? MIN((size_t)z[k - left], right - k) : 0;
        while (k + len < n && recent(s, len) == recent(s, k + len)) len++;
        z[k] = (uint32_t)len;
        if (k + len > right) {
            left = k;
            right = k + len;
        }
    }
}

void sample_dry(mote_sampler *s) {
    if (!s->dry_z) return;
    size_t n = MIN(s->dry_n, s->n_hist), allowed = (size_t)s->o.dry_allowed_length, n_hit = 0;
    if (n <= allowed) return;
    size_t limit = since_breaker(s, n);
    if (limit < allowed) return;
    suffix_runs(s, n, s->dry_z);
    uint32_t now = next_stamp(s);
    for (size_t k = 1; k < n; k++) {
        uint32_t len = (uint32_t)MIN((size_t)s->dry_z[k], limit);
        if (len < allowed || len == 0) continue;
        int32_t id = recent(s, k - 1); /* what followed the run then */
        if (s->stamp[id] != now) {
            s->stamp[id] = now;
            s->dry_len[id] = len;
            s->dry_hit[n_hit++] = id;
        } else if (len > s->dry_len[id]) {
            s->dry_len[id] = len;
        }
    }
    for (size_t i = 0; i < n_hit; i++) {
        int32_t id = s->dry_hit[i];
        if (is_breaker(s, id)) s->stamp[id] = now - 1;
        if (s->stamp[id] != now || !s->dense) continue;
        double penalty = (double)s->o.dry_multiplier *
                         pow((double)s->o.dry_base, (double)s->dry_len[id] - (double)allowed);
        s->work[id] -= (float)MIN(penalty, 1e30);
    }
    if (s->dense || n_hit == 0) return;
    for (size_t i = 0; i < s->n; i++) {
        if (s->stamp[s->c[i].id] != now) continue;
        double penalty = (double)s->o.dry_multiplier *
                         pow((double)s->o.dry_base, (double)s->dry_len[s->c[i].id] - (double)allowed);
        s->c[i].logit -= (float)MIN(penalty, 1e30);
    }
    s->sorted = false;
}

static mote_status add_breaker(mote_sampler *s, size_t *cap, size_t *tails_cap, int32_t head,
                               const tok_ids *tail, mote_error *err) {
    size_t n_tail = tail ? MIN(tail->n, (size_t)DRY_TAIL_MAX) : 0;
    TRY(mem_grow(&s->breakers, cap, s->n_breakers + 1, sizeof *s->breakers, (size_t)1 << 24, err));
    if (n_tail) {
        TRY(mem_grow(&s->dry_tails, tails_cap, s->n_tails + n_tail, sizeof *s->dry_tails, (size_t)1 << 28,
                     err));
        memcpy(s->dry_tails + s->n_tails, tail->p, n_tail * sizeof *tail->p);
    }
    s->breakers[s->n_breakers++] = (dry_breaker){head, (uint32_t)n_tail, (uint32_t)s->n_tails};
    s->n_tails += n_tail;
    return MOTE_OK;
}

/* A breaker can lie inside a token, or begin in one and go on in the next: then what is left of it is
 * tokenized as the tail. */
static mote_status add_breaker_text(mote_sampler *s, size_t *cap, size_t *tails_cap, str text,
                                    mote_error *err) {
    mote_status st = MOTE_OK;
    tok_ids tail = {0};
    for (size_t id = 0; id < s->n_vocab && id < tok_count(s->vocab); id++) {
        str piece = tok_piece(s->vocab, (int32_t)id, TOK_SPECIAL);
        if (str_find(piece, text, 0) != SIZE_MAX) {
            TRYG(st, add_breaker(s, cap, tails_cap, (int32_t)id, NULL, err));
            continue;
        }
        for (size_t n = MIN(piece.n, text.n - 1); n > 0; n--) {
            if (!str_ends(piece, str_sub(text, 0, n))) continue;
            tail.n = 0;
            TRYG(st, tok_encode(s->vocab, str_sub(text, n, text.n - n), 0, &tail, err));
            TRYG(st, add_breaker(s, cap, tails_cap, (int32_t)id, &tail, err));
        }
    }
out:
    tok_ids_free(&tail);
    return st;
}

static int by_head(const void *a, const void *b) {
    const dry_breaker *x = a, *y = b;
    if (x->head != y->head) return x->head < y->head ? -1 : 1;
    return x->tail < y->tail ? -1 : x->tail > y->tail;
}

mote_status sample_dry_open(mote_sampler *s, mote_error *err) {
    static const char *const usual[] = {"\n", ":", "\"", "*"};
    const char *const *texts = s->o.dry_breakers ? s->o.dry_breakers : usual;
    size_t n = s->o.dry_breakers ? s->o.n_dry_breakers : COUNT_OF(usual), cap = 0, tails_cap = 0;
    s->dry_z = MEM_NEW_N(uint32_t, s->dry_n);
    s->dry_hit = MEM_NEW_N(int32_t, s->dry_n);
    s->dry_len = MEM_NEW_N(uint32_t, s->n_vocab);
    if (!s->dry_z || !s->dry_hit || !s->dry_len)
        FAIL(err, MOTE_E_MEMORY, "out of memory for the DRY sampler");
    if (!s->vocab) return MOTE_OK;
    for (size_t i = 0; i < n; i++) {
        str text = str_of(texts[i]);
        if (text.n == 0 || text.n > 256)
            FAIL(err, MOTE_E_RANGE, "dry_breakers[%zu] has %zu bytes; expected 1 to 256", i, text.n);
        TRY(add_breaker_text(s, &cap, &tails_cap, text, err));
    }
    if (s->n_breakers) qsort(s->breakers, s->n_breakers, sizeof *s->breakers, by_head);
    return MOTE_OK;
}
