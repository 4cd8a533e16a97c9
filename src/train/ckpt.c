#include "train/ckpt.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define MAGIC "motectp1"
enum { HEAD = 16, ALIGN = 64, DIGITS = SHA256_HEX - 1 };
#define TABLE_MAX ((size_t)64 << 20)
#define SECTIONS_MAX ((size_t)1 << 20)

struct ckpt {
    file_map map;
    char *path;
    json_t *table;
    const json_t *sections;
};

static mote_status hash_of(const void *p, size_t n, char hex[SHA256_HEX], mote_error *err) {
    sha256 *h = sha256_new();
    if (!h) FAIL(err, MOTE_E_MEMORY, "out of memory");
    sha256_update(h, p, n);
    sha256_final(h, hex);
    sha256_free(h);
    return MOTE_OK;
}

static size_t aligned(size_t n) { return (n + ALIGN - 1) / ALIGN * ALIGN; }

/* ---- writing ---- */

/* Offsets count from the end of the table, which is thereby independent of its own length. */
static mote_status make_table(char **out, const json_t *meta, const ckpt_section *s, size_t n, mote_error *err) {
    json_t *list = json_array(), *copy = json_deep_copy(meta), *all = NULL;
    mote_status st = MOTE_OK;
    size_t at = 0;
    *out = NULL;
    if (!list || !copy) FAILG(st, err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < n; i++) {
        char hex[SHA256_HEX];
        TRYG(st, hash_of(s[i].p, s[i].n, hex, err));
        json_t *row = json_pack("{s:s, s:I, s:I, s:s}", "name", s[i].name, "at", (json_int_t)at, "bytes", (json_int_t)s[i].n, "sha256", hex);
        if (!row || json_array_append_new(list, row)) FAILG(st, err, MOTE_E_MEMORY, "out of memory");
        at += aligned(s[i].n);
    }
    all = json_pack("{s:O, s:O}", "meta", copy, "sections", list);
    if (all) *out = json_dumps(all, JSON_COMPACT);
    if (!*out) FAILG(st, err, MOTE_E_MEMORY, "out of memory");
out:
    json_decref(all);
    json_decref(copy);
    json_decref(list);
    return st;
}

static mote_status pad(file_writer *w, mote_error *err) {
    static const char zeros[ALIGN];
    return file_write(w, zeros, aligned(w->written) - w->written, err);
}

static mote_status write_all(file_writer *w, const char *table, const ckpt_section *s, size_t n, mote_error *err) {
    uint64_t bytes = strlen(table);
    char hex[SHA256_HEX];
    TRY(hash_of(table, bytes, hex, err));
    TRY(file_write(w, MAGIC, 8, err));
    TRY(file_write(w, &bytes, 8, err));
    TRY(file_write(w, table, bytes, err));
    TRY(file_write(w, hex, DIGITS, err));
    TRY(pad(w, err));
    for (size_t i = 0; i < n; i++) {
        TRY(file_write(w, s[i].p, s[i].n, err));
        TRY(pad(w, err));
    }
    return MOTE_OK;
}

mote_status ckpt_write(const char *path, const json_t *meta, const ckpt_section *s, size_t n, mote_error *err) {
    char *table = NULL;
    file_writer w;
    TRY(make_table(&table, meta, s, n, err));
    mote_status st = file_writer_open(&w, path, err);
    if (st == MOTE_OK) {
        st = write_all(&w, table, s, n, err);
        if (st == MOTE_OK) st = file_writer_commit(&w, err);
        file_writer_abort(&w);
    }
    free(table);
    return st;
}

/* ---- reading ---- */

/* Row i of the table, checked: where its bytes lie. */
static mote_status section_at(const ckpt *c, size_t i, size_t data, const char **name, str *bytes, const char **hex, mote_error *err) {
    const json_t *row = json_array_get(c->sections, i);
    str n = json_get_str(row, "name"), h = json_get_str(row, "sha256");
    int64_t at = json_get_int(row, "at", -1), size = json_get_int(row, "bytes", -1);
    if (!n.p || h.n != DIGITS || at < 0 || size < 0 || at % ALIGN) FAIL(err, MOTE_E_FORMAT, "%s: row %zu of the table is no section", c->path, i);
    if (data > c->map.n || (uint64_t)at > c->map.n - data || (uint64_t)size > c->map.n - data - (uint64_t)at)
        FAIL(err, MOTE_E_FORMAT, "%s: section '%s' ends beyond the file, which has %zu bytes: it was cut", c->path, n.p, c->map.n);
    *name = n.p;
    *hex = h.p;
    *bytes = (str){(const char *)c->map.p + data + at, (size_t)size};
    return MOTE_OK;
}

static size_t data_offset(const ckpt *c) {
    uint64_t bytes;
    memcpy(&bytes, c->map.p + 8, 8);
    return aligned(HEAD + bytes + DIGITS);
}

