#include "compress/parts.h"

mote_status embedding_parts_read(const char *list, embedding_parts *out, mote_error *err) {
    *out = (embedding_parts){0};
    if (!list || !strchr(list, '=')) return MOTE_OK;
    for (const char *at = list; *at; out->n++) {
        char one[64];
        size_t n = strcspn(at, ",");
        uint64_t rows = 0;
        if (n >= sizeof one || out->n == MODEL_FILE_PARTS_MAX)
            FAIL(err, MOTE_E_USAGE, "token embeddings '%.100s': expected up to %d parts, as in 8192=Q4_96,Q3_96", list, MODEL_FILE_PARTS_MAX);
        (void)snprintf(one, sizeof one, "%.*s", (int)n, at);
        char *eq = strchr(one, '=');
        const bool last = at[n] == '\0';
        const quant_format *f = quant_by_name(eq ? eq + 1 : one);
        if (!f || !eq != last || (eq && (!str_to_u64((str){one, (size_t)(eq - one)}, &rows) || rows < 1)))
            FAIL(err, MOTE_E_USAGE, "token embeddings '%.100s': '%s' is neither ROWS=TYPE nor, at the end, TYPE", list, one);
        out->rows[out->n] = rows;
        out->type[out->n] = f->type;
        at += n + !last;
    }
    return MOTE_OK;
}
