#include "train/train_model.h"

#include "format/edit.h"

/* A matrix's format: one whose blocks divide its rows, else f16. */
static quant_type type_of(const tensor_info *t, int wanted) {
    bool is_float = t->type == QUANT_F32 || t->type == QUANT_F16 || t->type == QUANT_BF16;
    bool matrix = t->n_dims > 1 && t->ne[0] >= 32 && t->ne[1] > 1;
    if (!matrix) return is_float ? t->type : QUANT_F32;
    if (wanted < 0) return is_float ? t->type : QUANT_BF16;
    return t->ne[0] % quant_get(wanted)->block == 0 ? (quant_type)wanted : QUANT_F16;
}

mote_status train_write_net(net *n, const model_file *file, int type, bool no_chat, const char *path, mote_error *err) {
    model_edit *e;
    TRY(edit_open(&e, file, err));
    mote_status s = MOTE_OK;
    for (size_t i = 0; i < net_n_params(n); i++) {
        const param *p = net_param(n, i);
        if (p->trained) TRYG(s, edit_put(e, p->info->name, type_of(p->info, type), p->info->n_dims, p->info->ne, p->v.x, NULL, err));
    }
    if (no_chat && model_file_find(file, "tokenizer.chat_template")) TRYG(s, edit_drop_kv(e, "tokenizer.chat_template", err));
    if (model_file_find(file, "mote.train.new")) TRYG(s, edit_drop_kv(e, "mote.train.new", err));
    s = edit_write(e, path, err);
out:
    edit_close(&e);
    return s;
}
