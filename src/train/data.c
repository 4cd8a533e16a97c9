/* data.c: the data set: epochs, mixtures, rows, the cursor.
 *
 * Drawing is one sequence of choices for all processes: from the pool that lags most behind its share comes the next item
 * of its epoch's permutation, and goes into the row until that is full. What decides is in the cursor: each pool's
 * epoch, place and tokens so far, and the item that is being cut. */
#include "train/data_int.h"

#define VERSION 2
#define ROW_TOKENS_LEAST 2

static const char *const kinds[] = {"auto", "text", "jsonl", "chat", "pairs"};

/* ---- opening ---- */

static int32_t find_end(const tok_vocab *v) {
    static const char *const names[] = {"<|endoftext|>", "<|end_of_text|>", "<|end▁of▁sentence|>"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        int32_t id = tok_find(v, str_of(names[i]));
        if (id != TOK_NONE && tok_is_control(v, id)) return id;
    }
    return tok_id(v, TOK_ROLE_EOS);
}

static mote_status take_options(data *d, const data_opts *o, mote_error *err) {
    if (!o->n_sources) FAIL(err, MOTE_E_USAGE, "no data files");
    d->o = *o;
    d->o.sources = NULL;
    if (!d->o.n_ctx) d->o.n_ctx = 512;
    if (!d->o.max_line_bytes) d->o.max_line_bytes = (size_t)16 << 20;
    if (!d->o.max_items) d->o.max_items = INT32_MAX;
    if (d->o.end_id <= 0) d->o.end_id = o->vocab ? find_end(o->vocab) : TOK_NONE;
    if (d->o.n_ctx < ROW_TOKENS_LEAST || d->o.n_ctx > (size_t)1 << 24)
        FAIL(err, MOTE_E_RANGE, "rows of %zu tokens; expected %d to 16777216", d->o.n_ctx, ROW_TOKENS_LEAST);
    if (!d->o.part_bytes) d->o.part_bytes = data_in_order(d) ? DATA_BLOCK_BYTES : MIN(MAX(8 * d->o.n_ctx, (size_t)2 << 10), DATA_BLOCK_BYTES);
    d->o.part_bytes = MIN(MAX(d->o.part_bytes, 16), (size_t)1 << 28);
    d->o.max_line_bytes = MIN(d->o.max_line_bytes, (size_t)1 << 30);
    d->o.max_items = MIN(d->o.max_items, INT32_MAX);
    if (!(d->o.held_out >= 0 && d->o.held_out < 1)) FAIL(err, MOTE_E_RANGE, "a share of %g held out; expected 0 to 1", d->o.held_out);
    d->files = MEM_NEW_N(data_file, o->n_sources);
    if (!d->files) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu files", o->n_sources);
    d->n_files = o->n_sources;
    for (size_t i = 0; i < o->n_sources; i++) {
        const data_source *s = &o->sources[i];
        data_file *f = &d->files[i];
        if (!(s->weight >= 0 && s->weight < 1e18) || !(s->from >= 0) || !(s->until >= 0))
            FAIL(err, MOTE_E_RANGE, "%s: weight %g from %g until %g; expected numbers that are not negative", s->path, s->weight, s->from, s->until);
        *f = (data_file){.path = mem_strdup(s->path), .kind = s->kind, .weight = s->weight, .from = s->from, .until = s->until};
        if (!f->path) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu files", o->n_sources);
    }
    return MOTE_OK;
}

