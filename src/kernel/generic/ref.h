/* ref.h: the scalar versions, which are also the definitions the tests compare with. */
#ifndef MOTE_KERNEL_GENERIC_REF_H
#define MOTE_KERNEL_GENERIC_REF_H

#include "kernel/packed.h"

/* One block of one row of a panel: levels, and scale and min of its halves. */
void kern_panel_block_ref(const kern_packing *p, const unsigned char *panel, size_t b, size_t r, uint8_t u[32],
                          float scale[2], float min[2]);
void kern_panel_scales_ref(const kern_packing *p, const unsigned char *panel, size_t b, size_t r, float scale[2],
                           float min[2]);
void kern_put_ref(const kern_out *o, size_t row, size_t r, float v);

void kern_mul_ref(const kern_mul *a);
void kern_fmul_f32_ref(const kern_fmul *a);
void kern_fmul_f16_ref(const kern_fmul *a);
void kern_fmul_bf16_ref(const kern_fmul *a);
void kern_bmul_ref(const kern_fmul *a);
void kern_widen_f32_ref(float *dst, const void *src, size_t n);
void kern_widen_f16_ref(float *dst, const void *src, size_t n);
void kern_widen_bf16_ref(float *dst, const void *src, size_t n);
void kern_narrow_f32_ref(void *dst, const float *src, size_t n);
void kern_narrow_f16_ref(void *dst, const float *src, size_t n);
void kern_narrow_bf16_ref(void *dst, const float *src, size_t n);

void kern_widen_q8_0_ref(float *dst, const void *src, size_t n);
void kern_widen_q4_0_ref(float *dst, const void *src, size_t n);
void kern_widen_columns_q8_0_ref(float *dst, size_t ld, const void *src);
void kern_widen_columns_q4_0_ref(float *dst, size_t ld, const void *src);
void kern_unzip_f16_ref(float *even, float *odd, const void *words, size_t n);
void kern_unzip_bf16_ref(float *even, float *odd, const void *words, size_t n);

void kern_quantize_ref(void *dst, const float *x, size_t k);
void kern_interleave_ref(kern_acts_block *dst, const unsigned char *x, size_t x_bytes, size_t n, size_t k);
void kern_rotate_ref(float *v, const float *cs, size_t n, bool halves);
void kern_rms_norm_ref(float *y, const float *x, const float *w, const float *b, float eps, size_t n);
void kern_layer_norm_ref(float *y, const float *x, const float *w, const float *b, float eps, size_t n);
void kern_act_row_ref(act_fn f, float *y, const float *x, const float *up, size_t n);
void kern_axpy_ref(float *y, const float *x, float scale, size_t n);
float kern_dot_ref(const float *x, const float *y, size_t n);
float kern_max_ref(const float *x, size_t n);
float kern_exp_sum_ref(float *x, float shift, size_t n);
void kern_scale_ref(float *y, const float *x, float by, size_t n);
void kern_mix_ref(float *y, float a, const float *x, float b, size_t n);
float kern_soften_ref(float *s, size_t n, float *max, float *sum);
float kern_soften_bf16_ref(void *p, float *s, size_t n, float *max, float *sum);
void kern_bf16_of_f32_ref(void *dst, const float *src, float by, size_t n);
void kern_bf16_of_f16_ref(void *dst, const void *src, size_t n);
void kern_bf16_zip_ref(void *dst, const float *a, const float *b, size_t n);
void kern_pairs_ref(const kern_pairs *t);
void kern_tile_ref(const kern_tile *t);
extern const kern_train kern_train_ref;
extern const kern_gemm kern_gemm_ref, kern_gemm_bf16_ref;
void kern_recall_ref(const kern_recall *a);
void kern_absorb_ref(const kern_absorb *a);
void kern_conv_ref(const kern_conv *a);
void kern_scan_each_ref(const kern_scan *a);
void kern_scan_delta_ref(const kern_scan *a);
void kern_scan_back_ref(const kern_scan *a);

static inline size_t kern_x_row(const kern_index *i, size_t t) {
    return i->xi ? (size_t)i->xi[t * i->step] : t;
}
static inline size_t kern_y_row(const kern_index *i, size_t t) {
    return i->yi ? (size_t)i->yi[t * i->step] : t;
}
/* A row of kern_acts that is only read. */
static inline kern_acts kern_acts_at_const(const void *row, size_t k) {
    union {
        const void *c;
        void *p;
    } u = {row};
    return kern_acts_at(u.p, k);
}

#endif
