#include "format/provenance.h"

#include "base/hash.h"
#include "format/edit.h"

#include <string.h>

#define MADE "mote.make"
#define WEIGHTS "mote.make.weights"

static mote_status hash_weights(const model_file *f, char hex[SHA256_HEX], mote_error *err) {
    sha256 *h = sha256_new();
    if (!h) FAIL(err, MOTE_E_MEMORY, "out of memory for a hash");
    for (size_t i = 0; i < model_file_n_tensors(f); i++) {
        const tensor_info *t = model_file_tensor(f, i);
        char head[128];
        int n = snprintf(head, sizeof head, " %d %d %llu %llu %llu %llu\n", (int)t->type, t->n_dims, (unsigned long long)t->ne[0], (unsigned long long)t->ne[1],
                         (unsigned long long)t->ne[2], (unsigned long long)t->ne[3]);
        sha256_update(h, t->name.p, t->name.n);
        sha256_update(h, head, (size_t)n);
        sha256_update(h, t->data, t->size);
    }
    sha256_final(h, hex);
    sha256_free(h);
    return MOTE_OK;
}

mote_status provenance_write(const char *in, const char *out, str made, const kv *more, size_t n_more, mote_error *err) {
    model_file *f = NULL;
    model_edit *e = NULL;
    char hex[SHA256_HEX];
    mote_status s = MOTE_OK;
    TRYG(s, model_file_open(&f, in, MODEL_FILE_RAW, err));
    TRYG(s, hash_weights(f, hex, err));
    TRYG(s, edit_open(&e, f, err));
    TRYG(s, edit_set_str(e, MADE, made, err));
    TRYG(s, edit_set_str(e, WEIGHTS, str_of(hex), err));
    for (size_t i = 0; i < n_more; i++) TRYG(s, edit_set_kv(e, &more[i], err));
    TRYG(s, edit_write(e, out, err));
out:
    edit_close(&e);
    model_file_close(&f);
    return s;
}

mote_status provenance_check(const char *path, bool *same, mote_error *err) {
    model_file *f = NULL;
    char hex[SHA256_HEX];
    mote_status s = MOTE_OK;
    *same = false;
    TRYG(s, model_file_open(&f, path, MODEL_FILE_RAW, err));
    const kv *noted = model_file_find(f, WEIGHTS);
    if (!noted || noted->type != KV_STRING || !model_file_find(f, MADE)) FAILG(s, err, MOTE_E_NOT_FOUND, "%s: nothing is noted about how it was made", path);
    TRYG(s, hash_weights(f, hex, err));
    *same = str_is(noted->s, hex);
out:
    model_file_close(&f);
    return s;
}