static void hash_options(const data *d, sha256 *h) {
    char line[512];
    for (size_t i = 0; i < d->n_files; i++) {
        const data_file *f = &d->files[i];
        int n = snprintf(line, sizeof line, "%s %s %.17g %.17g %.17g\n", f->stats.sha256, kinds[f->kind], f->weight, f->from, f->until);
        sha256_update(h, line, (size_t)n);
    }
    const data_opts *o = &d->o;
    int n = snprintf(line, sizeof line, "%d %zu %llu %d %d %.17g %zu %zu %zu %d%d%d%d %d\n", VERSION, o->n_ctx, (unsigned long long)o->seed,
                     (int)o->order, (int)o->split, o->held_out, o->max_line_bytes, o->part_bytes, o->max_items, o->strict,
                     o->loss_on_all, o->no_pack, o->no_end, (int)o->end_id);
    sha256_update(h, line, (size_t)n);
    for (size_t i = 0; o->vocab && i < tok_count(o->vocab); i++) {
        str t = tok_text(o->vocab, (int32_t)i);
        sha256_update(h, t.p, t.n);
        sha256_update(h, "\n", 1);
    }
}

/* selected: the items of data_select, or NULL. */
static mote_status make_digest(data *d, const uint32_t *selected, size_t n, mote_error *err) {
    sha256 *h = sha256_new();
    if (!h) FAIL(err, MOTE_E_MEMORY, "out of memory for a hash");
    hash_options(d, h);
    if (selected) sha256_update(h, selected, n * sizeof *selected);
    sha256_final(h, d->digest);
    sha256_free(h);
    return MOTE_OK;
}

/* ---- pools ---- */

static uint64_t mix(uint64_t x) {
    x = (x ^ x >> 33) * 0xff51afd7ed558ccdu;
    x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53u;
    return x ^ x >> 33;
}

static void shuffle(uint32_t *p, size_t n, rng *r) {
    for (size_t i = n; i > 1; i--) {
        size_t j = rng_below(r, (uint32_t)i);
        uint32_t x = p[i - 1];
        p[i - 1] = p[j];
        p[j] = x;
    }
}

/* The order of the pool's present epoch. */
static void begin_epoch(const data *d, data_pool *p) {
    memcpy(p->perm, p->items, p->n * sizeof *p->perm);
    if (d->o.order == DATA_AS_IS) return;
    rng r;
    rng_seed(&r, mix(d->o.seed + 0x9E3779B97F4A7C15u * (p->epoch + 1)), (uint64_t)(p - d->pools) + 1);
    size_t pieces = d->o.order == DATA_EASY_FIRST && p->epoch == 0 ? MIN(p->n, 16) : 1;
    for (size_t i = 0; i < pieces; i++) {
        size_t from = p->n * i / pieces;
        shuffle(p->perm + from, p->n * (i + 1) / pieces - from, &r);
    }
}

static void drop_pools(data *d) {
    for (size_t i = 0; i < d->n_pools; i++) {
        mem_free(d->pools[i].items);
        mem_free(d->pools[i].perm);
    }
    mem_free(d->pools);
    d->pools = NULL;
    d->n_pools = 0;
}

static mote_status pool_room(data_pool *p, size_t n, mote_error *err) {
    p->items = MEM_NEW_N(uint32_t, n ? n : 1);
    p->perm = MEM_NEW_N(uint32_t, n ? n : 1);
    if (!p->items || !p->perm) FAIL(err, MOTE_E_MEMORY, "out of memory for the order of %zu items", n);
    return MOTE_OK;
}

static void rewind_all(data *d) {
    for (size_t i = 0; i < d->n_pools; i++) {
        d->pools[i].next = 0;
        d->pools[i].epoch = d->pools[i].drawn = 0;
        begin_epoch(d, &d->pools[i]);
    }
    d->carry_pool = SIZE_MAX;
    d->carry_ready = false;
}

