/* gguf_split.c: one model in several GGUF files, NAME-00001-of-00003.gguf and so on.
 *
 * split.no counts from 0, split.count is in every part, split.tensors.count is that of all parts together;
 * the metadata are the first part's. The names of the other parts are made here from the name that was
 * given, never read from a file, so they cannot lead out of its folder. */
#include "format/format_int.h"

#include <stdio.h>

#define SUFFIX_BYTES 20 /* "-00001-of-00003.gguf" */

/* path without the suffix, when the suffix says part `no` (from 0) of `count`. */
static bool split_stem(const char *path, uint32_t no, uint32_t count, str *stem) {
    char want[48];
    int n = snprintf(want, sizeof want, "-%05u-of-%05u.gguf", no + 1, count);
    str p = str_of(path);
    if (n != SUFFIX_BYTES || !str_ends(p, str_of(want))) return false;
    *stem = str_sub(p, 0, p.n - SUFFIX_BYTES);
    return true;
}

static mote_status read_split(const model_file *f, uint32_t *no, uint32_t *count, uint32_t *tensors,
                              mote_error *err) {
    TRY(kv_get_u32(f, "split.no", no, UINT32_MAX, err));
    TRY(kv_get_u32(f, "split.count", count, 0, err));
    TRY(kv_get_u32(f, "split.tensors.count", tensors, UINT32_MAX, err));
    if (*count > FORMAT_PARTS_MAX || *no >= *count)
        FAIL(err, MOTE_E_FORMAT, "%s: says it is part %u (from 0) of %u", model_file_path(f), *no, *count);
    return MOTE_OK;
}

static mote_status open_part(model_file *f, uint32_t no, uint32_t count, uint32_t tensors, str stem, int flags,
                             mote_error *err) {
    size_t cap = stem.n + SUFFIX_BYTES + 1;
    char *path = arena_alloc(&f->mem, cap, 1);
    if (!path) FAIL(err, MOTE_E_MEMORY, "out of memory");
    (void)snprintf(path, cap, "%.*s-%05u-of-%05u.gguf", (int)stem.n, stem.p, no + 1, count);
    mote_status s = gguf_open_one(&f->parts[no], path, flags, err);
    if (s == MOTE_E_NOT_FOUND) FAIL(err, s, "%s: part %u of %u of the model is missing", path, no + 1, count);
    TRY(s);
    uint32_t its_no, its_count, its_tensors;
    TRY(read_split(f->parts[no], &its_no, &its_count, &its_tensors, err));
    if (its_no != no || its_count != count || its_tensors != tensors)
        FAIL(err, MOTE_E_MISMATCH, "%s: says it is part %u of %u (%u tensors), but its name and the other parts "
             "say part %u of %u (%u tensors): parts of different models are mixed",
             path, its_no + 1, its_count, its_tensors, no + 1, count, tensors);
    return MOTE_OK;
}

static mote_status join(model_file *f, uint32_t tensors, mote_error *err) {
    size_t n = 0;
    for (size_t i = 0; i < f->n_parts; i++) {
        n += f->parts[i]->n_tensors;
        f->bytes += f->parts[i]->bytes;
    }
    if (n > FORMAT_TENSORS_MAX) FAIL(err, MOTE_E_LIMIT, "%s: more than %zu tensors", f->path, FORMAT_TENSORS_MAX);
    if (tensors != UINT32_MAX && n != tensors)
        FAIL(err, MOTE_E_MISMATCH, "%s: split.tensors.count is %u but the parts hold %zu tensors", f->path, tensors, n);
    f->tensors = ARENA_NEW_N(&f->mem, tensor_info, n);
    if (!f->tensors) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu tensors", n);
    for (size_t i = 0; i < f->n_parts; i++) {
        const model_file *p = f->parts[i];
        if (p->n_tensors) memcpy(f->tensors + f->n_tensors, p->tensors, p->n_tensors * sizeof *p->tensors);
        f->n_tensors += p->n_tensors;
    }
    f->kvs = f->parts[0]->kvs;
    f->n_kv = f->parts[0]->n_kv;
    mote_status s = model_file_index(f, err);
    return s == MOTE_OK ? s : err_prefix(err, s, "%s", f->path);
}

mote_status gguf_join_parts(model_file **out, model_file *part, const char *path, int flags, mote_error *err) {
    *out = NULL;
    mote_status s = MOTE_OK;
    uint32_t no, count, tensors;
    str stem;
    model_file *f = model_file_new();
    if (!f) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    TRYG(s, read_split(part, &no, &count, &tensors, err));
    if (!split_stem(path, no, count, &stem))
        FAILG(s, err, MOTE_E_FORMAT, "%s: is part %u of %u, so its name must end in -%05u-of-%05u.gguf for the other "
              "parts to be found", path, no + 1, count, no + 1, count);
    f->path = mem_strdup(path);
    f->parts = MEM_NEW_N(model_file *, count);
    if (!f->path || !f->parts) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    f->n_parts = count;
    f->parts[no] = part;
    part = NULL;
    for (uint32_t i = 0; i < count; i++)
        if (i != no) TRYG(s, open_part(f, i, count, tensors, stem, flags, err));
    TRYG(s, join(f, tensors, err));
    *out = f;
    return MOTE_OK;
out:
    model_file_close(&part);
    model_file_close(&f);
    return s;
}
