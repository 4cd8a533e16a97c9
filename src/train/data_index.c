/* data_index.c: files into items. Every byte is looked at once: lengths, UTF-8, JSON and kind are checked here, so
 * that training does not stumble on line 3,000,001. */
#include "train/data_int.h"

#define SEPARATOR STR("<|endoftext|>")
#define FILES_MAX 4096
#define LINE_PARTS 64 /* which may come out half as long: their numbers fit a byte */

uint64_t data_hash(const void *p, size_t n) {
    const unsigned char *c = p;
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ c[i]) * 0x100000001b3u;
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdu;
    return h ^ (h >> 33);
}

static str bytes_of(const data_file *f) { return (str){(const char *)f->map.p, f->map.n}; }

const char *data_place(char out[256], const data_file *f, uint64_t offset) {
    size_t line = 1;
    const char *p = (const char *)f->map.p, *end = p + offset;
    while (p < end && (p = memchr(p, '\n', (size_t)(end - p)))) line++, p++;
    (void)snprintf(out, 256, "%.200s:%zu", f->path, line);
    return out;
}

/* Counts what is skipped; strict: refuses it. */
static mote_status bad(const data *d, data_file *f, size_t *count, uint64_t offset, const char *why, mote_error *err) {
    char place[256];
    ++*count;
    if (d->o.strict) FAIL(err, MOTE_E_FORMAT, "%s: %s; without --strict it is skipped and counted", data_place(place, f, offset), why);
    if (!f->stats.first_bad[0])
        (void)snprintf(f->stats.first_bad, sizeof f->stats.first_bad, "%.160s: %.80s", data_place(place, f, offset), why);
    return MOTE_OK;
}

static mote_status add(data *d, data_file *f, uint64_t offset, size_t n, int flags, size_t part, mote_error *err) {
    TRY(mem_grow(&d->items, &d->cap_items, d->n_items + 1, sizeof *d->items, d->o.max_items, err));
    d->items[d->n_items++] = (data_ref){offset, (uint32_t)n, (uint16_t)(f - d->files), (uint8_t)flags, (uint8_t)part};
    return MOTE_OK;
}

/* The flags of all parts of a block: chance decides by its bytes whether it is held out. */
static int side_of(const data *d, str block) {
    return d->o.held_out > 0 && (double)(data_hash(block.p, block.n) >> 11) * 0x1p-53 < d->o.held_out ? ITEM_HELD : 0;
}

/* ---- text ---- */

static bool blank(str s) {
    for (size_t i = 0; i < s.n; i++)
        if (!strchr(" \t\r\n\v\f", s.p[i]) || !s.p[i]) return false;
    return true;
}

/* Where to cut s, which is longer than `most`: after an empty line, a line, a space or a character, as late as can be. */
static size_t cut_at(str s, size_t most) {
    size_t least = most / 2;
    for (size_t i = most; i > least; i--)
        if (s.p[i - 1] == '\n' && s.p[i - 2] == '\n') return i;
    for (size_t i = most; i > least; i--)
        if (s.p[i - 1] == '\n') return i;
    for (size_t i = most; i > least; i--)
        if (s.p[i - 1] == ' ') return i;
    size_t whole = utf8_whole(s.p, most);
    return whole ? whole : most;
}

str data_cut(str *rest, size_t most) {
    size_t n = rest->n > most + most / 2 ? cut_at(*rest, most) : rest->n;
    str part = str_sub(*rest, 0, n);
    *rest = str_sub(*rest, n, rest->n - n);
    return part;
}

size_t data_line_part(const data *d, size_t n) {
    return data_in_order(d) || n <= d->o.part_bytes ? 0 : MAX(d->o.part_bytes, n / LINE_PARTS + 1);
}