/* selected NULL: all items, in one pool, or in one a file where the files have weights or times. */
static mote_status make_pools(data *d, const uint32_t *selected, size_t n, mote_error *err) {
    bool apart = false;
    for (size_t i = 0; i < d->n_files; i++) apart |= d->files[i].weight > 0 || d->files[i].from > 0 || d->files[i].until > 0;
    drop_pools(d);
    d->pools = MEM_NEW_N(data_pool, d->n_files);
    if (!d->pools) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu files", d->n_files);
    d->n_pools = apart && !selected ? d->n_files : 1;
    if (selected || !apart) {
        data_pool *p = &d->pools[0];
        p->weight = 1;
        TRY(pool_room(p, selected ? n : d->n_items, err));
        for (size_t i = 0; i < (selected ? n : d->n_items); i++) p->items[p->n++] = selected ? selected[i] : (uint32_t)i;
    } else {
        for (size_t i = 0; i < d->n_files; i++) {
            const data_file *f = &d->files[i];
            data_pool *p = &d->pools[i];
            p->weight = f->weight > 0 ? f->weight : (double)f->stats.bytes;
            p->from = f->from;
            p->until = f->until;
            TRY(pool_room(p, f->stats.items, err));
        }
        for (size_t i = 0; i < d->n_items; i++) {
            data_pool *p = &d->pools[d->items[i].file];
            p->items[p->n++] = (uint32_t)i;
        }
    }
    rewind_all(d);
    return MOTE_OK;
}

mote_status data_open(data **out, const data_opts *o, mote_error *err) {
    data *d = *out = MEM_NEW(data);
    if (!d) FAIL(err, MOTE_E_MEMORY, "out of memory for a data set");
    mote_status st = take_options(d, o, err);
    if (st == MOTE_OK) st = data_index(d, err);
    if (st == MOTE_OK) st = make_digest(d, NULL, 0, err);
    if (st == MOTE_OK) st = make_pools(d, NULL, 0, err);
    if (st != MOTE_OK) data_close(out);
    return st;
}

void data_close(data **out) {
    data *d = *out;
    if (!d) return;
    drop_pools(d);
    for (size_t i = 0; i < d->n_files; i++) {
        file_close(&d->files[i].map);
        mem_free(d->files[i].path);
    }
    data_tokens_free(&d->carry);
    data_tokens_free(&d->one);
    void *const blocks[] = {d->files,   d->items,   d->ids,      d->target,  d->pos,        d->weights,
                            d->start,   d->item,    d->row_seq,  d->part_start, d->one_target, d->one_pos, d->one_weights};
    for (size_t i = 0; i < COUNT_OF(blocks); i++) mem_free(blocks[i]);
    mem_free(d);
    *out = NULL;
}

data_kind data_source_kind(const data *d, size_t source) { return d->files[source].kind; }
size_t data_n_items(const data *d) { return d->n_items; }
const char *data_digest(const data *d) { return d->digest; }
void data_progress(data *d, double share) { d->progress = share; }

data_stats data_get_stats(const data *d, size_t source) {
    if (source < d->n_files) return d->files[source].stats;
    data_stats s = {0};
    for (size_t i = 0; i < d->n_files; i++) {
        const data_stats *f = &d->files[i].stats;
        s.bytes += f->bytes;
        s.items += f->items;
        s.held_out += f->held_out;
        s.too_long += f->too_long;
        s.not_utf8 += f->not_utf8;
        s.not_json += f->not_json;
        s.lacking += f->lacking;
        s.empty += f->empty;
        if (!s.first_bad[0]) memcpy(s.first_bad, f->first_bad, sizeof s.first_bad);
    }
    return s;
}

str data_item_bytes(const data *d, size_t item, data_kind *kind, const char **path) {
    const data_ref *r = &d->items[item];
    const data_file *f = &d->files[r->file];
    *kind = f->kind;
    *path = f->path;
    return (str){(const char *)f->map.p + r->offset, r->n};
}

mote_status data_check(const data *d, mote_error *err) {
    for (size_t i = 0; i < d->n_files; i++) {
        const data_file *f = &d->files[i];
        struct stat st;
        if (stat(f->path, &st) != 0) FAIL(err, MOTE_E_MISMATCH, "%s: the file is gone since it was opened", f->path);
        if (st.st_size != f->st.st_size || st.st_mtim.tv_sec != f->st.st_mtim.tv_sec ||
            st.st_mtim.tv_nsec != f->st.st_mtim.tv_nsec || st.st_ino != f->st.st_ino)
            FAIL(err, MOTE_E_MISMATCH, "%s: the file has changed since it was opened; start again with a file that stays as it is", f->path);
    }
    return MOTE_OK;
}

