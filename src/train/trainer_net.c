/* trainer_net.c: a net's parameters and the loss of a language model, for the trainer. */
#include "train/trainer.h"

size_t trainer_net_params(net *n, bool decay_all, train_param *dst, size_t cap) {
    size_t count = 0;
    const model *m = net_model(n);
    const tensor_info *embd = m->slots[R_TOKEN_EMBD].info, *out = m->slots[R_OUTPUT].info, *pos = m->slots[R_POSITION_EMBD].info;
    for (size_t i = 0; i < net_n_params(n); i++) {
        param *p = net_param(n, i);
        if (!p->trained) continue;
        const tensor_info *t = p->info;
        bool vector = p->v.rows == 1 || p->v.cols == 1;
        if (count < cap)
            dst[count] = (train_param){.name = t->name, .v = &p->v, .decay = decay_all || !vector,
                                       .muon = !vector && t != embd && t != out && t != pos, .n_mats = t->n_dims > 2 ? t->ne[2] : 1,
                                       .form = t->form};
        count++;
    }
    return count;
}

var *trainer_next_token_loss(void *ctx, tape *t, const data_batch *b, double sum_weight, mote_error *err) {
    net *n = ctx;
    (void)err;
    ad_head head = net_head(n);
    var *h = net_hidden(n, t, b->ids, &b->seqs, NULL);
    return ad_cross_entropy(t, h, &head, &(ad_targets){.target = b->target, .weights = b->weights, .sum_weight = sum_weight, .fused = 1});
}