/* Blocks that are held out as a whole, and in them the parts. */
static mote_status add_document(data *d, data_file *f, size_t from, size_t end, mote_error *err) {
    str all = bytes_of(f), rest = str_sub(all, from, end - from);
    if (blank(rest)) return MOTE_OK;
    int first = ITEM_FIRST;
    while (rest.n) {
        str block = data_cut(&rest, MAX(d->o.part_bytes, DATA_BLOCK_BYTES));
        int side = side_of(d, block) | ITEM_BLOCK;
        while (block.n) {
            str part = data_cut(&block, d->o.part_bytes);
            uint64_t offset = (uint64_t)(part.p - all.p);
            if (blank(part)) continue;
            if (!utf8_valid(part.p, part.n)) {
                TRY(bad(d, f, &f->stats.not_utf8, offset, "not valid UTF-8", err));
                continue;
            }
            TRY(add(d, f, offset, part.n, first | side | (rest.n + block.n ? 0 : ITEM_LAST), 0, err));
            first = 0;
            side &= ~ITEM_BLOCK;
        }
    }
    return MOTE_OK;
}

static mote_status index_text(data *d, data_file *f, mote_error *err) {
    str all = bytes_of(f);
    size_t from = 0;
    for (size_t at = 0; (at = str_find(all, SEPARATOR, at)) != SIZE_MAX;) {
        size_t end = at + SEPARATOR.n;
        bool alone = (at == 0 || all.p[at - 1] == '\n') &&
                     (end == all.n || all.p[end] == '\n' || (all.p[end] == '\r' && end + 1 < all.n && all.p[end + 1] == '\n'));
        if (alone) {
            TRY(add_document(d, f, from, at, err));
            from = end;
        }
        at = end;
    }
    return add_document(d, f, from, all.n, err);
}

/* ---- JSON lines ---- */

/* A line, or the parts of its text. */
static mote_status add_line(data *d, data_file *f, uint64_t offset, str line, str text, mote_error *err) {
    int side = side_of(d, line) | ITEM_BLOCK;
    size_t most = data_line_part(d, text.n), part = 0;
    if (!most) return add(d, f, offset, line.n, ITEM_FIRST | ITEM_LAST | side, 0, err);
    for (int first = ITEM_FIRST; text.n; first = 0, side &= ~ITEM_BLOCK) {
        (void)data_cut(&text, most);
        TRY(add(d, f, offset, line.n, first | side | (text.n ? 0 : ITEM_LAST), part++, err));
    }
    return MOTE_OK;
}

static mote_status check_line(data *d, data_file *f, uint64_t offset, str line, mote_error *err) {
    if (line.n > d->o.max_line_bytes) {
        char why[96];
        (void)snprintf(why, sizeof why, "a line of %zu bytes, the limit is %zu", line.n, d->o.max_line_bytes);
        return bad(d, f, &f->stats.too_long, offset, why, err);
    }
    if (blank(line)) return f->stats.empty++, MOTE_OK;
    if (!utf8_valid(line.p, line.n)) return bad(d, f, &f->stats.not_utf8, offset, "not valid UTF-8", err);
    json_t *j = NULL;
    mote_error why = {0};
    mote_status st = json_parse(&j, line, "the line", &why);
    if (st == MOTE_E_MEMORY) FAIL(err, st, "%s", why.message);
    if (st != MOTE_OK || !json_is_object(j)) {
        json_decref(j);
        return bad(d, f, &f->stats.not_json, offset, st == MOTE_OK ? "not a JSON object" : why.message, err);
    }
    const char *lacks = NULL;
    json_t *chosen = NULL, *rejected = NULL;
    str text = {0};
    if (f->kind == DATA_PAIRS) {
        if (!data_pair(j, &chosen, &rejected)) lacks = "no chosen and rejected answers";
    } else {
        text = json_get_str(j, "text");
        chosen = data_messages(j);
        if (!chosen && (!text.p || blank(text))) lacks = "neither \"text\" nor a conversation with an answer";
    }
    if (chosen && d->o.vocab && !d->o.tmpl) st = ERR(err, MOTE_E_USAGE, "%s: conversations need a model with a chat template", f->path);
    else if (lacks) st = bad(d, f, &f->stats.lacking, offset, lacks, err);
    else st = add_line(d, f, offset, line, chosen ? (str){0} : text, err);
    json_decref(chosen);
    json_decref(rejected);
    json_decref(j);
    return st;
}

static mote_status index_lines(data *d, data_file *f, mote_error *err) {
    str all = bytes_of(f);
    for (size_t from = 0; from < all.n;) {
        const char *nl = memchr(all.p + from, '\n', all.n - from);
        size_t end = nl ? (size_t)(nl - all.p) : all.n;
        TRY(check_line(d, f, from, str_sub(all, from, end - from), err));
        from = end + 1;
    }
    return MOTE_OK;
}