mote_status data_select(data *d, const uint32_t *items, size_t n, mote_error *err) {
    if (!n) FAIL(err, MOTE_E_USAGE, "no items are selected");
    for (size_t i = 0; i < n; i++)
        if (items[i] >= d->n_items) FAIL(err, MOTE_E_RANGE, "item %u of %zu", items[i], d->n_items);
    TRY(make_digest(d, items, n, err));
    return make_pools(d, items, n, err);
}

/* ---- drawing ---- */

/* The pool in use that lags most behind its share. */
static mote_status choose_pool(data *d, size_t *at, mote_error *err) {
    double least = 0;
    *at = SIZE_MAX;
    for (size_t i = 0; i < d->n_pools; i++) {
        const data_pool *p = &d->pools[i];
        if (!p->n || d->progress < p->from || (p->until > 0 && d->progress >= p->until)) continue;
        double lag = (double)p->drawn / p->weight;
        if (*at == SIZE_MAX || lag < least) *at = i, least = lag;
    }
    if (*at == SIZE_MAX) FAIL(err, MOTE_E_USAGE, "no data file is in use at %.0f %% of the run", d->progress * 100);
    return MOTE_OK;
}

/* Inputs of sequence i: every token but the last, which nothing follows. */
static size_t n_inputs(const data_tokens *t, int i) { return t->ids[i].n ? t->ids[i].n - 1 : 0; }

/* How many tokens of sequence i a row can show. */
static size_t n_shown(const data *d, const data_tokens *t, int i) {
    return t->continues ? n_inputs(t, i) : MIN(n_inputs(t, i), d->o.n_ctx / (size_t)t->n);
}

static bool teaches(const data *d, const data_tokens *t) {
    for (int i = 0; i < t->n; i++) {
        size_t n = n_shown(d, t, i);
        bool any = n > 0 && !t->weights[i];
        for (size_t k = 0; k < n && t->weights[i]; k++) any |= t->weights[i][k + 1] > 0;
        if (!any) return false;
    }
    return t->n > 0;
}

/* Makes d->carry the next item that teaches anything. An epoch of a pool without one is an error. */
static mote_status next_item(data *d, mote_error *err) {
    if (d->carry_ready) return MOTE_OK;
    for (size_t tries = 0; tries <= 2 * d->n_items; tries++) {
        size_t at;
        TRY(choose_pool(d, &at, err));
        data_pool *p = &d->pools[at];
        if (p->next == p->n) {
            p->epoch++;
            p->next = 0;
            begin_epoch(d, p);
        }
        d->carry_item = p->perm[p->next++];
        d->carry_at = 0;
        mote_status st = data_tokenize(d, d->carry_item, &d->carry, err);
        if (st != MOTE_OK && (d->o.strict || (st != MOTE_E_NOT_FOUND && st != MOTE_E_TEMPLATE))) return st;
        if (st == MOTE_OK && teaches(d, &d->carry)) {
            d->carry_pool = at;
            d->carry_ready = true;
            return MOTE_OK;
        }
        p->drawn++; /* so that a heap of nothing does not stay the one that lags */
    }
    FAIL(err, MOTE_E_FORMAT, "%s: no item has anything to learn within %zu tokens; are the rows too short?",
         d->files[d->items[d->carry_item].file].path, d->o.n_ctx);
}

