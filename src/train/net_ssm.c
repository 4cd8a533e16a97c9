/* net_ssm.c: Mamba-2 and LFM2's short convolution as graphs: the mirrors of src/model/block_mamba2.c and
 * block_shortconv.c. */
#include "train/net_int.h"

/* A convolution's weights as [channels, width], whatever the file's shape. */
static var *taps(const net_pass *p, size_t il, role r, size_t channels) {
    var *w = net_main(p, il, r);
    return tape_view(p->t, w, 0, channels, w->rows * w->cols / channels);
}

/* [z, x, B, C, dt] = W_in u;  y = W_out (norm(ssd(conv(x, B, C), softplus(dt + bias)) · silu(z))) */
var *net_mamba2(const net_pass *p, size_t il, var *u) {
    const hparams *h = &p->n->m->hp;
    size_t d = h->d_inner, bc = h->n_group * h->d_state, conv = d + 2 * bc, heads = h->dt_rank;
    tape *t = p->t;
    var *in = net_apply(p, il, R_SSM_IN, u), *z = ad_cols(t, in, 0, d);
    var *xbc = ad_conv(t, ad_cols(t, in, d, conv), taps(p, il, R_SSM_CONV, conv), net_bias(p, il, R_SSM_CONV), p->s);
    xbc = ad_act(t, ACT_SILU, xbc);
    var *dt = ad_act(t, ACT_SOFTPLUS, ad_add_row(t, ad_cols(t, in, d + conv, heads), net_bias(p, il, R_SSM_DT)));
    ad_ssd_shape o = {.n_head = heads, .dim = d / heads, .n_group = h->n_group, .n_state = h->d_state};
    var *y = ad_ssd(t, ad_cols(t, xbc, 0, d), dt, tape_view(t, net_main(p, il, R_SSM_A), 0, 1, heads), ad_cols(t, xbc, d, bc),
                    ad_cols(t, xbc, d + bc, bc), tape_view(t, net_main(p, il, R_SSM_D), 0, 1, heads), &o, p->s);
    y = ad_act_mul(t, ACT_SILU, z, y);
    return net_apply(p, il, R_SSM_OUT, net_norm(p, il, R_SSM_NORM, y, d / h->n_group, NORM_RMS));
}

/* [B, C, x] = W_in u;  y = W_out (C · conv(B · x)) */
var *net_shortconv(const net_pass *p, size_t il, var *u) {
    size_t n = p->n->m->hp.n_embd;
    tape *t = p->t;
    var *in = net_apply(p, il, R_SHORTCONV_IN, u);
    var *x = ad_mul(t, ad_cols(t, in, 0, n), ad_cols(t, in, 2 * n, n));
    var *y = ad_conv(t, x, taps(p, il, R_SHORTCONV, n), net_bias(p, il, R_SHORTCONV), p->s);
    return net_apply(p, il, R_SHORTCONV_OUT, ad_mul(t, ad_cols(t, in, n, n), y));
}