/* By the first line that is not empty; a name that ends in .jsonl decides when that line is broken. */
static data_kind guess(const data *d, const data_file *f) {
    str all = bytes_of(f);
    size_t from = 0;
    while (from < all.n && strchr(" \t\r\n", all.p[from]) && all.p[from]) from++;
    const char *nl = from < all.n ? memchr(all.p + from, '\n', all.n - from) : NULL;
    str line = str_sub(all, from, (nl ? (size_t)(nl - all.p) : all.n) - from);
    data_kind k = DATA_AUTO;
    if (line.n && line.p[0] == '{' && line.n <= d->o.max_line_bytes) {
        json_t *j = NULL;
        if (json_parse(&j, line, "line", NULL) == MOTE_OK) k = data_line_kind(j);
        json_decref(j);
    }
    if (k != DATA_AUTO) return k;
    return str_ends(str_of(f->path), STR(".jsonl")) ? DATA_JSONL : DATA_TEXT;
}

static mote_status index_file(data *d, data_file *f, mote_error *err) {
    TRY(file_open(&f->map, f->path, FILE_MAP, err));
    if (stat(f->path, &f->st) != 0) FAIL(err, MOTE_E_IO, "%s: cannot be looked at", f->path);
    if (f->map.n == 0) return bad(d, f, &f->stats.empty, 0, "the file is empty", err);
    f->stats.bytes = f->map.n;
    sha256 *h = sha256_new();
    if (!h) FAIL(err, MOTE_E_MEMORY, "out of memory for a hash");
    sha256_update(h, f->map.p, f->map.n);
    sha256_final(h, f->stats.sha256);
    sha256_free(h);
    if (f->kind == DATA_AUTO) f->kind = guess(d, f);
    return f->kind == DATA_TEXT ? index_text(d, f, err) : index_lines(d, f, err);
}

/* When chance has held out nothing, the last block is: who asks for a held-out part gets one. */
static void keep_side(data *d) {
    size_t held = 0, last = 0;
    for (size_t i = 0; i < d->n_items; i++) {
        held += (d->items[i].flags & ITEM_HELD) != 0;
        if (d->items[i].flags & ITEM_BLOCK) last = i;
    }
    if (d->o.held_out > 0 && last > 0) {
        for (size_t i = last; i < d->n_items && held == 0; i++) d->items[i].flags |= ITEM_HELD;
        bool all = held == d->n_items;
        for (size_t i = 0; all && (i == 0 || !(d->items[i].flags & ITEM_BLOCK)); i++) d->items[i].flags &= (uint8_t)~ITEM_HELD;
    }
    size_t n = 0;
    for (size_t i = 0; i < d->n_items; i++) {
        data_stats *s = &d->files[d->items[i].file].stats;
        bool is_held = d->items[i].flags & ITEM_HELD;
        if (d->o.split == DATA_ALL || is_held == (d->o.split == DATA_HELD)) s->items++, d->items[n++] = d->items[i];
        else s->held_out++;
    }
    d->n_items = n;
}

mote_status data_index(data *d, mote_error *err) {
    if (d->n_files > FILES_MAX) FAIL(err, MOTE_E_LIMIT, "%zu data files, the limit is %d", d->n_files, FILES_MAX);
    for (size_t i = 0; i < d->n_files; i++) {
        size_t before = d->n_items;
        TRY(index_file(d, &d->files[i], err));
        if (d->n_items == before) log_line(d->o.log, LOG_WARN, "%s: nothing to learn from in it", d->files[i].path);
    }
    keep_side(d);
    data_stats s = data_get_stats(d, SIZE_MAX);
    size_t skipped = s.too_long + s.not_utf8 + s.not_json + s.lacking;
    if (skipped) log_line(d->o.log, LOG_WARN, "%zu lines or parts are skipped, the first: %s", skipped, s.first_bad);
    if (d->n_items) return MOTE_OK;
    FAIL(err, MOTE_E_FORMAT, "%s%s: nothing to learn from%s%s", d->files[0].path, d->n_files > 1 ? " and the others" : "",
         s.first_bad[0] ? "; the first fault: " : "", s.first_bad);
}
