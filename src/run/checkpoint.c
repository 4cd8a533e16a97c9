/* checkpoint.c: snapshots of what truncation cannot bring back (recurrent states, windows of keys and
 * values), so that going back to an earlier token costs a copy and a short stretch of prefill instead of the
 * whole prompt.
 *
 * They are taken at regular positions and just before the end of each prompt, into slots that were sized when
 * the session opened. When all are taken, the one goes whose loss leaves the smallest gap, so that what stays
 * is spread over the whole context and dense at its end. */
#include "run/run.h"

mote_status ck_open(mote_session *s, mote_error *err) {
    size_t bytes = state_checkpoint_bytes(s->st), all;
    if (bytes == 0 || s->o.checkpoint_every == 0) return MOTE_OK;
    bytes = (bytes + 63) / 64 * 64;
    size_t wanted = s->n_ctx / s->o.checkpoint_every + 4; /* some for the ends of prompts */
    if (!ckd_mul_size(&wanted, wanted, s->n_seq)) wanted = SIZE_MAX;
    size_t n = MIN(s->o.checkpoint_bytes / bytes, wanted);
    if (n == 0) return MOTE_OK;
    if (!ckd_mul_size(&all, n, bytes)) FAIL(err, MOTE_E_RANGE, "%zu checkpoints are too many", n);
    s->ck = MEM_NEW_N(run_checkpoint, n);
    s->ck_data = mem_calloc(all, 1); /* not aligned_alloc: its pages stay untouched until they are used */
    if (!s->ck || !s->ck_data)
        FAIL(err, MOTE_E_MEMORY, "out of memory: %zu checkpoints need %zu bytes; lower checkpoint_bytes", n,
             all);
    s->n_ck = n;
    s->ck_bytes = bytes;
    s->ck_every = s->o.checkpoint_every;
    return MOTE_OK;
}

size_t ck_next(const mote_session *s, size_t pos) {
    return s->n_ck ? (pos / s->ck_every + 1) * s->ck_every : SIZE_MAX;
}

void ck_drop(mote_session *s, size_t seq, size_t beyond) {
    for (size_t i = 0; i < s->n_ck; i++)
        if (s->ck[i].seq == seq && s->ck[i].pos > beyond) s->ck[i].pos = 0;
}

/* The distance between a checkpoint's neighbours in its sequence: what has to be computed again at worst when
 * it is gone. */
static size_t gap_without(const mote_session *s, size_t i) {
    size_t before = 0, after = SIZE_MAX;
    for (size_t j = 0; j < s->n_ck; j++) {
        if (s->ck[j].pos == 0 || s->ck[j].seq != s->ck[i].seq || j == i) continue;
        if (s->ck[j].pos < s->ck[i].pos) before = MAX(before, s->ck[j].pos);
        else after = MIN(after, s->ck[j].pos);
    }
    if (after == SIZE_MAX) after = s->seqs[s->ck[i].seq].n + s->ck_every;
    return after - before;
}

static size_t free_slot(const mote_session *s) {
    size_t victim = 0, smallest = SIZE_MAX;
    for (size_t i = 0; i < s->n_ck; i++) {
        if (s->ck[i].pos == 0) return i;
        size_t gap = gap_without(s, i);
        if (gap < smallest || (gap == smallest && s->ck[i].age < s->ck[victim].age)) {
            smallest = gap;
            victim = i;
        }
    }
    return victim;
}

void ck_take(mote_session *s, size_t seq) {
    size_t pos = s->seqs[seq].n;
    if (s->n_ck == 0 || pos == 0) return;
    for (size_t i = 0; i < s->n_ck; i++)
        if (s->ck[i].seq == seq && s->ck[i].pos == pos) return;
    size_t i = free_slot(s);
    run_settle(s, seq);
    state_checkpoint_save(s->st, seq, s->ck_data + i * s->ck_bytes);
    s->ck[i] = (run_checkpoint){seq, pos, ++s->ck_age};
}

void ck_copy(mote_session *s, size_t dst, size_t src) {
    for (size_t i = 0; i < s->n_ck; i++) {
        if (s->ck[i].pos == 0 || s->ck[i].seq != src) continue;
        size_t to = 0;
        while (to < s->n_ck && s->ck[to].pos != 0) to++;
        if (to == s->n_ck) return; /* ck_rewind can use src's as long as it has them */
        memcpy(s->ck_data + to * s->ck_bytes, s->ck_data + i * s->ck_bytes, s->ck_bytes);
        s->ck[to] = (run_checkpoint){dst, s->ck[i].pos, ++s->ck_age};
    }
}

/* Whether checkpoint i tells the state of sequence seq at that length: its own, or of one that began alike.
 */
static bool fits(const mote_session *s, size_t i, size_t seq) {
    const run_checkpoint *c = &s->ck[i];
    return c->seq == seq || memcmp(s->seqs[c->seq].ids, s->seqs[seq].ids, c->pos * sizeof(int32_t)) == 0;
}

void ck_rewind(mote_session *s, size_t seq, size_t n) {
    run_seq *q = &s->seqs[seq];
    if (n >= q->n) return;
    run_forget_logits(q);
    if (state_seq_truncate(s->st, seq, n)) {
        q->n = n;
    } else {
        size_t best = SIZE_MAX;
        for (size_t i = 0; i < s->n_ck; i++) {
            if (s->ck[i].pos == 0 || s->ck[i].pos > n ||
                (best != SIZE_MAX && s->ck[i].pos <= s->ck[best].pos))
                continue;
            if (fits(s, i, seq)) best = i;
        }
        if (best == SIZE_MAX) {
            state_seq_clear(s->st, seq);
            q->n = 0;
        } else {
            state_checkpoint_load(s->st, seq, s->ck_data + best * s->ck_bytes, s->ck[best].pos);
            q->n = s->ck[best].pos;
        }
    }
    ck_drop(s, seq, q->n);
}