static mote_status step_room(data *d, size_t n_rows, mote_error *err) {
    size_t tokens;
    if (!ckd_mul_size(&tokens, n_rows, d->o.n_ctx) || tokens > UINT32_MAX / 2)
        FAIL(err, MOTE_E_LIMIT, "%zu rows of %zu tokens in one step", n_rows, d->o.n_ctx);
    size_t cap[7] = {d->cap_tokens, d->cap_tokens, d->cap_tokens, d->cap_tokens, d->cap_tokens, d->cap_tokens, d->cap_tokens};
    TRY(mem_grow(&d->ids, &cap[0], tokens + 1, sizeof *d->ids, SIZE_MAX / 8, err));
    TRY(mem_grow(&d->target, &cap[1], tokens + 1, sizeof *d->target, SIZE_MAX / 8, err));
    TRY(mem_grow(&d->pos, &cap[2], tokens + 1, sizeof *d->pos, SIZE_MAX / 8, err));
    TRY(mem_grow(&d->weights, &cap[3], tokens + 1, sizeof *d->weights, SIZE_MAX / 8, err));
    TRY(mem_grow(&d->start, &cap[4], tokens + 1, sizeof *d->start, SIZE_MAX / 8, err));
    TRY(mem_grow(&d->item, &cap[5], tokens + 1, sizeof *d->item, SIZE_MAX / 8, err));
    TRY(mem_grow(&d->part_start, &cap[6], tokens + 1, sizeof *d->part_start, SIZE_MAX / 8, err));
    d->cap_tokens = cap[0];
    return mem_grow(&d->row_seq, &d->cap_rows, n_rows + 1, sizeof *d->row_seq, SIZE_MAX / 8, err);
}

/* Tokens [from, from + n) of sequence `which` as inputs, with what follows each. Returns the sum of the weights. */
static double lay(const data_tokens *t, int which, size_t from, size_t n, int32_t *target, float *weights, int32_t *pos) {
    double sum = 0;
    for (size_t k = 0; k < n; k++) {
        size_t next = from + k + 1;
        float w = t->weights[which] ? t->weights[which][next] : 1;
        weights[k] = w;
        target[k] = w > 0 ? t->ids[which].p[next] : -1;
        pos[k] = (int32_t)k;
        sum += (double)w;
    }
    return sum;
}

/* Appends a sequence to the rows when they are this process's; in any case returns the sum of its weights. */
static double put_sequence(data *d, const data_tokens *t, int which, size_t from, size_t n, bool mine) {
    size_t at = d->n_tokens; /* rows of others are laid out behind ours, and forgotten */
    double sum = lay(t, which, from, n, d->target + at, d->weights + at, d->pos + at);
    if (!mine) return sum;
    memcpy(d->ids + at, t->ids[which].p + from, n * sizeof *d->ids);
    d->item[d->n_seq] = (uint32_t)d->carry_item;
    d->start[d->n_seq++] = (uint32_t)at;
    d->n_tokens += n;
    return sum;
}

/* Fills one row; *n: its tokens. */
static mote_status draw_row(data *d, bool mine, size_t *n, double *sum, mote_error *err) {
    *n = 0;
    do {
        TRY(next_item(d, err));
        data_tokens *t = &d->carry;
        data_pool *p = &d->pools[d->carry_pool];
        size_t room = d->o.n_ctx - *n, used = 0;
        if (t->continues) {
            size_t rest = n_inputs(t, 0) - d->carry_at;
            used = MIN(rest, room);
            *sum += put_sequence(d, t, 0, d->carry_at, used, mine);
            d->carry_at += used;
            if (used == rest) d->carry_ready = false;
        } else {
            for (int i = 0; i < t->n; i++) used += n_shown(d, t, i);
            if (used > room) return MOTE_OK; /* it begins the next row */
            for (int i = 0; i < t->n; i++) *sum += put_sequence(d, t, i, 0, n_shown(d, t, i), mine);
            d->carry_ready = false;
        }
        if (!d->carry_ready) d->carry_pool = SIZE_MAX;
        p->drawn += used;
        *n += used;
    } while (!d->o.no_pack && *n + ROW_TOKENS_LEAST <= d->o.n_ctx);
    return MOTE_OK;
}

static void view(const data *d, size_t from, size_t n, const uint32_t *start, data_batch *b) {
    size_t first = d->row_seq[from], seqs = d->row_seq[from + n] - first, at = d->start[first];
    *b = (data_batch){.ids = d->ids + at,
                      .target = d->target + at,
                      .weights = d->weights + at,
                      .item = d->item + first,
                      .n_rows = n,
                      .seqs = {.n = d->start[first + seqs] - at, .n_seq = seqs, .start = start, .pos = d->pos + at}};
    for (size_t i = 0; i < b->seqs.n; i++) b->sum_weight += (double)b->weights[i];
}

