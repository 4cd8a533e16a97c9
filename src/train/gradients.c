/* gradients.c: see gradient_pass.h. */
#include "train/gradient_pass.h"

#include "train/net_int.h"

#include "format/origin.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>

static mote_status check(const net *n, const gradients_in *in, mote_error *err) {
    size_t total, vocab = net_model(n)->hp.n_vocab;
    const tensor_info *pos = net_model(n)->slots[R_POSITION_EMBD].info;
    if (in->n_seq == 0 || in->len < 2) FAIL(err, MOTE_E_RANGE, "input_ids has shape [%zu, %zu]: at least one sequence of two tokens is needed", in->n_seq, in->len);
    if (!ckd_mul_size(&total, in->n_seq, in->len) || total > INT32_MAX) FAIL(err, MOTE_E_RANGE, "%zu sequences of %zu tokens are too many", in->n_seq, in->len);
    if (pos && in->len > pos->ne[1]) FAIL(err, MOTE_E_CONTEXT, "%zu tokens, but the model has positions for %zu", in->len, (size_t)pos->ne[1]);
    for (size_t i = 0; i < total; i++)
        if (in->ids[i] < 0 || (size_t)in->ids[i] >= vocab)
            FAIL(err, MOTE_E_RANGE, "input_ids[%zu, %zu] is %d, outside the vocabulary of %zu", i / in->len, i % in->len, in->ids[i], vocab);
    return MOTE_OK;
}

struct rows {
    ad_seqs s;
    int32_t *target;
};

static bool lay_out(tape *t, const gradients_in *in, struct rows *r) {
    size_t n = in->n_seq * in->len;
    uint32_t *start = tape_mem(t, (in->n_seq + 1) * sizeof *start);
    int32_t *pos = tape_mem(t, n * sizeof *pos);
    r->target = tape_mem(t, n * sizeof *r->target);
    if (!start || !pos || !r->target) return false;
    for (size_t i = 0; i <= in->n_seq; i++) start[i] = (uint32_t)(i * in->len);
    for (size_t i = 0; i < n; i++) {
        pos[i] = (int32_t)(i % in->len);
        r->target[i] = i % in->len + 1 < in->len ? in->ids[i + 1] : -1;
    }
    r->s = (ad_seqs){.n = n, .n_seq = in->n_seq, .start = start, .pos = pos};
    return true;
}

static void write_logits(tape *t, net *n, var *h, float *logits) {
    ad_head head = net_head(n);
    tape_pause(t);
    var *y = ad_linear(t, h, head.w);
    if (y && head.b) y = ad_add_row(t, y, head.b);
    if (y && head.scale != 1) y = ad_scale(t, y, head.scale);
    if (y && head.softcap > 0) y = ad_softcap(t, y, head.softcap);
    tape_resume(t);
    if (y) memcpy(logits, y->x, y->rows * y->cols * sizeof(float));
}

mote_status gradients_make(net *n, tape *t, const gradients_in *in, double *loss, float *logits, mote_error *err) {
    struct rows r;
    TRY(check(n, in, err));
    tape_reset(t);
    net_zero_grads(n);
    ad_head head = net_head(n);
    var *h = lay_out(t, in, &r) ? net_hidden(n, t, in->ids, &r.s, NULL) : NULL;
    if (h && logits) write_logits(t, n, h, logits);
    var *l = ad_cross_entropy(t, h, &head, &(ad_targets){.target = r.target, .fused = 1});
    tape_back(t, l, 1);
    TRY(tape_status(t, err));
    *loss = (double)*l->x;
    if (!isfinite(*loss)) FAIL(err, MOTE_E_OUTPUT, "the loss is not a finite number");
    return MOTE_OK;
}

static void zero_missing(net *n) {
    for (size_t i = 0; i < n->n_params; i++) {
        var *v = &n->params[i].v;
        if (!n->params[i].trained || v->g) continue;
        v->g = v->room;
        memset(v->g, 0, v->rows * v->cols * sizeof(float));
    }
}

static mote_status write_folder(net *n, const char *dir, const char *path, mote_error *err) {
    origin *o = NULL;
    mote_status s;
    size_t count = 0;
    origin_value *values = MEM_NEW_N(origin_value, n->n_params ? n->n_params : 1);
    if (!values) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < n->n_params; i++)
        if (n->params[i].trained) values[count++] = (origin_value){.t = n->params[i].info, .x = n->params[i].v.g};
    TRYG(s, origin_open(&o, dir, err));
    s = origin_write(o, values, count, ORIGIN_GRADIENTS, "F32", path, err);
out:
    origin_close(&o);
    mem_free(values);
    return s;
}

static mote_status write_gguf(net *n, const char *path, mote_error *err) {
    size_t count = 0;
    st_tensor *out = MEM_NEW_N(st_tensor, n->n_params ? n->n_params : 1);
    if (!out) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < n->n_params; i++) {
        const param *p = &n->params[i];
        if (!p->trained) continue;
        st_tensor *t = &out[count++];
        *t = (st_tensor){.name = p->info->name, .dtype = STR("F32"), .n_dims = p->info->n_dims, .data = (const unsigned char *)p->v.g,
                         .size = p->v.rows * p->v.cols * sizeof(float)};
        for (int d = 0; d < t->n_dims; d++) t->shape[d] = p->info->ne[t->n_dims - 1 - d];
    }
    mote_status s = st_write(path, out, count, NULL, err);
    mem_free(out);
    return s;
}

mote_status gradients_write(net *n, const char *path, mote_error *err) {
    struct stat st;
    const char *source = model_file_path(n->m->file);
    zero_missing(n);
    bool folder = stat(source, &st) == 0 && S_ISDIR(st.st_mode);
    return folder ? write_folder(n, source, path, err) : write_gguf(n, path, err);
}