static mote_status check_table(ckpt *c, mote_error *err) {
    uint64_t bytes;
    char hex[SHA256_HEX];
    if (c->map.n < HEAD || memcmp(c->map.p, MAGIC, 8) != 0) FAIL(err, MOTE_E_FORMAT, "%s: not a checkpoint of mote", c->path);
    memcpy(&bytes, c->map.p + 8, 8);
    if (bytes > TABLE_MAX || bytes > c->map.n || c->map.n - bytes < HEAD + DIGITS)
        FAIL(err, MOTE_E_FORMAT, "%s: its table ends beyond the file, which has %zu bytes: it was cut", c->path, c->map.n);
    TRY(hash_of(c->map.p + HEAD, bytes, hex, err));
    if (memcmp(hex, c->map.p + HEAD + bytes, DIGITS) != 0) FAIL(err, MOTE_E_FORMAT, "%s: its table is damaged", c->path);
    TRY(json_parse(&c->table, (str){(const char *)c->map.p + HEAD, bytes}, c->path, err));
    c->sections = json_object_get(c->table, "sections");
    if (!json_is_array(c->sections) || !json_is_object(json_object_get(c->table, "meta")) || json_array_size(c->sections) > SECTIONS_MAX)
        FAIL(err, MOTE_E_FORMAT, "%s: its table has no sections", c->path);
    return MOTE_OK;
}

static mote_status check_sections(const ckpt *c, mote_error *err) {
    for (size_t i = 0; i < json_array_size(c->sections); i++) {
        const char *name, *want;
        char hex[SHA256_HEX];
        str bytes;
        TRY(section_at(c, i, data_offset(c), &name, &bytes, &want, err));
        TRY(hash_of(bytes.p, bytes.n, hex, err));
        if (memcmp(hex, want, DIGITS) != 0) FAIL(err, MOTE_E_FORMAT, "%s: section '%s' is damaged", c->path, name);
    }
    return MOTE_OK;
}

mote_status ckpt_open(ckpt **out, const char *path, mote_error *err) {
    *out = NULL;
    ckpt *c = MEM_NEW(ckpt);
    mote_status s = MOTE_OK;
    if (!c || !(c->path = mem_strdup(path))) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    TRYG(s, file_open(&c->map, path, FILE_MAP, err));
    TRYG(s, check_table(c, err));
    TRYG(s, check_sections(c, err));
    *out = c;
    return MOTE_OK;
out:
    ckpt_close(&c);
    return s;
}

void ckpt_close(ckpt **c) {
    if (!*c) return;
    file_close(&(*c)->map);
    json_decref((*c)->table);
    mem_free((*c)->path);
    mem_free(*c);
    *c = NULL;
}

const json_t *ckpt_meta(const ckpt *c) { return json_object_get(c->table, "meta"); }
const char *ckpt_path(const ckpt *c) { return c->path; }
size_t ckpt_n_sections(const ckpt *c) { return json_array_size(c->sections); }
const char *ckpt_section_name(const ckpt *c, size_t i) { return json_get_str(json_array_get(c->sections, i), "name").p; }

str ckpt_find(const ckpt *c, const char *name) {
    for (size_t i = 0; i < ckpt_n_sections(c); i++) {
        const char *have, *hex;
        str bytes;
        if (strcmp(ckpt_section_name(c, i), name) == 0 && section_at(c, i, data_offset(c), &have, &bytes, &hex, NULL) == MOTE_OK) return bytes;
    }
    return (str){NULL, 0};
}

/* Row i of the file for a section: they are usually in the same order. */
static str find_near(const ckpt *c, const char *name, size_t i) {
    const char *have, *hex;
    str bytes;
    if (i < ckpt_n_sections(c) && strcmp(ckpt_section_name(c, i), name) == 0 &&
        section_at(c, i, data_offset(c), &have, &bytes, &hex, NULL) == MOTE_OK)
        return bytes;
    return ckpt_find(c, name);
}

mote_status ckpt_read(const ckpt *c, const ckpt_section *s, size_t n, mote_error *err) {
    for (size_t i = 0; i < n; i++) {
        str b = find_near(c, s[i].name, i);
        if (!b.p) FAIL(err, MOTE_E_MISMATCH, "%s: it has no section '%s': it is of another model or another recipe", c->path, s[i].name);
        if (b.n != s[i].n)
            FAIL(err, MOTE_E_MISMATCH, "%s: section '%s' has %zu bytes, expected %zu: it is of another shape", c->path, s[i].name, b.n, s[i].n);
    }
    for (size_t i = 0; i < ckpt_n_sections(c) && ckpt_n_sections(c) > n; i++) {
        bool wanted = false;
        for (size_t k = 0; k < n && !wanted; k++) wanted = strcmp(s[k].name, ckpt_section_name(c, i)) == 0;
        if (!wanted)
            FAIL(err, MOTE_E_MISMATCH, "%s: nothing here is called '%s': it is of another model or another recipe", c->path, ckpt_section_name(c, i));
    }
    for (size_t i = 0; i < n; i++) memcpy(s[i].p, find_near(c, s[i].name, i).p, s[i].n);
    return MOTE_OK;
}