mote_status data_step(data *d, size_t n_rows, int rank, int world, data_step_info *out, mote_error *err) {
    *out = (data_step_info){0};
    if (!d->o.vocab) FAIL(err, MOTE_E_USAGE, "no vocabulary");
    if (n_rows < 1 || world < 1 || rank < 0 || rank >= world)
        FAIL(err, MOTE_E_USAGE, "a step of %zu rows for process %d of %d", n_rows, rank, world);
    TRY(data_check(d, err));
    TRY(step_room(d, n_rows, err));
    size_t from = n_rows * (size_t)rank / (size_t)world, until = n_rows * ((size_t)rank + 1) / (size_t)world;
    d->n_tokens = d->n_seq = d->n_rows = 0;
    d->row_seq[0] = d->start[0] = 0;
    for (size_t i = 0; i < n_rows; i++) {
        size_t n;
        bool mine = i >= from && i < until;
        TRY(draw_row(d, mine, &n, &out->sum_weight, err));
        out->n_tokens += n;
        if (!mine) continue;
        d->row_seq[++d->n_rows] = (uint32_t)d->n_seq;
        d->start[d->n_seq] = (uint32_t)d->n_tokens;
    }
    out->epoch = d->pools[0].epoch;
    view(d, 0, d->n_rows, d->start, &out->mine);
    return MOTE_OK;
}

mote_status data_part(data *d, size_t from, size_t n, data_batch *out, mote_error *err) {
    if (from > d->n_rows || n > d->n_rows - from)
        FAIL(err, MOTE_E_RANGE, "rows %zu to %zu of a step's %zu", from, from + n, d->n_rows);
    size_t first = d->row_seq[from], seqs = d->row_seq[from + n] - first;
    for (size_t i = 0; i <= seqs; i++) d->part_start[i] = d->start[first + i] - d->start[first];
    view(d, from, n, d->part_start, out);
    return MOTE_OK;
}

mote_status data_item(data *d, size_t item, data_batch *out, mote_error *err) {
    if (item >= d->n_items || !d->o.vocab) FAIL(err, MOTE_E_RANGE, "item %zu of %zu%s", item, d->n_items, d->o.vocab ? "" : ", without vocabulary");
    data_tokens *t = &d->one;
    TRY(data_tokenize(d, item, t, err));
    size_t n[2] = {0}, total = 0;
    for (int i = 0; i < t->n; i++) total += n[i] = MIN(n_inputs(t, i), d->o.n_ctx / (size_t)t->n);
    TRY(mem_grow(&d->one_target, &d->one_cap, total + 1, sizeof *d->one_target, SIZE_MAX / 8, err));
    TRY(mem_grow(&d->one_pos, &d->one_cap_pos, total + 1, sizeof *d->one_pos, SIZE_MAX / 8, err));
    TRY(mem_grow(&d->one_weights, &d->one_cap_weights, total + 1, sizeof *d->one_weights, SIZE_MAX / 8, err));
    *out = (data_batch){.target = d->one_target, .weights = d->one_weights, .item = d->one_item, .n_rows = 1};
    size_t at = 0;
    for (int i = 0; i < t->n; i++) {
        out->sum_weight += lay(t, i, 0, n[i], d->one_target + at, d->one_weights + at, d->one_pos + at);
        d->one_start[i] = (uint32_t)at;
        d->one_item[i] = (uint32_t)item;
        at += n[i];
        d->one_start[i + 1] = (uint32_t)at;
    }
    if (t->n == 2) { /* one after the other */
        TRY(mem_grow(&t->ids[0].p, &t->ids[0].cap, total + 1, sizeof *t->ids[0].p, SIZE_MAX / 8, err));
        memcpy(t->ids[0].p + n[0], t->ids[1].p, n[1] * sizeof *t->ids[0].p);
    }
    out->ids = t->ids[0].p;
    out->seqs = (ad_seqs){.n = total, .n_seq = (size_t)t->n, .start = d->one_start, .pos = d->one_pos};
    return MOTE_OK;
}

/* ---- the cursor ---- */

json_t *data_cursor(const data *d) {
    json_t *pools = json_array(), *c = NULL;
    for (size_t i = 0; pools && i < d->n_pools; i++) {
        const data_pool *p = &d->pools[i];
        json_t *one = json_pack("[I, I, I]", (json_int_t)p->epoch, (json_int_t)p->next, (json_int_t)p->drawn);
        if (!one || json_array_append_new(pools, one) != 0) json_decref(pools), pools = NULL;
    }
    if (!pools) return NULL;
    bool carries = d->carry_pool != SIZE_MAX;
    c = json_pack("{s:i, s:s, s:o}", "version", VERSION, "digest", d->digest, "pools", pools);
    if (!c) return NULL;
    json_t *carry = carries ? json_pack("[I, I, I]", (json_int_t)d->carry_pool, (json_int_t)d->carry_item, (json_int_t)d->carry_at) : json_null();
    if (json_object_set_new(c, "carry", carry) == 0) return c;
    json_decref(c);
    return NULL;
}

static bool get3(const json_t *list, int64_t v[3]) {
    if (!json_is_array(list) || json_array_size(list) != 3) return false;
    for (size_t i = 0; i < 3; i++) {
        const json_t *x = json_array_get(list, i);
        if (!json_is_integer(x) || json_integer_value(x) < 0) return false;
        v[i] = json_integer_value(x);
    }
    return true;
}

mote_status data_seek(data *d, const json_t *cursor, mote_error *err) {
    const json_t *pools = json_object_get(cursor, "pools"), *carry = json_object_get(cursor, "carry");
    if (json_get_int(cursor, "version", 0) != VERSION || !json_is_array(pools))
        FAIL(err, MOTE_E_FORMAT, "this is no place in a data set that mote wrote");
    if (!str_is(json_get_str(cursor, "digest"), d->digest))
        FAIL(err, MOTE_E_MISMATCH, "the data or its options are not those of the run that is to go on: %.12s… there, %.12s… here",
             json_get_str(cursor, "digest").p ? json_get_str(cursor, "digest").p : "none", d->digest);
    if (json_array_size(pools) != d->n_pools) FAIL(err, MOTE_E_FORMAT, "the place names %zu heaps of data, here are %zu", json_array_size(pools), d->n_pools);
    int64_t v[3];
    for (size_t i = 0; i < d->n_pools; i++)
        if (!get3(json_array_get(pools, i), v) || (uint64_t)v[1] > d->pools[i].n) FAIL(err, MOTE_E_FORMAT, "the place in the data is damaged");
    rewind_all(d);
    for (size_t i = 0; i < d->n_pools; i++) {
        data_pool *p = &d->pools[i];
        (void)get3(json_array_get(pools, i), v);
        p->epoch = (uint64_t)v[0];
        p->next = (size_t)v[1];
        p->drawn = (uint64_t)v[2];
        begin_epoch(d, p);
    }
    if (!carry || json_is_null(carry)) return MOTE_OK;
    if (!get3(carry, v) || (uint64_t)v[0] >= d->n_pools || (uint64_t)v[1] >= d->n_items) FAIL(err, MOTE_E_FORMAT, "the place in the data is damaged");
    TRY(data_tokenize(d, (size_t)v[1], &d->carry, err));
    if ((size_t)v[2] > n_inputs(&d->carry, 0)) FAIL(err, MOTE_E_FORMAT, "the place in the data is damaged");
    d->carry_pool = (size_t)v[0];
    d->carry_item = (size_t)v[1];
    d->carry_at = (size_t)v[2];
    d->carry_ready = true;
    return MOTE_OK;
}
